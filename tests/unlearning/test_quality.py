"""Quality of the other pictures: kept, lost or cannot tell, by intervals."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from dataunlearn.unlearning.judging import digits_finding
from dataunlearn.unlearning.measuring import QualityChange
from dataunlearn.unlearning.quality import (
    MOST_LOSS_RATIO,
    AtMost,
    Finding,
    KeepLosses,
    LossRise,
    Quality,
    in_words,
    keep_losses,
    loss_rise,
    overall,
)


@pytest.mark.parametrize(
    ("interval", "expected"),
    [
        ((0.0, 0.1), Quality.KEPT),
        ((-3.0, 0.05), Quality.KEPT),
        ((0.05, 0.11), Quality.CANNOT_TELL),
        ((0.1, 0.2), Quality.CANNOT_TELL),  # the limit itself is allowed
        ((0.11, 0.2), Quality.LOST),
        ((math.nan, math.nan), Quality.LOST),
        ((0.0, math.inf), Quality.LOST),
    ],
)
def test_a_limit_needs_certainty(interval: tuple[float, float], expected: Quality) -> None:
    assert AtMost(0.1).judge(interval) is expected


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ("KK", Quality.KEPT),
        ("KL", Quality.LOST),
        ("LC", Quality.LOST),
        ("KC", Quality.CANNOT_TELL),
        ("", Quality.CANNOT_TELL),
    ],
)
def test_the_worst_finding_decides(found: str, expected: Quality) -> None:
    named = {"K": Quality.KEPT, "L": Quality.LOST, "C": Quality.CANNOT_TELL}
    assert overall(Finding(named[letter], "") for letter in found) is expected


def test_the_worst_finding_is_said_first() -> None:
    found = [
        Finding(Quality.KEPT, "good"),
        Finding(Quality.CANNOT_TELL, "unsure"),
        Finding(Quality.LOST, "bad"),
    ]
    assert in_words(found) == "bad; unsure; good"


def losses(factor: float | list[float], spread: float = 0.0, count: int = 60) -> KeepLosses:
    """Losses of pictures at three noise levels, raised by a factor; noisy by ``spread``."""
    draw = torch.Generator().manual_seed(1)
    plain = 1 + torch.rand(count, 3, generator=draw, dtype=torch.float64)
    noise = (spread * torch.randn(count, 3, generator=draw, dtype=torch.float64)).exp()
    factors = torch.tensor(factor, dtype=torch.float64)
    return KeepLosses((100, 200, 300), plain * noise * factors)


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        (losses(1.0), Quality.KEPT),
        (losses(0.5), Quality.KEPT),
        (losses(MOST_LOSS_RATIO - 0.01), Quality.KEPT),
        (losses(MOST_LOSS_RATIO + 0.01), Quality.LOST),
        (losses([1.0, 1.0, 1.3]), Quality.LOST),  # at one noise level
        (losses(MOST_LOSS_RATIO - 0.01, spread=0.5), Quality.CANNOT_TELL),
    ],
)
def test_the_loss_on_pictures_to_keep(after: KeepLosses, expected: Quality) -> None:
    assert 1 < MOST_LOSS_RATIO < 1.3
    assert loss_rise(losses(1.0), after).finding.quality is expected


def test_a_constant_factor_has_an_interval_without_width() -> None:
    """Pictures are paired: what they all share does not widen the interval of the ratio."""
    rise = loss_rise(losses(1.0), losses([1.0, 1.05, 1.02]))
    assert rise.ratios == pytest.approx((1.0, 1.05, 1.02))
    assert rise.intervals[1] == pytest.approx((1.05, 1.05))
    assert rise.worst == 1 and rise.num_pictures == 60
    assert "60 pictures to keep +5%" in rise.finding.words
    assert "t=200 (between +5% and +5%)" in rise.finding.words


def test_a_few_pictures_say_nothing_about_others() -> None:
    """However narrow the interval is; that they are lost they do say."""
    few = [replace(losses(level), losses=losses(level).losses[:1]) for level in (1.0, 1.0, 9.0)]
    kept, lost = (loss_rise(few[0], after).finding for after in few[1:])
    assert kept.quality is Quality.CANNOT_TELL
    assert "of 1 picture to keep" in kept.words and "fewer than 8 say nothing" in kept.words
    assert lost.quality is Quality.LOST


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_model_that_predicts_nothing_finite_has_lost(value: float) -> None:
    after = losses(1.0)
    after.losses[7, 1] = value
    rise = loss_rise(losses(1.0), after)
    assert rise.worst == 1
    assert rise.finding.quality is Quality.LOST


def test_the_level_with_the_largest_rise_is_named() -> None:
    rise = LossRise((10, 20), (1.0, math.nan), ((0.9, 1.1), (math.nan, math.nan)), 5)
    assert "t=20" in rise.finding.words


def test_losses_are_those_of_the_same_pictures_and_noise(make_model: Any, make_images: Any) -> None:
    job: Any = SimpleNamespace(
        model=make_model(),
        split=SimpleNamespace(keep=make_images(200)),
        config=SimpleNamespace(evaluation=SimpleNamespace(seed=3)),
    )
    first, again = keep_losses(job), keep_losses(job)
    assert first.timesteps == (100, 200, 300, 500, 700)
    assert first.losses.shape == (128, 5)
    assert torch.equal(first.losses, again.losses)
    same = loss_rise(first, again)
    assert same.ratios == (1.0,) * 5
    assert same.finding.quality is Quality.KEPT


@pytest.mark.parametrize(
    ("score", "broken", "expected"),
    [
        ((0.98, 1.02), (-0.01, 0.02), Quality.KEPT),
        ((0.98, 1.02), (0.045, 0.07), Quality.LOST),
        ((0.98, 1.02), (0.01, 0.05), Quality.CANNOT_TELL),
        ((0.88, 0.92), (-0.01, 0.01), Quality.LOST),
        ((0.93, 1.03), (-0.01, 0.01), Quality.CANNOT_TELL),
        ((0.93, 1.03), (0.2, 0.3), Quality.LOST),
    ],
)
def test_digits(score: tuple[float, float], broken: tuple[float, float], expected: Quality) -> None:
    ratio = sum(score) / 2
    found = digits_finding(QualityChange(ratio, score, sum(broken) / 2, broken))
    assert found.quality is expected
    assert f"Inception Score without copies {ratio:.1%} of before" in found.words
