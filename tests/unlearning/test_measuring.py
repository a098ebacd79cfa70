from __future__ import annotations

import numpy as np
import pytest
import torch

from dataunlearn.assets import asset
from dataunlearn.data import open_images
from dataunlearn.metrics.pixel_distance import are_copies
from dataunlearn.unlearning.config import Evaluation
from dataunlearn.unlearning.measuring import (
    Measurement,
    QualityChange,
    compare_quality,
    judge,
    quality_words,
)


def test_digit_quality_in_words() -> None:
    said = quality_words(QualityChange(0.99, (0.95, 1.03), 0.012, (-0.004, 0.028)))
    assert said == (
        "Inception Score without copies 99.0% of before (between 95.0% and 103.0%), "
        "broken pictures +1.2 points "
        "(between -0.4 and +2.8)"
    )


def digits(count: int, seed: int) -> torch.Tensor:
    return torch.rand(count, 1, 28, 28, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_pairs_stay_pairs_when_copies_are_left_out() -> None:
    """A copy in either model drops that seed on both sides; equal models give ratio 1 exactly."""
    settings = Evaluation(num_samples=40, digits=True)
    original = torch.ones(1, 1, 28, 28)
    before, after = digits(40, 0), digits(40, 0)
    before[3], after[7] = original[0], original[0]
    measured = [judge(images, [], original, 5.0, settings) for images in (before, after)]
    assert [int(found.copies.sum()) for found in measured] == [1, 1]
    change = compare_quality(*measured)
    assert change is not None
    assert change.score_ratio == 1.0
    assert change.score_ratio_interval == (1.0, 1.0)
    assert change.broken_increase_interval == (0.0, 0.0)


def test_broken_pictures_are_compared_in_pairs() -> None:
    """Blank pictures, which are broken ones, in place of digits: nobody else's share moves."""
    settings = Evaluation(num_samples=60, digits=True)
    shown = open_images(asset("digits.npz"), (1, 28, 28)).batch(torch.arange(60))
    spoilt = torch.cat([torch.full((15, 1, 28, 28), -1.0), shown[15:]])
    measured = [judge(images, [], -shown[:1], 1.0, settings) for images in (shown, spoilt)]
    change = compare_quality(*measured)
    assert change is not None
    assert change.broken_increase == pytest.approx(15 / 60, abs=0.02)
    low, high = change.broken_increase_interval
    assert 0.1 < low < 0.25 < high < 0.4


def test_numbers_of_a_measurement() -> None:
    images = digits(30, 1)
    found = judge(images, [], images[:2], 1.0, Evaluation(num_samples=30, digits=True))
    assert torch.equal(found.copies, are_copies(images, images[:2], 1.0))
    assert found.numbers["copy_frequency"] == pytest.approx(2 / 30)
    assert found.numbers["num_digits"] == 28
    assert found.numbers["broken_share"] > 0.9  # noise is no digit
    assert sum(found.numbers["class_histogram"]) == round(28 * (1 - found.numbers["broken_share"]))
    assert np.isfinite(found.numbers["inception_score"])


def test_without_digits_there_is_no_comparison() -> None:
    images = digits(4, 2)
    plain: Measurement = judge(images, [], images[:1], 1.0, Evaluation(num_samples=4))
    assert compare_quality(plain, plain) is None
    assert "inception_score" not in plain.numbers
