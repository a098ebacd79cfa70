"""Whether the model's other pictures are as good as before: kept, lost, or cannot tell."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dataunlearn.data import ImageSet
from dataunlearn.metrics.intervals import paired_bootstrap
from dataunlearn.metrics.never_seen import some_pictures, witness_of
from dataunlearn.models import DiffusionModel
from dataunlearn.unlearning.job import Job

# By how much a model's loss on pictures to keep may rise at any noise level. Models trained
# without the forget images lose up to 6 % more, since they have seen each picture to keep less
# often; runs that lost 10 to 20 % more drew worse pictures: docs/results/never_seen.md.
MOST_LOSS_RATIO = 1.10
MORE_SAMPLES = ", which more samples would narrow (--evaluation.num_samples)"
KEEP_SHARES = (0.1, 0.2, 0.3, 0.5, 0.7)
KEEP_PICTURES = 128
# From fewer pictures nothing can be said of the others, however narrow their interval is.
FEWEST_PICTURES = 8
QUALITY_SEED = 1


class Quality(Enum):
    """What can be said about the pictures that were to be kept."""

    KEPT = "kept"
    LOST = "lost"
    CANNOT_TELL = "cannot tell"


@dataclass(frozen=True)
class Finding:
    """What one measure says.

    Attributes:
        quality: Its verdict.
        words: What was found, with the numbers behind it.
    """

    quality: Quality
    words: str


@dataclass(frozen=True)
class AtMost:
    """A limit that a number must not exceed, which its interval has to show.

    Attributes:
        limit: The limit.
    """

    limit: float

    def judge(self, interval: tuple[float, float]) -> Quality:
        """Kept below the limit for certain, lost above it for certain, else cannot tell."""
        if not all(math.isfinite(bound) for bound in interval):
            return Quality.LOST
        if interval[1] <= self.limit:
            return Quality.KEPT
        return Quality.LOST if interval[0] > self.limit else Quality.CANNOT_TELL


def overall(findings: Iterable[Finding]) -> Quality:
    """Lost if any says so, kept if all do."""
    found = {finding.quality for finding in findings}
    if Quality.LOST in found:
        return Quality.LOST
    return Quality.KEPT if found == {Quality.KEPT} else Quality.CANNOT_TELL


@dataclass(frozen=True, eq=False)
class KeepLosses:
    """What a model loses on some pictures to keep.

    Attributes:
        timesteps: T noise levels.
        losses: ``(N, T)`` float64, mean squared error a dimension, with the same noise for every
            model.
    """

    timesteps: tuple[int, ...]
    losses: Tensor


def keep_losses(job: Job) -> KeepLosses:
    """What the job's model loses on pictures to keep, as it is now."""
    return losses_of_kept(job.model, job.split.keep, job.config.evaluation.seed)


def losses_of_kept(model: DiffusionModel, keep: ImageSet, seed: int) -> KeepLosses:
    """What a model loses on some pictures of a set, which the seed names, and the noise."""
    pictures = some_pictures(model, keep, KEEP_PICTURES, seed + QUALITY_SEED)
    witness = witness_of(model, len(pictures), seed + QUALITY_SEED)
    timesteps = model.process.timesteps_at(KEEP_SHARES)
    return KeepLosses(timesteps, witness.mean_losses(pictures, timesteps).mean(2))


@dataclass(frozen=True)
class LossRise:
    """How much more a model loses on pictures to keep than before.

    Attributes:
        timesteps: T noise levels.
        ratios: Mean loss after over mean loss before at each.
        intervals: Their paired 95 % bootstrap intervals over pictures.
        num_pictures: How many there were.
    """

    timesteps: tuple[int, ...]
    ratios: tuple[float, ...]
    intervals: tuple[tuple[float, float], ...]
    num_pictures: int

    @property
    def worst(self) -> int:
        """Position of the noise level that it rose most at."""
        return int(np.argmax([math.inf if math.isnan(r) else r for r in self.ratios]))

    @property
    def finding(self) -> Finding:
        """What that says about quality: the noise level that it rose most at decides."""
        low, high = self.intervals[self.worst]
        quality = overall(
            Finding(AtMost(MOST_LOSS_RATIO).judge(interval), "") for interval in self.intervals
        )
        change = f"{self.ratios[self.worst] - 1:+.0%}"
        counted = "1 picture" if self.num_pictures == 1 else f"{self.num_pictures} pictures"
        words = (
            f"denoising loss of {counted} to keep {change} at the noise level "
            f"where it changed most, t={self.timesteps[self.worst]} (between {low - 1:+.0%} and "
            f"{high - 1:+.0%})"
        )
        if self.num_pictures < FEWEST_PICTURES and quality is Quality.KEPT:
            few = f", and fewer than {FEWEST_PICTURES} say nothing about others"
            return Finding(Quality.CANNOT_TELL, words + few)
        return Finding(quality, words)


def loss_rise(before: KeepLosses, after: KeepLosses) -> LossRise:
    """Compare two models' losses on the same pictures, picture by picture."""
    old, new = before.losses.numpy(), after.losses.numpy()
    columns = range(len(before.timesteps))
    finite = bool(torch.isfinite(after.losses).all())
    return LossRise(
        before.timesteps,
        tuple(_ratio(old[:, c], new[:, c]) for c in columns),
        tuple(
            paired_bootstrap(_ratio, old[:, c], new[:, c]) if finite else (math.nan, math.nan)
            for c in columns
        ),
        len(old),
    )


def _ratio(old: NDArray[np.float64], new: NDArray[np.float64]) -> float:
    return float(new.mean() / old.mean())


def in_words(findings: Sequence[Finding]) -> str:
    """All findings in a sentence, the worst first."""
    order = (Quality.LOST, Quality.CANNOT_TELL, Quality.KEPT)
    ranked = sorted(findings, key=lambda finding: order.index(finding.quality))
    return "; ".join(finding.words for finding in ranked)
