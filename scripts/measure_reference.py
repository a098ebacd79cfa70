"""Measure the model that never saw the T-shirt as the demo measures its own: the demo's yardstick.

    python scripts/measure_reference.py

Writes src/dataunlearn/assets/mnist_tshirt_small/reference.json.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import subprocess
from pathlib import Path

from dataunlearn.assets import asset
from dataunlearn.recipes.demo import demo
from dataunlearn.runtime.files import write_atomically
from dataunlearn.runtime.machine import machine
from dataunlearn.runtime.run_folder import describe
from dataunlearn.unlearning.job import prepare
from dataunlearn.unlearning.reference import open_reference

REFERENCE = "models/mnist_tshirt_small_without"


def commit() -> str:
    """The commit that the code is at."""
    command = ["git", "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def main() -> None:
    """Measure, and write the numbers with what they were made with."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    job = prepare(dataclasses.replace(demo(), reference=None))
    settings = job.config.evaluation
    reference = open_reference(REFERENCE, job.model, job.model.device)
    content = {
        "command": "python scripts/measure_reference.py",
        "commit": commit(),
        "machine": machine(job.model.device),
        "evaluation": describe(settings),
        **reference.measured(job.originals, job.threshold, settings),
    }
    target = Path(asset("mnist_tshirt_small")) / "reference.json"
    write_atomically(target, (json.dumps(content, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
