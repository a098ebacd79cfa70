"""How weights are updated: frozen settings, checked before any model loads."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from dataunlearn.runtime.checks import require

Precision = Literal["float32", "bfloat16"]


MOST_STEPS, MOST_PAIRS = 10**9, 10**6  # no run gets there: a slip

Optimizer = Literal["adamw", "adam", "adamw8bit"]
Schedule = Literal["constant", "cosine"]


def default_learning_rate(num_parameters: int) -> float:
    """A rate to unlearn with: 1e-4 up to 1.5 M parameters, then falling with the power 0.6.

    Measured on the small MNIST model; within a factor of 2 of the published rates of larger ones:
    2.5e-5 at 14.7 M parameters (published: 5e-5), 7e-6 at 114 M (published: 5e-6).
    """
    return float(1e-4 * min(1.0, (num_parameters / 1.5e6) ** -0.6))


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
        require(self.inv_gamma > 0, f"inv_gamma must be above 0, not {self.inv_gamma}")
        require(self.power > 0, f"power must be above 0, not {self.power}")


@dataclass(frozen=True, kw_only=True)
class Updates:
    """How weights are updated, whatever is trained.

    Args:
        optimizer: "adamw", "adam" (weight decay then acts through the gradient), or "adamw8bit"
            (moments in 8 bits; needs bitsandbytes).
        betas: Decay rates of the optimizer's two moments.
        weight_decay: Weight decay.
        clip_norm: Largest length of the combined gradient.
        schedule: "constant" or "cosine" (to 0 at the last step) after the warm-up.
        ema: Moving average of the weights, which then becomes the result; None for none.
        micro_batch_rows: Most rows per forward pass; smaller saves memory and changes nothing else.
        precision: Autocast type of the forward pass.
        compile: Whether the network's repeated blocks are compiled for training, which takes a
            minute or more at the start; ``--dry_run`` says from how many steps on it pays.
        shard: Whether several processes each hold a part of the weights, gradients and moments
            while they train (FSDP2), for networks whose training does not fit one device.
        checkpoint_every_steps: Steps between checkpoints.
        seed: Names every random draw of the run.
    """

    optimizer: Optimizer = "adamw"
    betas: tuple[float, float] = (0.95, 0.999)
    weight_decay: float = 1e-6
    clip_norm: float = 1.0
    schedule: Schedule = "constant"
    ema: Ema | None = None
    micro_batch_rows: int = 64
    precision: Precision = "float32"
    compile: bool = False
    shard: bool = False
    checkpoint_every_steps: int = 25
    seed: int = 0


@dataclass(frozen=True)
class Training(Updates):
    """How a loop updates the weights; the same for unlearning and for base training.

    Args:
        steps: Optimizer steps.
        batch_pairs: Pairs per step over all processes.
        learning_rate: Peak learning rate.
        warmup_steps: Steps of linear warm-up.
        decay_after: Steps after which the cosine begins to fall; at once if the warm-up is longer.
    """

    steps: int
    batch_pairs: int
    learning_rate: float
    warmup_steps: int = 0
    decay_after: int = 0

    def __post_init__(self) -> None:
        """Check ranges."""
        for name in ("steps", "batch_pairs", "micro_batch_rows", "checkpoint_every_steps"):
            require(getattr(self, name) >= 1, f"{name} must be at least 1")
        for name, most in (("steps", MOST_STEPS), ("batch_pairs", MOST_PAIRS)):
            value = getattr(self, name)
            require(value <= most, f"{name} must be at most {most:,}, not {value}")
        choices = {"optimizer": Optimizer, "schedule": Schedule, "precision": Precision}
        for name, choice in choices.items():
            value, known = getattr(self, name), get_args(choice)
            require(value in known, f"{name} must be one of {known}, not {value!r}")
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
        require(
            0 <= self.decay_after < self.steps,
            f"decay_after must be below steps, not {self.decay_after} of {self.steps}",
        )
        require(self.seed >= 0, f"seed must be at least 0, not {self.seed}")
        whole = {
            "ema": self.ema is not None,
            "compile": self.compile,
            "optimizer adamw8bit": self.optimizer == "adamw8bit",
        }
        for name, given in whole.items():
            require(
                not (self.shard and given),
                f"a network in parts goes without {name}: leave it out, or shard",
            )

    def rate(self, step: int) -> float:
        """The learning rate of step number ``step``, from 0."""
        if step < self.warmup_steps:
            return self.learning_rate * (step + 1) / self.warmup_steps
        begin = max(self.warmup_steps, self.decay_after)
        if self.schedule == "constant" or step < begin:
            return self.learning_rate
        done = (step - begin) / (self.steps - begin)
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * done))
