"""Who pays for one request: the pictures of its kind, or the digits? A table in requests.md.

    python experiments/requests/one.py --out runs/requests_one

One of the pictures that ``models/mnist_fifty`` knows by heart is forgotten in thirty steps, in
several ways, with all that the model learnt as it learnt it to keep (``fifty.py``); and in as many
steps as the command takes. Then what the other emoji and some digits lose, over what they lost
before, and what the picture loses, over what the model loses that never saw it. What was run is not
run again.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from dataunlearn.cli import main as cli
from dataunlearn.data import ImageSet, SubsetImages, open_images
from dataunlearn.metrics.never_seen import different_pictures, witness_of
from dataunlearn.models import DiffusionModel, load_model

sys.path.append(str(Path(__file__).parents[1]))  # what experiments share
sys.path.append(str(Path(__file__).parent))
from fifty import DIGITS, EMOJI, SHAPE, learnt

from results_page import refresh

PAGE = Path("docs/results/requests.md")
MODEL, TWIN, PLANTED = "models/mnist_fifty", "models/mnist_tshirt_small_without", "planted[2]"
PICTURE = f"data/fifty_emoji.npz:{PLANTED}"
TIMESTEPS = (50, 100, 200, 300, 400, 500)
SEED, DRAWS, EVERY_DIGIT = 5, 2, 200
SHORT, MANY = ("--steps", "30"), ("--batch_pairs", "96")
STRONG = ("--strength", "strong")
WAYS: Mapping[str, tuple[str, ...]] = {
    "30 steps": SHORT,
    "30 steps of 96 pairs": (*SHORT, *MANY),
    "30 strong steps": (*SHORT, *STRONG),
    "30 strong steps of 48 pairs": (*SHORT, *STRONG, "--batch_pairs", "48"),
    "30 strong steps of 96 pairs": (*SHORT, *STRONG, *MANY),
    "120 steps, the default": (),
}


def run(way: str, out: Path, keep: Path) -> Path:
    """The model that a way of forgetting gives; made if it is not there."""
    folder = out / way.replace(",", "").replace(" ", "_")
    if not (folder / "finished").exists():
        command = ["unlearn", "--model", MODEL, "--forget", PICTURE, "--keep", str(keep)]
        command += ["--drop_overlap", "true", "--reference", TWIN, "--out", str(folder)]
        command += ["--evaluation.num_samples", "0", "--evaluation.regeneration_copies", "32"]
        if cli.run([*command, *WAYS[way]]) not in (0, 4, 5):
            raise SystemExit(f"{way} did not finish")
    return folder / "model"


def losses(model: DiffusionModel, images: ImageSet) -> Tensor:
    """The mean loss on pictures at each of ``TIMESTEPS``."""
    pictures = different_pictures(model, images)
    witness = replace(witness_of(model, len(pictures), SEED), num_draws=DRAWS)
    return witness.mean_losses(pictures, TIMESTEPS).mean((0, 2))


def main() -> None:
    """Forget in every way, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/requests_one"))
    out: Path = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    picture, emoji, digits = (open_images(each, SHAPE) for each in (PICTURE, EMOJI, DIGITS))
    own = picture.digest(0)
    others = SubsetImages(emoji, [row for row in range(len(emoji)) if emoji.digest(row) != own])
    some = SubsetImages(digits, range(0, len(digits), EVERY_DIGIT))
    sides, before = (others, some, picture), load_model(MODEL)
    beside = [losses(before, others), losses(before, some), losses(load_model(TWIN), picture)]
    heads = ["", "other emoji, over before", "digits, over before", "the picture, over the twin's"]
    lines = [heads, ["---"] * len(heads)]
    keep = learnt(out / "keep.npz")
    for way in WAYS:
        model = load_model(run(way, out, keep))
        ratios = [losses(model, side) / at for side, at in zip(sides, beside, strict=True)]
        lines.append([way, *(" ".join(f"{x:.2f}" for x in each.tolist()) for each in ratios)])
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    refresh(PAGE, table, "<!-- table one -->")


if __name__ == "__main__":
    main()
