"""Make docs/results/never_seen_levels.json: how well levels predict what retrained models lose.

    python experiments/never_seen/levels.py

For the T-shirt of the small MNIST model and for emoji that were planted, there once and never: what
the model loses over the level that it gives by itself, and what a model that never saw them loses
over that level. A table goes into docs/results/never_seen.md.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dataunlearn.assets import asset
from dataunlearn.data import ImageSet, SubsetImages, open_images
from dataunlearn.metrics.never_seen import levels_of, losses_at_levels
from dataunlearn.models import load_model
from dataunlearn.recognition.levels import Levels
from dataunlearn.runtime.files import write_atomically
from dataunlearn.runtime.machine import machine

sys.path.append(str(Path(__file__).parents[1]))  # what experiments share
from results_page import commit, refresh

SEED = 20301
EMOJI, FEW = "data/emoji32.npz", 12
TWINS = {"emoji32": "models/emoji32_without", "mnist": "models/mnist_tshirt_small_without"}
MODELS = {"emoji32": "models/emoji32", "mnist": str(asset("mnist_tshirt_small"))}


@dataclass(frozen=True, eq=False)
class Group:
    """Pictures of one kind, by how often the model saw them."""

    name: str
    model: str
    pictures: ImageSet
    keep: ImageSet


def groups() -> list[Group]:
    """The T-shirt, and twelve emoji of each kind."""
    grey, colour = (1, 28, 28), (3, 32, 32)
    train, planted, held_out = (
        open_images(f"{EMOJI}:{key}", colour) for key in ("train", "planted", "held_out")
    )
    hidden = set(planted.digests())
    once = [row for row, digest in enumerate(train.digests()) if digest not in hidden]
    digits = open_images(asset("digits.npz"), grey)
    return [
        Group("T-shirt", "mnist", open_images(asset("tshirt.png"), grey), digits),
        Group("emoji, planted", "emoji32", planted, train),
        Group("emoji, once", "emoji32", SubsetImages(train, once[::80][:FEW]), train),
        Group("emoji, never", "emoji32", SubsetImages(held_out, list(range(FEW))), train),
    ]


def measured(group: Group) -> dict[str, Any]:
    """Losses over levels of the model and of its twin, by noise level and by image."""
    model, twin = (load_model(table[group.model]) for table in (MODELS, TWINS))
    levels = levels_of(model, group.pictures, group.keep, seed=SEED)
    found = losses_at_levels(twin, group.pictures, levels, SEED)
    return {
        "timesteps": list(levels.timesteps),
        "views": levels.names,
        "unfamiliar": levels.unfamiliar.tolist(),
        "recognition": levels.recognition.mean(0).tolist(),
        "level": levels.level.mean(2).mean(0).tolist(),
        "before": ratios(levels, levels.before),
        "never saw it": ratios(levels, found),
    }


def ratios(levels: Levels, losses: Tensor) -> dict[str, list[float]]:
    """Geometric means of losses over levels: by noise level, and by image from t = 100 to 500."""
    logs = (losses.mean(2) / levels.level.mean(2)).log()  # (K, T)
    middle = [c for c, t in enumerate(levels.timesteps) if 100 <= t <= 500]
    return {
        "by_timestep": logs.mean(0).exp().tolist(),
        "by_image": logs[:, middle].mean(1).exp().tolist(),
    }


def lines(found: dict[str, dict[str, Any]]) -> list[str]:
    """The table."""
    rows = [
        "| pictures | loss of | t=100 | 200 | 300 | 400 | 500 | by image, 100 to 500 |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, numbers in found.items():
        columns = [c for c, t in enumerate(numbers["timesteps"]) if 100 <= t <= 500]
        for who in ("before", "never saw it"):
            over = numbers[who]
            cells = [f"{over['by_timestep'][c]:.2f}" for c in columns]
            low, high = min(over["by_image"]), max(over["by_image"])
            rows.append("| " + " | ".join([name, who, *cells, f"{low:.2f} to {high:.2f}"]) + " |")
    return rows


def main() -> None:
    """Measure, then write numbers and table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    out = parser.parse_args().out
    found = {group.name: measured(group) for group in groups()}
    facts = {
        "command": "python experiments/never_seen/levels.py",
        "commit": commit(),
        "machine": machine(torch.device("cpu")),
        "seed": SEED,
        "groups": found,
    }
    write_atomically(out / "never_seen_levels.json", json.dumps(facts, indent=1).encode())
    refresh(out / "never_seen.md", "\n".join(lines(found)), begin="<!-- table levels -->")


if __name__ == "__main__":
    main()
