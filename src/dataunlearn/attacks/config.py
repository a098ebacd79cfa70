"""The settings of attacks."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from dataunlearn.runtime.checks import require
from dataunlearn.training.config import Training

On = Literal["keep", "image", "view"]
# Steps, and steps between looks. The small MNIST model learns an image it is shown in ten steps.
DEFAULT_STEPS: dict[On, tuple[int, int]] = {"keep": (100, 10), "image": (30, 2), "view": (30, 2)}


@dataclass(frozen=True)
class Relearning:
    """Train an unlearned model for some steps, and look when the images are restored again.

    Args:
        on: What is trained on: "keep", the keep images alone (does it come back by itself?);
            "image", the forget images (how much sooner than in a model that never saw them?);
            "view", an altered view of the forget images.
        steps: Optimizer steps; None for 100 on keep images, else 30.
        every_steps: Steps between looks, the first of which is before any step; None for 10 on keep
            images, else 2, since a model may learn an image that it is shown within ten steps.
        learning_rate: None takes the one that a model of this size is unlearned with.
        batch_images: Pictures per step.
        view: Which view "view" trains on, by its name in ``dataunlearn.views.plain_views``.
        tries: Tries per look, dealt out evenly to the forget images.
        regeneration_steps: Most denoiser calls per try.
        timestep: Noise level that images are restored from; None for half of the noise.
        threshold: Pixel distance (pixels in [0, 1]) under which a try counts as restored; None
            takes 7/8 of the distance from a forget image to the nearest keep image.
        returned_from: Share of tries from which on the images count as having returned. Half of
            the tries is what an audit calls known by heart.
        until_returned: End a training where the images have returned, which saves the rest of its
            steps and of its curve.
        seeds: Each is one training; the reference is trained with the same pictures, noise levels
            and noise.
        drop_overlap: Remove forget images found in keep instead of stopping.
        micro_batch_rows: Most pictures per call of the model, in training and in looks; fewer save
            memory and change nothing else.
    """

    on: On = "keep"
    steps: int | None = None
    every_steps: int | None = None
    learning_rate: float | None = None
    batch_images: int = 24
    view: str = "half turn"
    tries: int = 16
    regeneration_steps: int = 20
    timestep: int | None = None
    threshold: float | None = None
    returned_from: float = 0.5
    until_returned: bool = False
    seeds: tuple[int, ...] = (0, 1, 2)
    drop_overlap: bool = False
    micro_batch_rows: int = 64

    def __post_init__(self) -> None:
        """Check ranges."""
        known = get_args(On)
        require(self.on in known, f"on must be one of {', '.join(known)}, not {self.on!r}")
        counts = ("steps", "every_steps", "batch_images", "tries", "regeneration_steps")
        for name in (*counts, "micro_batch_rows"):
            value = getattr(self, name)
            require(value is None or value >= 1, f"{name} must be at least 1")
        rate, threshold = self.learning_rate, self.threshold
        require(
            rate is None or (math.isfinite(rate) and rate > 0),
            f"learning_rate must be above 0, not {rate}",
        )
        require(threshold is None or threshold > 0, f"threshold must be above 0, not {threshold}")
        require(
            0 < self.returned_from <= 1,
            f"returned_from must lie in (0, 1], not {self.returned_from}",
        )
        require(len(self.seeds) >= 1, "seeds needs at least one seed, such as '[0]'")
        require(
            min(self.seeds) >= 0 and len(set(self.seeds)) == len(self.seeds),
            f"seeds must be different and at least 0, not {list(self.seeds)}",
        )

    @property
    def num_steps(self) -> int:
        """Optimizer steps: the given number, or the default."""
        return DEFAULT_STEPS[self.on][0] if self.steps is None else self.steps

    @property
    def steps_between_looks(self) -> int:
        """Steps between looks: the given number, or the default."""
        return DEFAULT_STEPS[self.on][1] if self.every_steps is None else self.every_steps

    def training(self, seed: int) -> Training:
        """The loop of one training; the learning rate must be known."""
        assert self.learning_rate is not None
        return Training(
            steps=self.num_steps,
            batch_pairs=self.batch_images,
            learning_rate=self.learning_rate,
            micro_batch_rows=self.micro_batch_rows,
            seed=seed,
        )
