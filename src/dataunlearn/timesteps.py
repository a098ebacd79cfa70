"""Timestep policies: which noise levels a step trains on."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from dataunlearn.process import ForwardProcess


class TimestepPolicy(ABC):
    """Draws the timesteps of a step; implementations are frozen dataclasses."""

    @abstractmethod
    def bounds(self, process: ForwardProcess) -> tuple[int, int]:
        """The lowest and the highest timestep that can be drawn.

        Raises:
            ValueError: If the policy does not fit the process.
        """

    def draw(self, count: int, process: ForwardProcess, generator: torch.Generator) -> Tensor:
        """``(count,)`` int64 timesteps, independent and uniform between the bounds."""
        low, high = self.bounds(process)
        return torch.randint(low, high + 1, (count,), generator=generator)


@dataclass(frozen=True)
class Uniform(TimestepPolicy):
    """Every timestep equally often, as in training (published for MNIST)."""

    def bounds(self, process: ForwardProcess) -> tuple[int, int]:
        """The whole range."""
        return process.first_timestep, process.last_timestep


@dataclass(frozen=True)
class Last(TimestepPolicy):
    """Only the noisiest timestep, as the published CelebA-HQ and Stable Diffusion programs do."""

    def bounds(self, process: ForwardProcess) -> tuple[int, int]:
        """The last timestep twice."""
        return process.last_timestep, process.last_timestep


@dataclass(frozen=True)
class Window(TimestepPolicy):
    """Timesteps from ``lo`` to ``hi``, both included.

    Args:
        lo: Lowest timestep.
        hi: Highest timestep.
    """

    lo: int
    hi: int

    def __post_init__(self) -> None:
        """Check the order of the bounds."""
        if not 0 <= self.lo <= self.hi:
            raise ValueError(f"a window needs 0 <= lo <= hi, not lo={self.lo}, hi={self.hi}")

    def bounds(self, process: ForwardProcess) -> tuple[int, int]:
        """The two given timesteps."""
        if self.lo < process.first_timestep or self.hi > process.last_timestep:
            raise ValueError(
                f"window {self.lo}..{self.hi} leaves the model's timesteps "
                f"{process.first_timestep}..{process.last_timestep}"
            )
        return self.lo, self.hi


@dataclass(frozen=True)
class Above(TimestepPolicy):
    """Timesteps from a share of the whole range up: the noisier part.

    Args:
        share: Where the range begins, from 0 (all of it) to below 1.
    """

    share: float = 0.25

    def __post_init__(self) -> None:
        """Check the range of the share."""
        if not 0 <= self.share < 1:
            raise ValueError(f"share must lie in [0, 1), not {self.share}")

    def bounds(self, process: ForwardProcess) -> tuple[int, int]:
        """From that share of the timesteps to the last one."""
        low = process.first_timestep + int(self.share * process.num_train_timesteps)
        return low, process.last_timestep
