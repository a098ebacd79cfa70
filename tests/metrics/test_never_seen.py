"""Losses over levels: what was recognised, ratios and their intervals, and the measure."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from dataunlearn.metrics import never_seen
from dataunlearn.metrics.inputs import Inputs
from dataunlearn.metrics.never_seen import (
    NeverSeen,
    different_pictures,
    levels_of,
    losses_at_levels,
    over_level,
    witness_of,
)
from dataunlearn.models import DiffusionModel
from dataunlearn.process import ForwardProcess
from dataunlearn.recognition.levels import Levels
from toy_levels import levels_by_hand

TIMESTEPS = (100, 300, 600)


def by_hand(recognition: list[list[float]]) -> Levels:
    return levels_by_hand(recognition, (1, 8, 8), TIMESTEPS)


def test_a_model_at_its_level_has_a_ratio_of_one() -> None:
    levels = by_hand([[0.9, 0.5, 0.4]] * 3)
    # the mean of logs is not the log of the mean: levels are 2 and 4, and are compared by their 3
    found = over_level(levels, levels.level.mean(2, keepdim=True).expand(3, 3, 2))
    assert found.timesteps == TIMESTEPS
    ones = torch.ones(3, dtype=torch.float64)
    torch.testing.assert_close(found.mean, ones)
    torch.testing.assert_close(found.intervals, torch.ones(3, 2, dtype=torch.float64))
    torch.testing.assert_close(found.overall, ones)


def test_noise_levels_count_where_images_are_recognised() -> None:
    """On average over images, at least 0.3."""
    levels = by_hand([[0.9, 0.5, 0.5], [0.1, 0.2, 0.0]])
    found = over_level(levels, levels.level)
    assert found.timesteps == (100, 300)
    assert found.by_image.shape == (2, 2) and found.intervals.shape == (2, 2)
    nowhere = over_level(by_hand([[0.2, 0.1, 0.0]] * 2), levels.level)
    assert nowhere.timesteps == ()
    assert nowhere.intervals.shape == (0, 2)
    assert nowhere.overall.tolist() == [1, 1]


def test_ratios_are_geometric_means() -> None:
    """By hand, over draws and then over images: the level is 3, two draws lose 3/4 and 12."""
    levels = by_hand([[0.9, 0.9, 0.9], [0.9, 0.9, 0.9]])
    losses = torch.tensor([0.75, 12.0], dtype=torch.float64).expand(2, 3, 2).clone()
    losses[1] *= 4
    found = over_level(levels, losses)
    torch.testing.assert_close(found.overall, torch.tensor([1.0, 4.0], dtype=torch.float64))
    torch.testing.assert_close(found.mean, torch.full((3,), 2.0, dtype=torch.float64))
    low, high = found.intervals[0].tolist()
    assert 0.25 <= low < 2 < high <= 16  # resampled from 1/4, 4, 1 and 16


def test_the_interval_covers_the_mean_of_many() -> None:
    """40 images with log ratios of spread 0.5: half a width of about 1.96 * 0.5 / sqrt(80)."""
    levels = by_hand([[0.9, 0.9, 0.9]] * 40)
    noise = torch.randn(40, 3, 2, generator=torch.Generator().manual_seed(0)).double()
    found = over_level(levels, 3 * (0.5 * noise).exp())
    width = (found.intervals[:, 1] / found.intervals[:, 0]).log() / 2
    expected = torch.full((3,), 1.96 * 0.5 / math.sqrt(80), dtype=torch.float64)
    torch.testing.assert_close(width, expected, rtol=0.2, atol=0)
    assert bool((found.intervals[:, 0] < found.mean).all())


def test_another_model_can_be_the_yardstick() -> None:
    """Then noise levels count where that model loses more than the one before."""
    levels = by_hand([[0.9, 0.2, 0.0]])
    found = over_level(replace(levels, level=levels.level * 10), levels.level * 5)
    everywhere = over_level(by_hand([[0.9, 0.9, 0.9]]), levels.level)
    assert found.timesteps == everywhere.timesteps
    torch.testing.assert_close(found.mean, everywhere.mean / 2)


def test_what_is_not_finite_has_no_interval() -> None:
    levels = by_hand([[0.9, 0.9, 0.9]] * 2)
    losses = levels.level.clone()
    losses[1, 1, 0] = math.nan
    found = over_level(levels, losses)
    assert torch.isfinite(found.mean).tolist() == [True, False, True]
    assert found.intervals.isnan().tolist() == [[False] * 2, [True] * 2, [False] * 2]


def test_losses_are_taken_with_the_levels_noise(make_model: Any, make_images: Any) -> None:
    """However many draws it was measured with."""
    model, forget = make_model(), make_images(3)
    levels = by_hand([[0.9, 0.9, 0.9]] * 3)  # which has two draws, where three images have 8
    found = losses_at_levels(model, forget, levels, 5)
    witness = witness_of(model, 3, 5)
    assert witness.num_draws == 8
    expected = witness.mean_losses(different_pictures(model, forget), TIMESTEPS)
    torch.testing.assert_close(found, expected[:, :, :2])


class Recites(torch.nn.Module):
    """A denoiser that takes everything for one picture."""

    def __init__(self, picture: Tensor, process: ForwardProcess) -> None:
        super().__init__()
        self.picture, self.process = torch.nn.Parameter(picture), process

    def forward(self, noisy: Tensor, t: Tensor, cond: None) -> Tensor:
        return self.process.target(noisy, self.picture.expand_as(noisy), t)


@pytest.fixture
def inputs(make_model: Any, make_images: Any) -> Inputs:
    """A model that knows nothing but nearly the forget image, before; another one after."""
    forget, keep = make_images(1, 1), make_images(20, 2)
    before: DiffusionModel = make_model()
    own, other = forget.batch(torch.tensor([0])), keep.batch(torch.tensor([0]))
    before.denoiser = Recites(own + 0.05 * (other - own), before.process)
    return Inputs(before, forget=forget, keep=keep, before=before, shown=False)


def test_a_model_that_still_knows_it_lies_below_one(inputs: Inputs) -> None:
    """It loses 0.05^2 of what it loses on other pictures; views of noise are as far as those."""
    results = NeverSeen()(inputs)
    *at_levels, last = results
    names = {result.name for result in at_levels}
    assert {"never_seen_100", "never_seen_500"} <= names
    assert last.name == "never_seen" and last.value == pytest.approx(0.05**2, rel=0.5)
    assert last.per_item is not None and last.per_item.shape == (1,)
    for result in at_levels:
        low, high = result.interval or (math.nan, math.nan)
        assert low <= result.value <= high < 0.01
    assert last.settings["unfamiliar"] == [True]


def test_a_model_that_takes_it_for_another_lies_at_one(
    inputs: Inputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The level as the loss of the model itself, measured once with the model before."""
    assert inputs.before is not None and inputs.forget is not None and inputs.keep is not None
    levels = levels_of(inputs.before, inputs.forget, inputs.keep, shown=False)
    level = losses_at_levels(inputs.model, inputs.forget, levels, inputs.seed)
    monkeypatch.setattr(never_seen, "levels_of", lambda *_, **__: replace(levels, level=level))
    monkeypatch.setattr(never_seen, "LEAST_RECOGNITION", -1.0)
    results = NeverSeen()(inputs)
    assert len(results) == 1 + len(levels.timesteps)
    assert [result.value for result in results] == pytest.approx([1.0] * len(results), rel=1e-2)


def test_it_needs_the_model_before(inputs: Inputs) -> None:
    NeverSeen().check(inputs)
    with pytest.raises(ValueError, match="NeverSeen needs --before"):
        NeverSeen().check(replace(inputs, before=None))
    with pytest.raises(ValueError, match="keep"):
        NeverSeen().check(replace(inputs, keep=None))
