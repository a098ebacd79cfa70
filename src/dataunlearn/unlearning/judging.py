"""From a run's measurements to its verdict."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from dataunlearn.metrics.never_seen import OverLevel, losses_at_levels, over_level
from dataunlearn.metrics.pixel_distance import pixel_distances
from dataunlearn.models import DiffusionModel
from dataunlearn.models.sampling import Drawing
from dataunlearn.runtime.settings import describe
from dataunlearn.unlearning.control import control
from dataunlearn.unlearning.job import Job
from dataunlearn.unlearning.measuring import (
    Measurement,
    QualityChange,
    compare_quality,
    quality_words,
)
from dataunlearn.unlearning.quality import (
    MORE_SAMPLES,
    AtMost,
    Finding,
    KeepLosses,
    LossRise,
    Quality,
    keep_losses,
    loss_rise,
    overall,
)
from dataunlearn.unlearning.sample_quality import SampleChange, sample_change
from dataunlearn.unlearning.verdict import (
    FORGOTTEN_BELOW,
    MemoryFinding,
    NoMemory,
    Verdict,
    against_level,
    against_reference,
    reproduction,
)

# Of digits: how much of the Inception Score may be lost, and by how much the share of broken
# pictures may rise. Both must be certain, and these are the least losses of which 512 samples can
# be certain: in pairs from the same noise they give the ratio to 2.5 % and the share to 2 points.
MOST_SCORE_LOSS = 0.05
MOST_BROKEN_INCREASE = 0.04
# Which share of the copies before a sample must be as near as to count as one of them.
AS_NEAR = 0.75


@dataclass(frozen=True, eq=False)
class Losses:
    """What one model loses, with the same noise as every other model of the run.

    Attributes:
        forget: On the different forget images, ``(K, T, J)``, where and how their levels were
            measured.
        keep: On some pictures to keep; None where that was not asked.
    """

    forget: Tensor
    keep: KeepLosses | None = None


def losses_now(job: Job) -> Losses:
    """What the job's model loses as it is now."""
    return Losses(forget_losses(job, job.model), keep_losses(job))


def losses_of_reference(job: Job) -> Losses | None:
    """What the job's reference loses on the forget images; None without a model."""
    if job.reference is None or job.reference.model is None:
        return None
    return Losses(forget_losses(job, job.reference.model))


def forget_losses(job: Job, model: DiffusionModel) -> Tensor:
    """What a model loses on the job's different forget images."""
    assert job.levels is not None
    return losses_at_levels(model, job.split.forget, job.levels, job.config.seed)


@dataclass(frozen=True, eq=False)
class Judgement:
    """A run's verdict, and the numbers that it rests on.

    Attributes:
        verdict: The verdict.
        over_level: Losses on the forget images over their levels, of "before", "after" and, where
            there is one, "reference".
        loss_rise: How much more the model loses on pictures to keep.
        digits: How its digits changed, where they were judged.
        samples: How its samples changed, or why they could not be compared.
    """

    verdict: Verdict
    over_level: Mapping[str, OverLevel]
    loss_rise: LossRise
    digits: QualityChange | None
    samples: SampleChange | str

    def over_level_numbers(self, side: str) -> dict[str, Any]:
        """One model's losses over levels as JSON values; empty where there is no such model."""
        found = self.over_level.get(side)
        return {} if found is None else over_level_numbers(found)

    def quality_numbers(self) -> dict[str, Any]:
        """How the other pictures changed, as JSON values."""
        return {
            "keep_loss": describe(self.loss_rise),
            "digits": describe(self.digits),
            "samples": describe(self.samples),
        }


def over_level_numbers(found: OverLevel) -> dict[str, Any]:
    """One model's losses over levels as JSON values."""
    return {
        "over_level": {
            "timesteps": list(found.timesteps),
            "mean": found.mean.tolist(),
            "intervals": found.intervals.tolist(),
            "by_image": found.overall.tolist(),
        }
    }


