"""A frozen model that is asked about noisy pictures, always with the same noise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dataunlearn.conditioning import Cond
from dataunlearn.process import ForwardProcess
from dataunlearn.questions import View
from dataunlearn.runtime.seeding import random_stream

Ask = Callable[[Tensor, Tensor, Cond | None], Tensor]


@dataclass(frozen=True, eq=False)
class Pictures:
    """Clean samples with what they are conditioned on.

    Attributes:
        clean: ``(N, *shape)`` in the model's own space.
        cond: Their conditioning ``(N, ...)``, or None.
        other: Another conditioning that the model may be asked under in its place, or None.
    """

    clean: Tensor
    cond: Cond | None = None
    other: Cond | None = None

    def __len__(self) -> int:
        return len(self.clean)

    def take(self, rows: Tensor | slice) -> Pictures:
        """Some of them."""
        cond, other = (c if c is None else c[rows] for c in (self.cond, self.other))
        return Pictures(self.clean[rows], cond, other)


@dataclass(frozen=True, eq=False)
class Witness:
    """A frozen model that is asked about noisy pictures, always with the same noise.

    Attributes:
        ask: The model: ``(noisy, t, cond) -> prediction``.
        process: Its forward process.
        seed: Names the noise; draw j of timestep t is the same for all pictures.
        num_draws: Draws of noise at each timestep.
        batch_size: Rows a call.
        progress: Called with the number of rows asked.
    """

    ask: Ask
    process: ForwardProcess
    seed: int = 0
    num_draws: int = 2
    batch_size: int = 64
    progress: Callable[[int], None] | None = None

    def noise(self, shape: Sequence[int], t: int, draw: int) -> Tensor:
        """The noise of a draw ``(1, *shape)``."""
        return torch.randn((1, *shape), generator=random_stream(self.seed, t, draw))

    def noisy(self, clean: Tensor, t: int, draw: int) -> tuple[Tensor, Tensor]:
        """Clean samples ``(N, *shape)`` with a draw's noise, and their timesteps ``(N,)``."""
        noise = self.noise(clean.shape[1:], t, draw).to(clean)
        times = torch.full((len(clean),), t, device=clean.device)
        return self.process.add_noise(clean, noise.expand_as(clean), times), times

    def answers(
        self, pictures: Pictures, t: int, draw: int, view: View | None, *, other: bool = False
    ) -> Tensor:
        """Predictions ``(N, *shape)`` for noisy pictures, seen through a view and turned back."""
        found = []
        for rows in torch.split(torch.arange(len(pictures)), self.batch_size):
            part = pictures.take(rows)
            noisy, times = self.noisy(part.clean, t, draw)
            seen = noisy if view is None else view(noisy)
            answer = self.ask(seen, times, part.other if other else part.cond).float()
            found.append(answer if view is None else view.inverse(answer))
            if self.progress is not None:
                self.progress(len(part))
        return torch.cat(found)

    def losses(self, predictions: Tensor, pictures: Pictures, t: int, draw: int) -> Tensor:
        """Mean squared error a dimension of predictions ``(N, *shape)``, ``(N,)`` float64."""
        clean = pictures.clean
        noisy, times = self.noisy(clean, t, draw)
        target = self.process.target(noisy, clean, times)
        return (predictions - target).double().square().flatten(1).mean(1).cpu()

    def mean_losses(
        self, pictures: Pictures, timesteps: Sequence[int], view: View | None = None
    ) -> Tensor:
        """Losses ``(N, T, J)`` float64 at T timesteps and J draws of noise, through one view."""
        found = [
            self.losses(self.answers(pictures, t, draw, view), pictures, t, draw)
            for t in timesteps
            for draw in range(self.num_draws)
        ]
        return torch.stack(found, 1).reshape(len(pictures), len(timesteps), self.num_draws)
