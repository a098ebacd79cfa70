"""Configuration: frozen, complete, checked before any model loads. Defaults live here, once."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal

from dataunlearn.gradients import Precision


def require(condition: bool, message: str) -> None:
    """Raise a ValueError with ``message`` unless ``condition`` holds."""
    if not condition:
        raise ValueError(message)


@dataclass(frozen=True)
class Ema:
    """Exponential moving average of the weights, decay 1 - (1 + step/inv_gamma)^-power.

    Args:
        max_decay: The decay that the warm-up ends at.
        inv_gamma: Warm-up scale in steps.
        power: Warm-up exponent.
    """

    max_decay: float = 0.9999
    inv_gamma: float = 1.0
    power: float = 0.75

    def __post_init__(self) -> None:
        """Check ranges."""
        require(0 <= self.max_decay < 1, f"max_decay must lie in [0, 1), not {self.max_decay}")


@dataclass(frozen=True)
class Training:
    """How the loop updates the weights; the same for unlearning and for base training.

    Args:
        steps: Optimizer steps.
        batch_pairs: Pairs per step over all processes.
        learning_rate: Peak learning rate.
        optimizer: "adamw" or "adam" (weight decay then acts through the gradient).
        betas: Decay rates of the optimizer's two moments.
        weight_decay: Weight decay.
        clip_norm: Largest length of the combined gradient.
        schedule: "constant" or "cosine" (to 0 at the last step) after the warm-up.
        warmup_steps: Steps of linear warm-up.
        micro_batch_rows: Most rows per forward pass; smaller saves memory and changes nothing else.
        precision: Autocast type of the forward pass.
        checkpoint_every_steps: Steps between checkpoints.
        seed: Names every random draw of the run.
        ema: Moving average of the weights, which then becomes the result; None for none.
    """

    steps: int
    batch_pairs: int
    learning_rate: float
    optimizer: Literal["adamw", "adam"] = "adamw"
    betas: tuple[float, float] = (0.95, 0.999)
    weight_decay: float = 1e-6
    clip_norm: float = 1.0
    schedule: Literal["constant", "cosine"] = "constant"
    warmup_steps: int = 0
    micro_batch_rows: int = 64
    precision: Precision = "float32"
    checkpoint_every_steps: int = 50
    seed: int = 0
    ema: Ema | None = None

    def __post_init__(self) -> None:
        """Check ranges."""
        for name in ("steps", "batch_pairs", "micro_batch_rows", "checkpoint_every_steps"):
            require(getattr(self, name) >= 1, f"{name} must be at least 1")
        require(
            math.isfinite(self.learning_rate) and self.learning_rate > 0,
            f"learning_rate must be above 0, not {self.learning_rate}",
        )
        require(
            all(0 <= beta < 1 for beta in self.betas), f"betas must lie in [0, 1): {self.betas}"
        )
        require(self.weight_decay >= 0, f"weight_decay must be at least 0, not {self.weight_decay}")
        require(self.clip_norm > 0, f"clip_norm must be above 0, not {self.clip_norm}")
        require(
            0 <= self.warmup_steps < self.steps,
            f"warmup_steps must be below steps, not {self.warmup_steps} of {self.steps}",
        )
        require(self.seed >= 0, f"seed must be at least 0, not {self.seed}")

    def rate(self, step: int) -> float:
        """The learning rate of step number ``step``, from 0."""
        if step < self.warmup_steps:
            return self.learning_rate * (step + 1) / self.warmup_steps
        if self.schedule == "constant":
            return self.learning_rate
        done = (step - self.warmup_steps) / (self.steps - self.warmup_steps)
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * done))


LINEAR_SCHEDULE: dict[str, Any] = {
    "num_train_timesteps": 1000,
    "beta_start": 1e-4,
    "beta_end": 0.02,
    "beta_schedule": "linear",
}


@dataclass(frozen=True)
class BaseModel:
    """A model to train from scratch, on images with some of them planted many times.

    Args:
        unet: Keyword arguments of diffusers' ``UNet2DModel``.
        images: The training images, in any form that ``open_images`` takes.
        training: The loop's numbers.
        planted: Image(s) that are added ``planted_copies`` times; None for none.
        planted_copies: How often.
        without: Images to leave out of the training set by content: trains the reference model
            that never saw them. None leaves nothing out.
        scheduler: Keyword arguments of diffusers' ``DDPMScheduler``.
        sample_every_steps: Steps between sample grids.
    """

    unet: dict[str, Any]
    images: str
    training: Training
    planted: str | None = None
    planted_copies: int = 1
    without: str | None = None
    scheduler: dict[str, Any] = field(default_factory=lambda: dict(LINEAR_SCHEDULE))
    sample_every_steps: int = 500

    def __post_init__(self) -> None:
        """Check ranges."""
        require(self.planted_copies >= 1, "planted_copies must be at least 1")
        require(self.sample_every_steps >= 1, "sample_every_steps must be at least 1")
