"""What a model restores of pictures that it never saw."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dataunlearn.models import DiffusionModel
from dataunlearn.models.sampling import Drawing
from dataunlearn.process import ForwardProcess
from dataunlearn.unlearning.config import Evaluation, Settings
from dataunlearn.unlearning.control import control, unseen
from dataunlearn.unlearning.job import Job, prepare_with
from dataunlearn.unlearning.judging import control_shares
from dataunlearn.unlearning.measuring import measure
from dataunlearn.unlearning.stopping import tries_at_unseen
from toy_levels import levels_by_hand

SETTINGS = Settings(
    evaluation=Evaluation(num_samples=0, regeneration_copies=6, regeneration_steps=2), force=True
)
SHAPE = (1, 8, 8)
TIMES = (100, 500)


class Recites(nn.Module):
    """A denoiser that takes everything for the nearest of some pictures."""

    def __init__(self, pictures: Tensor, process: ForwardProcess) -> None:
        super().__init__()
        self.pictures, self.process = nn.Parameter(pictures), process

    def forward(self, noisy: Tensor, t: Tensor, cond: None) -> Tensor:
        apart = torch.cdist(noisy.flatten(1), self.pictures.flatten(1))
        return self.process.target(noisy, self.pictures[apart.argmin(1)], t)


@pytest.fixture
def job(make_model: Callable[..., DiffusionModel]) -> Job:
    """Two images: one turned, then upside down; the other upside down, then mirrored."""
    pixels = np.random.default_rng(0).integers(0, 256, (22, 8, 8), dtype=np.uint8)
    job = prepare_with(make_model(), SETTINGS, pixels[:2], pixels[2:], shown=False)
    levels = levels_by_hand([[0.9, 0.5]] * 2, SHAPE, TIMES)
    names = list(levels.views)
    chosen = [[names.index(name) for name in own] for own in (VIEWS[:2], VIEWS[1:])]
    return replace(job, levels=levels_by_hand([[0.9, 0.5]] * 2, SHAPE, TIMES, chosen=chosen))


VIEWS = ("half turn", "upside down", "mirrored")


def test_one_view_of_each_and_then_another(job: Job) -> None:
    found = unseen(job)
    assert found is not None
    one, two = job.originals
    expected = [one.flip(1, 2), two.flip(1), one.flip(1), two.flip(2)]
    assert torch.equal(found.pictures, torch.stack(expected))
    assert found.owner.tolist() == [0, 1, 0, 1]
    assert found.cond is None


def test_images_that_are_recognised_through_every_view_are_left_out(job: Job) -> None:
    assert job.levels is not None
    some = replace(job, levels=replace(job.levels, unfamiliar=torch.tensor([False, True])))
    found = unseen(some)
    assert found is not None
    assert found.owner.tolist() == [1, 1]
    none = replace(job, levels=replace(job.levels, unfamiliar=torch.zeros(2, dtype=torch.bool)))
    assert unseen(none) is None
    assert unseen(replace(job, levels=None)) is None
    assert control(none, none.model, 500, 4, Drawing()) is None


@pytest.mark.parametrize(("known", "by_image"), [(2, (0.0, 0.0)), (4, (0.5, 0.5)), (6, (1.0, 1.0))])
def test_shares_by_image(job: Job, known: int, by_image: tuple[float, float]) -> None:
    """A model that knows the images alone, with one view of each, and with both."""
    found = unseen(job)
    assert found is not None
    pictures = torch.cat([job.originals, found.pictures])[:known]
    job.model.denoiser = Recites(pictures, job.model.process)
    tried = control(job, job.model, 100, 8, Drawing(num_steps=2))
    assert tried is not None
    assert tuple(tried.by_image.tolist()) == by_image
    assert tried.share == sum(by_image) / 2


@pytest.mark.parametrize("known", [2, 6])
def test_only_what_comes_back_itself_is_compared(job: Job, known: int) -> None:
    """All images come back; of a model that recites their views, too, these do as well."""
    found = unseen(job)
    assert found is not None
    pictures = torch.cat([job.originals, found.pictures])[:known]
    job.model.denoiser = Recites(pictures, job.model.process)
    after = measure(job.model, job.originals, job.threshold, SETTINGS.evaluation, shown=False)
    shares = {tried.timestep: tried.share for tried in after.regenerations if tried.share > 0.05}
    assert shares
    never = control_shares(job, after, 0)
    assert set(never) == set(shares)
    assert not control_shares(job, after, 0, known=[*shares])
    assert not control_shares(job, after, 10_000)
    lowest = min(never)
    assert (never[lowest] > 0.9) is (known == 6)


def test_looks_count_against_tries_with_the_model_as_it_is_then(job: Job) -> None:
    job.model.denoiser = Recites(job.originals, job.model.process)
    tried = tries_at_unseen(job, job.model, 10, 6)
    assert tried is not None
    assert tried.share == 0
