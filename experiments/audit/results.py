"""Make docs/results/audit.{md,json}: does the audit tell what is memorised from what is not?

    python experiments/audit/results.py

Audits the T-shirt and 50 random training digits on the shipped model and on its twin that never saw
the T-shirt; and, on the emoji model, the planted pictures, 50 training pictures that were there
once, and 50 that were never there. Each with training images at hand, and without any. It goes on
where it stopped.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dataunlearn.assets import asset
from dataunlearn.data import ConcatImages, ImageSet, SubsetImages, open_images
from dataunlearn.metrics.audit.audit import audit_images
from dataunlearn.metrics.audit.config import AuditSettings
from dataunlearn.models import load_model
from dataunlearn.runtime.files import write_atomically
from dataunlearn.runtime.machine import machine
from dataunlearn.runtime.settings import describe

sys.path.append(str(Path(__file__).parents[1]))  # what experiments share
from results_page import commit, refresh

NUM_OTHERS, SEED = 50, 20273
EMOJI = "data/emoji32.npz"
MNIST_WITHOUT = "models/mnist_tshirt_small_without"


@dataclass(frozen=True)
class Case:
    """A model, the pictures in question by group, and its training images."""

    model: str
    groups: Mapping[str, ImageSet]
    keep: ImageSet


def some(images: ImageSet, hidden: set[str] | None = None) -> ImageSet:
    """Fifty pictures at random, without those whose digests are hidden."""
    rows = np.random.default_rng(SEED).permutation(len(images)).tolist()
    chosen = [row for row in rows if images.digest(row) not in (hidden or ())]
    return SubsetImages(images, chosen[:NUM_OTHERS])


def cases() -> dict[str, Case]:
    """What is audited."""
    digits = open_images(asset("digits.npz"), (1, 28, 28))
    shirt = open_images(asset("tshirt.png"), (1, 28, 28))
    mnist = {"T-shirt": shirt, "digits": some(digits)}
    planted, train, held_out = (
        open_images(f"{EMOJI}:{key}", (3, 32, 32)) for key in ("planted", "train", "held_out")
    )
    emoji = {
        "planted": planted,
        "training pictures": some(train, set(planted.digests())),
        "held-out pictures": some(held_out),
    }
    return {
        "MNIST, knows the T-shirt": Case(str(asset("mnist_tshirt_small")), mnist, digits),
        "MNIST, never saw it": Case(MNIST_WITHOUT, mnist, digits),
        "emoji": Case("models/emoji32", emoji, train),
    }


def audit(case: Case, with_keep: bool) -> dict[str, Any]:
    """Audit all groups at once; the findings by group."""
    model = load_model(case.model)
    model.denoiser.eval()
    found = audit_images(
        model,
        ConcatImages(list(case.groups.values())),
        keep=case.keep if with_keep else None,
        settings=AuditSettings(seed=SEED),
    )
    numbers = iter([image.as_json() for image in found])
    return {name: [next(numbers) for _ in images.digests()] for name, images in case.groups.items()}


def lines(name: str, source: str, groups: Mapping[str, Any]) -> list[str]:
    """A line of the table for each group."""
    found = []
    for group, images in groups.items():
        shares = [max(image["regeneration"].values()) for image in images]
        flagged = sum(image["memorised"] for image in images)
        copies = sum(image["copies_among_samples"] > 0 for image in images)
        found.append(
            f"| {name} | {source} | {group} | {flagged} of {len(images)} | {copies} | "
            f"{np.median(shares):.0%} | {max(shares):.0%} |"
        )
    return found


def main() -> None:
    """Audit, then write the table and the numbers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    out = parser.parse_args().out
    facts = {
        "command": "python experiments/audit/results.py",
        "commit": commit(),
        "machine": machine(torch.device("cpu")),
        "settings": describe(AuditSettings(seed=SEED)),
    }
    file = out / "audit.json"
    runs: dict[str, Any] = {}
    if file.is_file():
        old = json.loads(file.read_text())
        runs = old["runs"] if old["settings"] == facts["settings"] else {}
    table = [
        "| model | calibrated on | pictures | flagged | among samples "
        "| restored, median | restored, most |",
        "|---" * 7 + "|",
    ]
    for name, case in cases().items():
        for source in ("training images", "samples"):
            label = f"{name}, {source}"
            if label not in runs:
                runs[label] = audit(case, with_keep=source == "training images")
                write_atomically(file, json.dumps({**facts, "runs": runs}, indent=1).encode())
            table += lines(name, source, runs[label])
    refresh(out / "audit.md", "\n".join(table))


if __name__ == "__main__":
    main()
