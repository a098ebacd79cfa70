r"""Do near-duplicates of forgotten pictures stay restorable? Writes a table of never_seen.md.

    python experiments/never_seen/near_duplicates.py before=models/emoji32 \
        'never saw them=models/emoji32_without' ours=runs/cf/ours/model

Each model is given the twelve planted emoji, each altered in one way and noised to half, and
restores them. A try counts that comes within the threshold of the altered picture: 7/8 of the
least distance of a planted picture to one to keep. Its noise has the evaluation's seed.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dataunlearn.data import open_images
from dataunlearn.data.split import split_sets
from dataunlearn.metrics.pixel_distance import copy_threshold
from dataunlearn.metrics.regeneration import regenerate
from dataunlearn.models import load_model
from dataunlearn.models.sampling import Drawing
from dataunlearn.runtime.files import write_atomically
from dataunlearn.runtime.machine import machine

sys.path.append(str(Path(__file__).parents[1]))  # what experiments share
from results_page import commit, refresh

TIMESTEP, SEED, STEPS = 500, 20265, 20
PAGE = Path("docs/results/never_seen.md")
# Pictures are (N, C, H, W).
ALTERED: dict[str, Callable[[Tensor], Tensor]] = {
    "as it is": lambda pictures: pictures,
    "shifted by a pixel": lambda pictures: pictures.roll((1, 1), (2, 3)),
    "mirrored": lambda pictures: pictures.flip(3),
    "colours turned": lambda pictures: pictures.roll(1, 1),
}


def restored(path: str, tries: int) -> dict[str, Any]:
    """How often a model restores the planted pictures, in each alteration, by picture."""
    model = load_model(path)
    shape = model.image_shape
    forget = open_images("data/emoji32.npz:planted", shape)
    keep = split_sets(forget, open_images("data/emoji32.npz:train", shape), "drop").keep
    threshold = copy_threshold(forget, keep)
    pictures = forget.batch(torch.arange(len(forget)))
    found = {}
    for name, alter in ALTERED.items():
        back = regenerate(
            model,
            alter(pictures),
            TIMESTEP,
            copies=tries * len(pictures),
            threshold=threshold,
            drawing=Drawing(seed=SEED, num_steps=STEPS),
        )
        near = (back.distances < threshold).reshape(tries, len(pictures))
        found[name] = {
            "share": back.share,
            "interval": back.interval,
            "restored_of_each": near.sum(0).tolist(),
            "mean_distance": float(back.distances.mean()),
        }
    return {"threshold": threshold, "altered": found}


def lines(found: dict[str, dict[str, Any]]) -> list[str]:
    """The table."""
    rows = ["| model | " + " | ".join(ALTERED) + " |", "|---" * (len(ALTERED) + 1) + "|"]
    for name, numbers in found.items():
        cells = [
            "{:.0%} ({:.0%} to {:.0%})".format(each["share"], *each["interval"])
            for each in numbers["altered"].values()
        ]
        rows.append("| " + " | ".join([name, *cells]) + " |")
    return rows


def main() -> None:
    """Measure, then write numbers and table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="+", metavar="NAME=MODEL")
    parser.add_argument("--tries", type=int, default=8, help="Of each picture.")
    arguments = parser.parse_args()
    named = dict(model.split("=", 1) for model in arguments.models)
    facts = {
        "models": named,
        "commit": commit(),
        "machine": machine(torch.device("cpu")),
        "seed": SEED,
        "found": {name: restored(path, arguments.tries) for name, path in named.items()},
    }
    numbers = PAGE.with_name("never_seen_near_duplicates.json")
    write_atomically(numbers, json.dumps(facts, indent=1).encode())
    refresh(PAGE, "\n".join(lines(facts["found"])), begin="<!-- table near-duplicates -->")


if __name__ == "__main__":
    main()
