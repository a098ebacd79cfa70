"""From a run's measurements to its verdict, on models that take everything for one picture."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dataunlearn.models import DiffusionModel
from dataunlearn.process import ForwardProcess
from dataunlearn.unlearning.config import Evaluation, Settings
from dataunlearn.unlearning.job import Job, prepare_with
from dataunlearn.unlearning.judging import (
    Judgement,
    Losses,
    drawn_as_before,
    judge_run,
    losses_now,
    losses_of_reference,
)
from dataunlearn.unlearning.measuring import Measurement, measure
from dataunlearn.unlearning.preparing import looked_at
from dataunlearn.unlearning.quality import Quality
from dataunlearn.unlearning.reference import Reference
from dataunlearn.unlearning.verdict import Memory

SETTINGS = Settings(
    evaluation=Evaluation(num_samples=0, regeneration_copies=4, regeneration_steps=2), force=True
)


class Recites(nn.Module):
    """A denoiser that takes everything for one picture."""

    def __init__(self, picture: Tensor, process: ForwardProcess) -> None:
        super().__init__()
        self.picture, self.process = nn.Parameter(picture), process

    def forward(self, noisy: Tensor, t: Tensor, cond: None) -> Tensor:
        return self.process.target(noisy, self.picture.expand_as(noisy), t)


@pytest.fixture
def job(make_model: Callable[..., DiffusionModel]) -> Job:
    """A model that knows nothing but nearly the forget image."""
    pixels = np.random.default_rng(0).integers(0, 256, (21, 8, 8), dtype=np.uint8)
    job = prepare_with(make_model(), SETTINGS, pixels[:1], pixels[1:], shown=False)
    recite(job, between(job, 0.05))
    return looked_at(job, shown=False)


def between(job: Job, share: float) -> Tensor:
    """What lies so far from the forget image towards a picture to keep."""
    other = job.split.keep.batch(torch.tensor([0]))
    return job.originals + share * (other - job.originals)


def recite(job: Job, picture: Tensor) -> None:
    job.model.denoiser = Recites(picture, job.model.process)


def state(job: Job) -> tuple[Measurement, Losses]:
    """All that is measured of the model as it is now."""
    with torch.no_grad():
        found = measure(job.model, job.originals, job.threshold, SETTINGS.evaluation, shown=False)
    return found, losses_now(job)


def judged(job: Job, after: Tensor, reference: Losses | None = None) -> Judgement:
    """The verdict once the model recites another picture."""
    before = state(job)
    recite(job, after)
    now = state(job)
    return judge_run(job, (before[0], now[0]), (before[1], now[1]), reference)


def test_a_model_that_did_not_change_still_knows_it(job: Job) -> None:
    found = judged(job, between(job, 0.05))
    assert found.verdict.memory is Memory.STILL_KNOWN
    assert found.verdict.exit_code == 4
    assert [each.memory for each in found.verdict.memory_findings] == [Memory.STILL_KNOWN] * 2
    assert float(found.over_level["after"].mean.max()) < 0.05
    assert found.loss_rise.ratios == (1.0,) * 5


def test_one_that_only_recognises_it_still_knows_it(job: Job) -> None:
    """Nothing comes back, but its loss is a quarter of what it loses on views and other pictures:
    half of the way to a picture to keep, squared."""
    job = replace(job, threshold=0.1)
    found = judged(job, between(job, 0.5))
    copies, level = found.verdict.memory_findings
    assert copies.memory is Memory.NEVER_SEEN
    assert level.memory is Memory.STILL_KNOWN
    assert found.verdict.exit_code == 4


def test_one_that_takes_it_for_another_is_as_if_it_never_saw_it(job: Job) -> None:
    """The level is the distance to a view of it, which for noise is that of any other picture."""
    found = judged(job, between(job, 1.0))
    assert found.verdict.memory is Memory.NEVER_SEEN
    assert found.loss_rise.finding.quality is not Quality.LOST
    assert found.verdict.quality is Quality.CANNOT_TELL  # without samples
    assert isinstance(found.samples, str) and "0 samples say nothing" in found.samples
    assert found.verdict.exit_code == 5


def test_one_that_was_pushed_away_is_seen(job: Job) -> None:
    """Three times the way to a picture to keep is nine times the loss."""
    found = judged(job, between(job, 3.0))
    assert found.verdict.memory is Memory.PUSHED_PAST
    assert found.verdict.quality is Quality.LOST
    assert found.verdict.exit_code == 5


def test_a_reference_takes_the_levels_place(
    job: Job, make_model: Callable[..., DiffusionModel]
) -> None:
    """One that loses as much as the model, or a ninth of it."""
    twin = make_model()
    recites = Reference(twin)
    for distance, expected in ((3.0, Memory.NEVER_SEEN), (1.0, Memory.PUSHED_PAST)):
        twin.denoiser = Recites(between(job, distance), twin.process)
        reference = losses_of_reference(replace(job, reference=recites))
        assert reference is not None and reference.keep is None
        recite(job, between(job, 0.05))
        found = judged(job, between(job, 3.0), reference)
        assert found.verdict.memory is expected
        assert "what a model that never saw it loses on it" in found.verdict.text
        assert set(found.over_level) == {"before", "after", "reference"}


@pytest.mark.parametrize("reference", [None, Reference(numbers={})])
def test_numbers_alone_are_no_model_to_ask(job: Job, reference: Reference | None) -> None:
    assert losses_of_reference(replace(job, reference=reference)) is None


def test_a_picture_that_is_familiar_however_it_is_turned(job: Job) -> None:
    assert job.levels is not None
    levels = replace(job.levels, unfamiliar=torch.tensor([False]))
    found = judged(replace(job, levels=levels), between(job, 1.0))
    assert found.verdict.memory is Memory.CANNOT_TELL
    assert found.verdict.exit_code == 5


def test_what_is_not_finite_is_no_success(job: Job) -> None:
    found = judged(job, torch.full_like(job.originals, math.nan))
    assert found.verdict.memory is Memory.CANNOT_TELL
    assert found.verdict.quality is Quality.LOST
    assert found.verdict.exit_code == 5


def test_numbers_for_the_report(job: Job) -> None:
    found = judged(job, between(job, 1.0))
    numbers: dict[str, Any] = found.over_level_numbers("after")["over_level"]
    assert numbers["timesteps"] == list(found.over_level["after"].timesteps)
    assert len(numbers["mean"]) == len(numbers["intervals"]) == len(numbers["timesteps"])
    assert len(numbers["by_image"]) == 1
    assert found.over_level_numbers("reference") == {}
    quality = found.quality_numbers()
    assert quality["keep_loss"]["num_pictures"] == 20
    assert quality["digits"] is None and "0 samples" in quality["samples"]
    assert json.loads(json.dumps([numbers, quality]))


def test_what_a_reference_does_not_know_counts_where_views_say_nothing(job: Job) -> None:
    """A kind of picture that only the forget set holds: its views are as well known as it is."""
    levels = job.levels
    assert levels is not None
    job = replace(job, levels=replace(levels, level=levels.before))
    alone = judged(job, between(job, 0.05))
    assert alone.verdict.memory_findings[1].memory is Memory.NEVER_SEEN
    found = judged(job, between(job, 0.05), Losses(levels.before * 10))
    assert found.verdict.memory_findings[1].memory is Memory.STILL_KNOWN
    assert "its loss is 0.1 times" in found.verdict.memory_findings[1].words


@pytest.mark.parametrize(("moved", "expected"), [(0.0, 4), (0.1, 4), (0.3, 3), (1.0, 0)])
def test_samples_as_near_as_those_before(job: Job, moved: float, expected: int) -> None:
    """Copies before lie 0, 0.1, 0.2 and 0.9 of a way off: three quarters of them within 0.375."""
    captioned = cast(Job, SimpleNamespace(prompts=["x"], originals=job.originals))
    way = torch.ones_like(job.originals)

    def drawn(steps: list[float], copies: list[bool]) -> Measurement:
        samples = torch.cat([job.originals + step * way for step in steps])
        return Measurement(samples, [], torch.tensor(copies), {})

    before = drawn([0, 0.1, 0.2, 0.9, 0.05], [True] * 4 + [False])
    after = drawn([moved, moved + 0.01, moved + 0.02, moved + 0.08], [False] * 4)
    assert drawn_as_before(captioned, before, after) == expected
    assert drawn_as_before(job, before, after) is None  # takes no prompts
    nothing = drawn([0, 0.1], [False] * 2)
    assert drawn_as_before(captioned, nothing, after) == 0