def judge_run(
    job: Job,
    measured: tuple[Measurement, Measurement],
    losses: tuple[Losses, Losses],
    reference: Losses | None = None,
    reference_numbers: Mapping[str, Any] | None = None,
) -> Judgement:
    """Judge a run by its measurements and losses before and after, and its reference's.

    Args:
        job: The run's job, with levels.
        measured: Before and after.
        losses: Likewise.
        reference: What a model that never saw the images loses; None without one.
        reference_numbers: What was measured of it, as a report holds it; None likewise.
    """
    levels = job.levels
    assert levels is not None
    before, after = measured
    sides = {"before": losses[0], "after": losses[1]}
    if reference is not None:
        sides["reference"] = reference
    over = {side: over_level(levels, found.forget) for side, found in sides.items()}
    restored = (reference_numbers or {}).get("regeneration", {})
    shares = {int(timestep): share for timestep, share in restored.items()}
    middle = job.model.process.num_train_timesteps // 2
    usual = NoMemory(
        shares, control_shares(job, after, middle, shares), drawn_as_before(job, before, after)
    )
    memory = [reproduction(after, middle, usual)]
    if reference is None:
        memory.append(against_level(over["after"], (~levels.unfamiliar).tolist()))
    else:
        by_reference = replace(levels, level=reference.forget)
        memory.append(against_reference(over_level(by_reference, losses[1].forget)))
    return _judged(job, memory, over, (before, after), losses)


def drawn_as_before(job: Job, before: Measurement, after: Measurement) -> int | None:
    """How many samples for the images' own prompts are as near to an image as those before.

    As near as three quarters of the copies before. None of a model that takes no prompts.
    """
    if not job.prompts or after.broken is not None:
        return None
    if not bool(before.copies.any()) or not len(after.samples):
        return 0
    copies = before.samples[before.copies]
    then, now = (
        pixel_distances(samples, job.originals).min(dim=1).values
        for samples in (copies, after.samples)
    )
    return int((now <= then.quantile(AS_NEAR)).sum())


def control_shares(
    job: Job, after: Measurement, middle: int, known: Collection[int] = ()
) -> dict[int, float]:
    """How often the job's model restores the pictures as it never saw them, by timestep.

    Where it restores the pictures themselves: at noise levels from ``middle`` on, without the
    ``known`` ones.
    """
    if after.broken is not None:
        return {}
    settings, found = job.config.evaluation, {}
    drawing = Drawing(
        settings.seed, settings.regeneration_steps, settings.batch_size, checked=False
    )
    for tried in after.regenerations:
        above = tried.timestep >= middle and tried.share > FORGOTTEN_BELOW
        if not above or tried.timestep in known:
            continue
        never = control(job, job.model, tried.timestep, settings.regeneration_copies, drawing)
        if never is not None:
            found[tried.timestep] = never.share
    return found


def _judged(
    job: Job,
    memory: list[MemoryFinding],
    over: Mapping[str, OverLevel],
    measured: tuple[Measurement, Measurement],
    losses: tuple[Losses, Losses],
) -> Judgement:
    """The judgement with what is said of the other pictures."""
    keep_before, keep_after = losses[0].keep, losses[1].keep
    assert keep_before is not None
    assert keep_after is not None
    rise = loss_rise(keep_before, keep_after)
    digits = compare_quality(*measured)
    samples: SampleChange | str = "digits were judged instead"
    if digits is None:
        samples = sample_change(job, *measured)
    quality = [rise.finding]
    nothing = measured[1].blank
    if nothing is not None and measured[0].blank is None:
        quality.append(Finding(Quality.LOST, nothing))
    if digits is not None:
        quality.append(digits_finding(digits))
    else:
        quality.append(
            samples.finding
            if isinstance(samples, SampleChange)
            else Finding(Quality.CANNOT_TELL, samples)
        )
    return Judgement(Verdict(memory, quality), over, rise, digits, samples)


def digits_finding(change: QualityChange) -> Finding:
    """What digits say about quality: their score and the share of broken pictures."""
    low, high = change.score_ratio_interval
    found = [
        AtMost(MOST_SCORE_LOSS).judge((1 - high, 1 - low)),
        AtMost(MOST_BROKEN_INCREASE).judge(change.broken_increase_interval),
    ]
    quality = overall(Finding(each, "") for each in found)
    more = MORE_SAMPLES if quality is Quality.CANNOT_TELL else ""
    return Finding(quality, quality_words(change) + more)
