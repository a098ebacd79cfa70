"""Regeneration: half destroy an image with noise, and see whether the model restores it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
from torch import Tensor

from dataunlearn.metrics.inputs import Inputs
from dataunlearn.metrics.intervals import wilson
from dataunlearn.metrics.measure import Measure
from dataunlearn.metrics.pace import Cost
from dataunlearn.metrics.pixel_distance import pixel_distances
from dataunlearn.metrics.result import Result
from dataunlearn.models import DiffusionModel
from dataunlearn.models.sampling import DEFAULT_DRAWING, Drawing, noise_and_denoise
from dataunlearn.process import ForwardProcess
from dataunlearn.runtime.progress import progress_bar
from dataunlearn.runtime.seeding import mix_seed

RESTORED_SHARE = 0.5


@dataclass(frozen=True, eq=False)
class Regeneration:
    """What came back from one noise level.

    Attributes:
        timestep: Noise level that the images were noised to.
        share: Share of tries within the threshold of their own original, in [0, 1].
        interval: Its 95 % Wilson interval.
        distances: Pixel distance of each try to its original, ``(N,)``.
        images: The restored images ``(N, C, H, W)`` in [-1, 1].
    """

    timestep: int
    share: float
    interval: tuple[float, float]
    distances: Tensor = field(repr=False)
    images: Tensor = field(repr=False)


def quarter_timesteps(process: ForwardProcess) -> tuple[int, ...]:
    """A quarter, a half, three quarters and all of the noise: 250, 500, 750, 999 of 1000."""
    return process.timesteps_at((0.25, 0.5, 0.75, 1))


def regenerate(
    model: DiffusionModel,
    originals: Tensor,
    timestep: int,
    *,
    copies: int,
    threshold: float,
    drawing: Drawing = DEFAULT_DRAWING,
) -> Regeneration:
    """Noise originals to ``timestep``, denoise, and count what comes back.

    Args:
        model: The model.
        originals: ``(K, C, H, W)`` in [-1, 1].
        timestep: Noise level.
        copies: Tries in all, dealt out evenly to the originals (at least one each).
        threshold: Pixel distance, in [0, 1] pixels, below which a try counts.
        drawing: How they are restored: the same seed for two models makes their tries comparable
            one by one; its conditioning ``(K, ...)`` is that of the originals.
    """
    tries = max(copies, len(originals))
    which = torch.arange(tries) % len(originals)
    own = replace(drawing, seed=mix_seed(drawing.seed, timestep))
    restored = noise_and_denoise(model, originals[which], timestep, own)
    return counted(restored, originals, timestep, threshold)


def counted(restored: Tensor, originals: Tensor, timestep: int, threshold: float) -> Regeneration:
    """Tries that :func:`regenerate` made, counted.

    Args:
        restored: What came back, ``(N, C, H, W)``, of the originals in turn.
        originals: ``(K, C, H, W)`` in [-1, 1].
        timestep: Noise level.
        threshold: Pixel distance, in [0, 1] pixels, below which a try counts.
    """
    tries = len(restored)
    which = torch.arange(tries) % len(originals)
    distances = pixel_distances(restored, originals).gather(1, which[:, None])[:, 0]
    count = int((distances < threshold).sum())
    return Regeneration(timestep, count / tries, wilson(count, tries), distances, restored)


@dataclass(frozen=True)
class RegenerationShare(Measure):
    """Share of tries in which a noised forget image comes back, at several noise levels.

    Args:
        timesteps: Noise levels; empty for a quarter, a half, three quarters and all of the noise.
        copies: Tries per noise level.
        num_steps: Most denoiser calls per try.
        threshold: Pixel distance under which a try counts; None as for copies.
    """

    timesteps: tuple[int, ...] = ()
    copies: int = 64
    num_steps: int = 20
    threshold: float | None = None
    needs: ClassVar[tuple[str, ...]] = ("forget",)

    def cost(self, inputs: Inputs) -> Cost:
        """Tries from each noise level."""
        levels = len(self.timesteps or quarter_timesteps(inputs.model.process))
        return Cost(levels * max(self.copies, len(inputs.originals)) * self.num_steps)

    def check(self, inputs: Inputs) -> None:
        """A threshold needs keep images unless it is given; noise levels must be the model's."""
        super().check(inputs)
        if self.threshold is None and inputs.keep is None:
            raise ValueError("RegenerationShare needs --keep, or a threshold")
        inputs.model.process.check_timesteps(self.timesteps, "timesteps")

    def __call__(self, inputs: Inputs) -> list[Result]:
        """One share for each noise level; the single items are pixel distances."""
        threshold = self.threshold or inputs.pixel_threshold
        timesteps = self.timesteps or quarter_timesteps(inputs.model.process)
        results = []
        total = self.copies * len(timesteps)
        with progress_bar("regenerating", total, shown=inputs.shown) as advance:
            for timestep in timesteps:
                found = regenerate(
                    inputs.model,
                    inputs.originals,
                    timestep,
                    copies=self.copies,
                    threshold=threshold,
                    drawing=Drawing(
                        seed=inputs.seed,
                        num_steps=self.num_steps,
                        batch_size=inputs.batch_size,
                        cond=inputs.conditions("forget"),
                    ),
                )
                advance(self.copies)
                settings = {
                    "threshold": threshold,
                    "copies": self.copies,
                    "num_steps": self.num_steps,
                }
                name = f"regeneration_{timestep}"
                result = Result(name, found.share, found.interval, False, settings, found.distances)
                results.append(result)
        return results
