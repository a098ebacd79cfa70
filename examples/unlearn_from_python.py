"""Unlearn the T-shirt from the shipped model, from Python, with your own choice of method."""

from __future__ import annotations

import dataunlearn
from dataunlearn import SISS, Evaluation, NormFix
from dataunlearn.assets import asset


def main() -> None:
    """Run, and print what was measured."""
    result = dataunlearn.unlearn(
        str(asset("mnist_tshirt_small")),  # or a DiffusionPipeline, or a hub id
        forget=asset("tshirt.png"),  # an image, a folder, an array
        keep=asset("digits.npz"),  # or "generated:2048" if there is no data left
        objective=SISS(lam=0.5),
        combination=NormFix(ratio=0.4),
        evaluation=Evaluation(num_samples=64, digits=True),
        out="runs/example",
    )
    print(result.facts["verdict"]["text"])
    print("regeneration before", result.before.numbers["regeneration"])
    print("regeneration after ", result.after.numbers["regeneration"])
    result.pipeline.save_pretrained("runs/example/again")  # an ordinary diffusers pipeline


if __name__ == "__main__":
    main()
