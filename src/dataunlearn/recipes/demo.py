"""The main job: the shipped MNIST model forgets its T-shirt."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from dataunlearn.assets import asset
from dataunlearn.objectives import SISS
from dataunlearn.unlearning.config import Evaluation, Unlearning

# SISS forgets the T-shirt within 60 steps; its default of 180 settles for longer, and is a third of
# the demo's time.
SISS_STEPS = 100


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


def with_siss(config: Unlearning) -> Unlearning:
    """The demo's comparison: the same by SISS, in a folder of its own under the demo's."""
    steps = SISS_STEPS if config.steps is None else config.steps
    return replace(config, out=config.out / "siss", objective=SISS(), steps=steps)
