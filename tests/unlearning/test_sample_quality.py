"""Samples after against samples before: KID to pictures to keep, and how far they moved."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torchmetrics.image.kid import poly_mmd

from dataunlearn.data import ArrayImages
from dataunlearn.metrics.embedders import open_embedder
from dataunlearn.unlearning import sample_quality
from dataunlearn.unlearning.measuring import Measurement
from dataunlearn.unlearning.quality import Quality
from dataunlearn.unlearning.sample_quality import SampleChange, drift, kid_rise, sample_change


def features(count: int, seed: int, shift: float = 0.0) -> Tensor:
    return torch.randn(count, 8, generator=torch.Generator().manual_seed(seed)) + shift


def test_equal_samples_have_not_risen() -> None:
    before = features(128, 0)
    rise, (low, high) = kid_rise(before, before.clone(), features(200, 1))
    assert rise == low == high == 0


def test_samples_of_the_same_kind_have_not_risen_within_the_interval() -> None:
    rise, (low, high) = kid_rise(features(256, 0), features(256, 2), features(256, 1))
    assert low < 0 < high
    assert low < rise < high


def test_broken_samples_have_risen_for_certain() -> None:
    before, keep = features(128, 0), features(200, 1)
    rise, (low, high) = kid_rise(before, before + 3, keep)
    assert 0 < low < rise < high
    whole = float(poly_mmd(keep[:128], before + 3) - poly_mmd(keep[:128], before))
    assert rise == pytest.approx(whole, rel=0.1)
    mended, _ = kid_rise(before + 3, before, keep)
    assert mended < 0


def test_drift_is_0_of_equal_samples_and_1_of_unrelated_ones() -> None:
    first, other = (
        torch.randn(400, 1, 8, 8, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1)
    )
    assert drift(first, first.clone()) == 0
    assert drift(first, other) == pytest.approx(1, abs=0.05)
    assert 0 < drift(first, first + 0.1) < 0.2


def pictures(count: int, seed: int) -> Tensor:
    return torch.rand(count, 1, 8, 8, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def measured(samples: Tensor, copies: int = 0) -> Measurement:
    return Measurement(samples, [], torch.arange(len(samples)) < copies, {})


def make_job(make_images: Any, num_keep: int = 100) -> Any:
    return SimpleNamespace(
        model=SimpleNamespace(image_shape=(1, 8, 8), device=torch.device("cpu")),
        split=SimpleNamespace(keep=make_images(num_keep)),
        config=SimpleNamespace(evaluation=SimpleNamespace(seed=0)),
    )


@pytest.fixture
def by_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compare by pixels, whatever is installed."""
    monkeypatch.setattr(sample_quality, "embedder_for", lambda *_, **__: open_embedder("pixels"))


@pytest.mark.parametrize(("samples", "copies"), [(63, 0), (70, 7), (0, 0)])
def test_too_few_samples_say_nothing(samples: int, copies: int, make_images: Any) -> None:
    """Those left once copies are out, in either model."""
    both = pictures(samples, 0)
    found = sample_change(make_job(make_images), measured(both, copies), measured(both))
    assert isinstance(found, str)
    beside = f" ({copies} more are copies)" if copies else ""
    assert f"{samples - copies} samples{beside} say nothing" in found
    assert "at least 64" in found


def test_too_few_pictures_to_keep_say_nothing(make_images: Any, by_pixels: None) -> None:
    both = measured(pictures(64, 0))
    found = sample_change(make_job(make_images, 15), both, both)
    assert found == "samples cannot be compared with 15 pictures to keep: at least 16 are needed"
    assert isinstance(sample_change(make_job(make_images, 16), both, both), SampleChange)


def test_without_an_embedder_it_says_why(make_images: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: Any, **__: Any) -> None:
        raise ValueError("install the extra")

    monkeypatch.setattr(sample_quality, "embedder_for", missing)
    both = measured(pictures(64, 0))
    found = sample_change(make_job(make_images), both, both)
    assert found == "samples were not compared: install the extra"


def test_samples_that_did_not_change_are_kept(make_images: Any, by_pixels: None) -> None:
    both = measured(pictures(70, 0), copies=3)
    found = sample_change(make_job(make_images), both, both)
    assert isinstance(found, SampleChange)
    assert (found.kid_rise, found.drift, found.num_samples) == (0, 0, 67)
    assert found.finding.quality is Quality.KEPT
    assert "67 samples" in found.finding.words and "+0.000" in found.finding.words


def test_broken_samples_are_lost(make_images: Any, by_pixels: None) -> None:
    before = pictures(80, 0)
    found = sample_change(
        make_job(make_images), measured(before), measured(torch.ones_like(before))
    )
    assert isinstance(found, SampleChange)
    assert found.kid_rise > found.interval[0] > sample_quality.MOST_KID_RISE
    assert found.finding.quality is Quality.LOST


def test_samples_for_other_prompts_are_judged_where_there_are_any(
    make_images: Any, by_pixels: None
) -> None:
    """All samples for the images' own prompts may be copies before, and change for good."""
    own, others = pictures(80, 0), pictures(70, 1)
    before = replace(measured(own, copies=80), others=others)
    same = replace(measured(-own), others=others)
    found = sample_change(make_job(make_images), before, same)
    assert isinstance(found, SampleChange)
    assert (found.kid_rise, found.num_samples) == (0, 70)
    broken = replace(measured(own), others=torch.ones_like(others))
    found = sample_change(make_job(make_images), before, broken)
    assert isinstance(found, SampleChange)
    assert found.finding.quality is Quality.LOST
    blank = replace(measured(own), others=others * math.nan)
    assert blank.broken == "70 of the 70 samples for other prompts are not finite"
    found = sample_change(make_job(make_images), before, blank)
    assert isinstance(found, SampleChange)
    assert found.finding.quality is Quality.LOST


def test_samples_that_are_not_finite_are_lost(make_images: Any) -> None:
    before = pictures(80, 0)
    after = before.clone()
    after[3] = math.nan
    found = sample_change(make_job(make_images), measured(before), measured(after))
    assert isinstance(found, SampleChange)
    assert found.finding.quality is Quality.LOST


def test_a_change_that_is_not_certain_cannot_be_told() -> None:
    found = SampleChange("pixels", 0.04, (0.03, 0.05), 0.5, 128)
    assert found.finding.quality is Quality.CANNOT_TELL
    assert (
        "+0.040 (between +0.030 and +0.050, at most 0.045 allowed; pixels)" in found.finding.words
    )


def test_grey_pictures_in_memory_are_compared_with_keep(make_images: Any, by_pixels: None) -> None:
    """Samples that come nearer to the pictures to keep make KID fall."""
    keep: ArrayImages = make_images(64)
    near = keep.batch(torch.arange(64))
    job = make_job(make_images, 64)
    found = sample_change(job, measured(torch.zeros(64, 1, 8, 8)), measured(near))
    assert isinstance(found, SampleChange)
    assert found.interval[1] < 0
