"""Measure the model that never saw the T-shirt as the demo measures its own: the demo's yardstick.

    python scripts/measure_reference.py [--level-alone]

Writes src/dataunlearn/assets/mnist_tshirt_small/reference.json; with --level-alone only what it
loses over the T-shirt's level, into the file that is there.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import subprocess
from pathlib import Path
from typing import Any

from dataunlearn.assets import asset
from dataunlearn.metrics.never_seen import over_level
from dataunlearn.recipes.demo import demo
from dataunlearn.runtime.files import write_atomically
from dataunlearn.runtime.machine import machine
from dataunlearn.runtime.settings import describe
from dataunlearn.unlearning.job import Job, prepare
from dataunlearn.unlearning.judging import forget_losses, over_level_numbers
from dataunlearn.unlearning.preparing import looked_at
from dataunlearn.unlearning.reference import Reference, open_reference

REFERENCE = "models/mnist_tshirt_small_without"


def commit() -> str:
    """The commit that the code is at."""
    command = ["git", "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def over_the_level(job: Job, reference: Reference) -> dict[str, Any]:
    """What the reference loses on the T-shirt over its level, with the demo's noise."""
    job = looked_at(job)
    assert job.levels is not None
    found = over_level(job.levels, forget_losses(job, reference.opened))
    return over_level_numbers(found) | {"over_level_commit": commit()}


def main() -> None:
    """Measure, and write the numbers with what they were made with."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--level-alone", action="store_true")
    target = Path(asset("mnist_tshirt_small")) / "reference.json"
    job = prepare(dataclasses.replace(demo(), reference=None))
    reference = open_reference(REFERENCE, job.model)
    if parser.parse_args().level_alone:
        content = json.loads(target.read_text())
    else:
        settings = job.config.evaluation
        content = {
            "command": "python scripts/measure_reference.py",
            "commit": commit(),
            "machine": machine(job.model.device),
            "evaluation": describe(settings),
            **reference.measured(job.originals, job.threshold, settings),
        }
    content |= over_the_level(job, reference)
    write_atomically(target, (json.dumps(content, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
