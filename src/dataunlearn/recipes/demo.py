"""The main job: the shipped MNIST model forgets its T-shirt."""

from __future__ import annotations

from pathlib import Path

from dataunlearn.assets import asset
from dataunlearn.unlearning.config import Evaluation, Unlearning


def demo(out: Path = Path("runs/demo")) -> Unlearning:
    """Default settings on the shipped model; needs two cores and some minutes."""
    return Unlearning(
        model=str(asset("mnist_tshirt_small")),
        forget=str(asset("tshirt.png")),
        keep=str(asset("digits.npz")),
        out=out,
        reference=str(asset("mnist_tshirt_small/reference.json")),
        evaluation=Evaluation(
            num_samples=512,
            sampling_steps=25,
            regeneration_copies=64,
            threshold=10.0,
            digits=True,
            frequency_name="tshirt_frequency",
        ),
    )
