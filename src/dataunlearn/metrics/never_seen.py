"""What a model loses on images over what it would be expected to lose had it never seen them."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dataunlearn.conditioning import Cond
from dataunlearn.data import ImageSet
from dataunlearn.metrics.inputs import Inputs
from dataunlearn.metrics.intervals import paired_bootstrap
from dataunlearn.metrics.measure import Measure
from dataunlearn.metrics.pace import Cost
from dataunlearn.metrics.pixel_distance import distinct_indices
from dataunlearn.metrics.result import Result
from dataunlearn.models import DiffusionModel
from dataunlearn.models.finite import require_finite_scores
from dataunlearn.models.latents import TextSpace
from dataunlearn.recognition.choosing import MOST_VIEWS
from dataunlearn.recognition.costs import CHOOSING_PASSES
from dataunlearn.recognition.levels import LEAST_RECOGNITION, Levels, measure_levels
from dataunlearn.recognition.witness import Pictures, Witness
from dataunlearn.runtime.checks import require
from dataunlearn.runtime.progress import progress_bar
from dataunlearn.runtime.seeding import random_stream
from dataunlearn.runtime.streams import LEVEL_STREAM

# Noise levels that an image's level is measured at, as shares of all.
LEVEL_SHARES = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
DRAWS_IN_ALL, MOST_DRAWS = 24, 8
COMPARED_PICTURES = 256


def witness_of(model: DiffusionModel, num_images: int, seed: int = 0) -> Witness:
    """The model as it is now, asked with the noise of a seed: the fewer images, the more draws."""

    @torch.no_grad()
    def ask(noisy: Tensor, t: Tensor, cond: Cond | None) -> Tensor:
        device = model.device
        where = None if cond is None else cond.to(device)
        answer: Tensor = model.denoiser(noisy.to(device), t.to(device), where)
        return answer.float().cpu()

    draws = max(1, min(MOST_DRAWS, DRAWS_IN_ALL // num_images))
    return Witness(ask, model.process, seed=LEVEL_STREAM + seed, num_draws=draws)


def different_pictures(model: DiffusionModel, images: ImageSet) -> Pictures:
    """The different pictures of a set, in the order of a pair's ``forget_index``."""
    rows = torch.tensor(distinct_indices(images))
    return Pictures(
        model.space.samples(images, rows),
        model.space.conditions(images, rows),
        model.space.nothing(len(rows)),
    )


def some_pictures(model: DiffusionModel, images: ImageSet, count: int, seed: int = 0) -> Pictures:
    """At most ``count`` pictures of a set, drawn at random."""
    order = torch.randperm(len(images), generator=random_stream(seed, LEVEL_STREAM))
    rows = order[:count]
    return Pictures(
        model.space.samples(images, rows),
        model.space.conditions(images, rows),
        model.space.nothing(len(rows)),
    )


def levels_of(
    model: DiffusionModel, forget: ImageSet, keep: ImageSet, *, seed: int = 0, shown: bool = True
) -> Levels:
    """The levels of a set's different pictures, by a model that still knows them.

    Args:
        model: The model before anything is unlearned, in eval mode.
        forget: The pictures.
        keep: Pictures to keep, to compare with.
        seed: Names the noise.
        shown: Whether to draw progress.

    Raises:
        ValueError: If a loss is not finite.
    """
    pictures = different_pictures(model, forget)
    witness = witness_of(model, len(pictures), seed)
    left = len(pictures) * len(LEVEL_SHARES) * witness.num_draws * (1 + MOST_VIEWS)
    with progress_bar("looking at the forget images", left, shown=shown) as advance_by:

        def advance(count: int) -> None:
            """Never beyond the end: how many looks it takes depends on what they show."""
            nonlocal left
            if left:
                advance_by(min(count, left))
            left -= min(count, left)

        found = measure_levels(
            replace(witness, progress=advance),
            pictures,
            some_pictures(model, keep, COMPARED_PICTURES, seed),
            model.process.timesteps_at(LEVEL_SHARES),
            latent=isinstance(model.space, TextSpace),
        )
    require_finite_scores(found.before.mean(2), found.timesteps, "loss", model.source)
    require_finite_scores(found.level.mean(2), found.timesteps, "level", model.source)
    return found


