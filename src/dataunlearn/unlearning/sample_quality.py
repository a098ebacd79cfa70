"""Whether what the model draws is as good as before: its samples against pictures to keep."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torchmetrics.image.kid import poly_mmd

from dataunlearn.metrics.embedders import embedder_for
from dataunlearn.runtime.seeding import random_stream
from dataunlearn.unlearning.job import Job
from dataunlearn.unlearning.measuring import Measurement
from dataunlearn.unlearning.quality import MORE_SAMPLES, AtMost, Finding, Quality

# By how much KID to pictures to keep may rise. A model trained without the forget images has up to
# 0.03 more, since it has seen fewer pictures by heart: docs/results/never_seen.md.
MOST_KID_RISE = 0.045
LEAST_SAMPLES, LEAST_KEEP = 64, 16
KEEP_PICTURES = 256
NUM_SUBSETS = 200


@dataclass(frozen=True)
class SampleChange:
    """Samples after against samples before, drawn from the same noise.

    Attributes:
        embedder: What the pictures were compared by.
        kid_rise: KID to pictures to keep, after minus before.
        interval: Its 95 % interval, paired by sample.
        drift: Root mean squared distance between a sample before and after, as a share of that
            between two different samples before: 0 where nothing changed, about 1 where samples
            have nothing to do with each other any more.
        num_samples: How many samples.
    """

    embedder: str
    kid_rise: float
    interval: tuple[float, float]
    drift: float
    num_samples: int

    @property
    def finding(self) -> Finding:
        """What that says about quality."""
        low, high = self.interval
        words = (
            f"KID of {self.num_samples} samples to pictures to keep {self.kid_rise:+.3f} "
            f"(between {low:+.3f} and {high:+.3f}, at most {MOST_KID_RISE} allowed; "
            f"{self.embedder})"
        )
        quality = AtMost(MOST_KID_RISE).judge(self.interval)
        return Finding(quality, words + (MORE_SAMPLES if quality is Quality.CANNOT_TELL else ""))


def sample_change(job: Job, before: Measurement, after: Measurement) -> SampleChange | str:
    """Compare the samples of two measurements; where that cannot be done, why.

    Samples for other prompts where there are any; else samples that are copies in either are left
    out of both.
    """
    if not bool(torch.isfinite(after.samples).all() & torch.isfinite(after.others).all()):
        return SampleChange("none", math.nan, (math.nan, math.nan), math.nan, len(after.samples))
    both = ~(before.copies | after.copies)
    old, new, left_out = before.samples[both], after.samples[both], int((~both).sum())
    if len(after.others):
        old, new, left_out = before.others, after.others, 0
    if len(old) < LEAST_SAMPLES:
        more = "1 more is a copy" if left_out == 1 else f"{left_out} more are copies"
        count = f"{len(old)} samples" + (f" ({more})" if left_out else "")
        return (
            f"{count} say nothing about quality: at least {LEAST_SAMPLES} are needed "
            "(--evaluation.num_samples)"
        )
    if len(job.split.keep) < LEAST_KEEP:
        return (
            f"samples cannot be compared with {len(job.split.keep)} pictures to keep: at least "
            f"{LEAST_KEEP} are needed"
        )
    try:
        embedder = embedder_for(job.model.image_shape, "auto", device=job.model.device)
    except ValueError as error:
        return f"samples were not compared: {error}"
    order = torch.randperm(len(job.split.keep), generator=random_stream(job.config.evaluation.seed))
    keep = embedder(job.split.keep.batch(order[:KEEP_PICTURES]))
    rise, interval = kid_rise(embedder(old), embedder(new), keep)
    return SampleChange(embedder.name, rise, interval, drift(old, new), len(old))


def kid_rise(before: Tensor, after: Tensor, keep: Tensor) -> tuple[float, tuple[float, float]]:
    """KID of ``after`` to ``keep`` minus that of ``before``, with its 95 % interval.

    Args:
        before: Features ``(N, D)``.
        after: Features ``(N, D)`` of samples from the same noise.
        keep: Features ``(M, D)`` of pictures to keep.

    Returns:
        The mean over random subsets, the same of both sides; the interval is from their spread,
        narrowed as subsampling asks (Politis and Romano 1994).
    """
    generator = random_stream(0)
    fewest = min(len(before), len(keep))
    size = fewest // 2
    rises = []
    for _ in range(NUM_SUBSETS):
        rows = torch.randperm(len(before), generator=generator)[:size]
        others = keep[torch.randperm(len(keep), generator=generator)[:size]]
        rises.append(poly_mmd(others, after[rows]) - poly_mmd(others, before[rows]))
    found = torch.stack(rises).double()
    half_width = 1.96 * float(found.std()) * (size / fewest) ** 0.5
    mean = float(found.mean())
    return mean, (mean - half_width, mean + half_width)


def drift(before: Tensor, after: Tensor) -> float:
    """How far samples ``(N, C, H, W)`` moved, as a share of how far they are from each other."""
    moved = (after - before).double().square().mean()
    apart = (before.roll(1, 0) - before).double().square().mean()
    return float((moved / apart).sqrt())
