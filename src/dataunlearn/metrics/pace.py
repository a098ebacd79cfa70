"""What measuring costs, told before it begins: passes of the model, and how long one takes."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch

from dataunlearn.models import DiffusionModel

TIMED_PICTURES = 16
TRIES = 3


@dataclass(frozen=True)
class Cost:
    """Pictures that go through the model, in units of a forward pass of one picture.

    Attributes:
        passes: Forward passes.
        trained: Pictures that go through it and back.
    """

    passes: int = 0
    trained: int = 0

    @property
    def total(self) -> int:
        """Forward passes; there and back costs about three."""
        return self.passes + 3 * self.trained


NOTHING = Cost()


@torch.no_grad()
def seconds_per_pass(model: DiffusionModel) -> float:
    """Seconds that a forward pass of one picture takes, in a batch of sixteen."""
    noise = torch.randn(TIMED_PICTURES, *model.shape, device=model.device)
    t = torch.full((TIMED_PICTURES,), model.process.last_timestep, device=model.device)
    cond = model.space.drawn(range(TIMED_PICTURES))
    cond = None if cond is None else cond.to(model.device)
    times = []
    for _ in range(TRIES):
        started = time.perf_counter()
        model.denoiser(noise, t, cond).sum().item()
        times.append(time.perf_counter() - started)
    return min(times) / TIMED_PICTURES
