"""Make docs/results/audit.{md,json}: does the audit tell the memorised T-shirt from digits?

    python scripts/mnist_audit.py

Audits the T-shirt and 50 random training digits on the shipped model, and on its twin that never
saw the T-shirt; both with the shipped digits as keep images, and without any.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mnist_tshirt_small_results import REFERENCE, commit
from results_page import refresh

from dataunlearn.assets import asset
from dataunlearn.audit_config import AuditSettings
from dataunlearn.checkpoint import write_atomically
from dataunlearn.data import ConcatImages, SubsetImages, open_images
from dataunlearn.memorisation import AuditedImage, audit_images
from dataunlearn.models import load_model
from dataunlearn.report.facts import machine
from dataunlearn.rundir import describe

NUM_DIGITS, SEED = 50, 20266


def audit(model: str, with_keep: bool) -> list[AuditedImage]:
    """Audit the T-shirt and the digits; the T-shirt comes first."""
    loaded = load_model(model)
    loaded.denoiser.eval()
    digits = open_images(asset("digits.npz"), loaded.shape)
    shirt = open_images(asset("tshirt.png"), loaded.shape)
    rows = np.random.default_rng(SEED).choice(len(digits), NUM_DIGITS, replace=False)
    questioned = ConcatImages([shirt, SubsetImages(digits, rows)])
    keep = digits if with_keep else None
    return audit_images(loaded, questioned, keep=keep, settings=AuditSettings(seed=SEED))


def line(name: str, found: list[AuditedImage]) -> str:
    """One line of the table."""
    shirt, digits = found[0], found[1:]
    flagged = sum(image.memorised for image in digits)
    worst = max(max(image.regeneration.values()) for image in digits)
    shares = ", ".join(f"{share:.0%}" for share in shirt.regeneration.values())
    percentile = "–" if shirt.loss_percentile is None else f"{shirt.loss_percentile:.1%}"
    return (
        f"| {name} | {'yes' if shirt.memorised else 'no'} | {shares} | {shirt.num_copies} | "
        f"{percentile} | {flagged} of {len(digits)} | {worst:.0%} |"
    )


def main() -> None:
    """Audit, then write the table and the numbers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    out = parser.parse_args().out
    models = {"shipped model": str(asset("mnist_tshirt_small")), "never saw it": str(REFERENCE)}
    head = (
        "| model, calibrated on | T-shirt flagged | restored from t = 500, 750 "
        "| copies in 512 samples | loss below that of | digits flagged "
        "| most often restored digit |"
    )
    lines, runs = [head, "|---" * 7 + "|"], dict[str, Any]()
    for name, model in models.items():
        for source in ("keep images", "samples"):
            found = audit(model, with_keep=source == "keep images")
            label = f"{name}, {source}"
            lines.append(line(label, found))
            runs[label] = [image.as_json() for image in found]
    content = {
        "command": "python scripts/mnist_audit.py",
        "commit": commit(),
        "machine": machine(torch.device("cpu")),
        "settings": describe(AuditSettings(seed=SEED)),
        "runs": runs,
    }
    write_atomically(out / "audit.json", json.dumps(content, indent=1).encode())
    refresh(out / "audit.md", "\n".join(lines))


if __name__ == "__main__":
    main()