@dataclass(frozen=True, eq=False)
class OverLevel:
    """Losses over levels, at the noise levels where the images were recognised.

    Attributes:
        timesteps: Those noise levels, T; none where nothing was recognised anywhere.
        by_image: Each image's ratio, the geometric mean over draws of noise, ``(K, T)``.
        mean: Their geometric mean over images, ``(T,)``.
        intervals: Its 95 % bootstrap interval over images and draws of noise, ``(T, 2)``.
    """

    timesteps: tuple[int, ...]
    by_image: Tensor
    mean: Tensor
    intervals: Tensor

    @property
    def overall(self) -> Tensor:
        """Each image's geometric mean over the noise levels, ``(K,)``; 1 without any."""
        if not self.timesteps:
            return torch.ones(len(self.by_image), dtype=torch.float64)
        return self.by_image.log().mean(1).exp()


def losses_at_levels(model: DiffusionModel, images: ImageSet, levels: Levels, seed: int) -> Tensor:
    """What a model loses on a set's different pictures, ``(K, T, J)``, with the levels' noise.

    Args:
        model: The model.
        images: The set that the levels are of.
        levels: Its levels.
        seed: The seed that they were measured with.
    """
    pictures = different_pictures(model, images)
    witness = replace(witness_of(model, len(pictures), seed), num_draws=levels.level.shape[2])
    return witness.mean_losses(pictures, levels.timesteps)


def over_level(levels: Levels, losses: Tensor) -> OverLevel:
    """Compare losses with levels, at the noise levels where the model before recognised the images.

    Args:
        levels: The images' levels, from the model before; or with what another model loses in place
            of the level.
        losses: What a model loses on them, ``(K, T, J)``, with the levels' timesteps and noise.
    """
    columns = (levels.recognition.mean(0) >= LEAST_RECOGNITION).nonzero().flatten()
    level = levels.level.mean(2, keepdim=True)
    logs = (losses / level).log()[:, columns]  # (K, T, J)
    flat = logs.transpose(1, 2).flatten(0, 1).numpy()  # (K J, T)
    bounds = [
        paired_bootstrap(_geometric_mean, flat[:, column])
        if torch.isfinite(logs[:, column]).all()
        else (math.nan, math.nan)
        for column in range(len(columns))
    ]
    return OverLevel(
        tuple(levels.timesteps[column] for column in columns.tolist()),
        logs.mean(2).exp(),
        logs.mean((0, 2)).exp(),
        torch.tensor(bounds, dtype=torch.float64).reshape(-1, 2),
    )


@dataclass(frozen=True)
class NeverSeen(Measure):
    """What the model loses on the forget images over the level that the model before gives them.

    1 is "as if it had never seen them"; below, they are still known; above, they were pushed past
    it, which whoever computes likelihoods sees.
    """

    needs: ClassVar[tuple[str, ...]] = ("forget", "keep")

    def check(self, inputs: Inputs) -> None:
        """There must be a model from before."""
        super().check(inputs)
        require(
            inputs.before is not None,
            "NeverSeen needs --before, the model before unlearning: levels come from it alone",
        )

    def cost(self, inputs: Inputs) -> Cost:
        """Levels by the model before, and losses of the model."""
        count = len(inputs.originals)
        draws = witness_of(inputs.model, count, inputs.seed).num_draws
        return Cost(count * len(LEVEL_SHARES) * draws * (2 + MOST_VIEWS) + CHOOSING_PASSES)

    def __call__(self, inputs: Inputs) -> list[Result]:
        """``never_seen_T`` for each noise level, and ``never_seen`` over all of them by image.

        The interval of the latter is over images, so that there is none of a single one.
        """
        before, forget, keep = inputs.before, inputs.forget, inputs.keep
        assert before is not None
        assert forget is not None
        assert keep is not None
        levels = levels_of(before, forget, keep, seed=inputs.seed, shown=inputs.shown)
        found = over_level(levels, losses_at_levels(inputs.model, forget, levels, inputs.seed))
        settings = {"views": levels.names, "unfamiliar": levels.unfamiliar.tolist()}
        results = [
            Result(f"never_seen_{t}", float(mean), (low, high), None, settings, by_image)
            for t, mean, (low, high), by_image in zip(
                found.timesteps,
                found.mean,
                found.intervals.tolist(),
                found.by_image.T,
                strict=True,
            )
        ]
        logs = found.overall.log().numpy()
        bounds = None
        if len(logs) > 1 and np.isfinite(logs).all():
            bounds = paired_bootstrap(_geometric_mean, logs)
        value = _geometric_mean(logs)
        return [*results, Result("never_seen", value, bounds, None, settings, found.overall)]


def _geometric_mean(logs: NDArray[np.float64]) -> float:
    return float(np.exp(logs.mean()))
