"""Copy similarity: angles by hand, thresholds, and the degenerate cases."""

from __future__ import annotations

import math

import pytest
import torch

from dataunlearn.metrics.embedders import open_embedder
from dataunlearn.metrics.similarity import (
    calibrate,
    copy_share,
    copy_similarity,
    limited_similarity,
    similarities,
    within_distance,
)

PIXELS = open_embedder("pixels")


def pictures(*angles: float) -> torch.Tensor:
    """Two-pixel pictures at these angles in degrees: their similarity is the cosine."""
    radians = [math.radians(angle) for angle in angles]
    return torch.tensor([[math.cos(a), math.sin(a)] for a in radians]).reshape(-1, 1, 1, 2)


def test_similarity_is_the_cosine() -> None:
    found = similarities(PIXELS, pictures(0, 60, 180), pictures(0, 90))
    expected = torch.tensor([[1.0, 0.0], [0.5, math.sqrt(0.75)], [-1.0, 0.0]])
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


def test_a_picture_is_fully_similar_to_itself() -> None:
    images = torch.rand(4, 3, 8, 8) * 2 - 1
    result = copy_similarity(PIXELS, images, images)
    assert result.value == pytest.approx(1, abs=1e-6)
    assert result.higher_is_better is False


def test_the_nearest_original_counts() -> None:
    result = copy_similarity(PIXELS, pictures(10, 100), pictures(0, 90))
    assert result.value == pytest.approx(math.cos(math.radians(10)))
    assert result.settings["embedder"] == "pixels"


def test_threshold_lies_half_way_between_the_nearest_other_and_a_copy() -> None:
    threshold = calibrate(PIXELS, pictures(60), pictures(0), name="keep")
    assert threshold.value == pytest.approx(0.75)
    assert (threshold.calibrated_on, threshold.num_pairs) == ("keep", 1)
    shares = copy_share(PIXELS, pictures(0, 30, 50, 90), pictures(0), threshold)
    assert shares.value == 0.5
    assert shares.per_item is not None
    assert shares.per_item.tolist() == [True, True, False, False]
    assert shares.settings["threshold"] == pytest.approx(0.75)
    assert shares.interval is not None
    assert shares.interval[0] < 0.5 < shares.interval[1]


def test_a_stray_duplicate_does_not_decide_the_threshold() -> None:
    different = torch.cat([pictures(*[90.0] * 400), pictures(1)])
    threshold = calibrate(PIXELS, different, pictures(0), name="keep")
    assert threshold.value == pytest.approx(0.5, abs=1e-6)


def test_empty_sets_are_errors() -> None:
    none = torch.zeros(0, 1, 1, 2)
    with pytest.raises(ValueError, match="no pictures"):
        copy_similarity(PIXELS, none, pictures(0))
    with pytest.raises(ValueError, match="no pictures"):
        calibrate(PIXELS, pictures(0), none, name="keep")


def test_far_pictures_are_moved_along_the_line_to_their_original_and_near_ones_stay() -> None:
    generator = torch.Generator().manual_seed(0)
    originals = torch.rand(3, 3, 8, 8, generator=generator) - 0.5
    change = torch.rand(3, 3, 8, 8, generator=generator)
    change = change * torch.tensor([0.01, 0.4, 0.6]).reshape(3, 1, 1, 1)
    moved = within_distance(originals + change, originals, 0.15)
    torch.testing.assert_close(moved[0], originals[0] + change[0])
    left = (moved - originals).flatten(1)
    torch.testing.assert_close(left[1:].square().mean(dim=1).sqrt(), torch.full((2,), 0.15))
    direction = torch.nn.functional.cosine_similarity(left, change.flatten(1))
    torch.testing.assert_close(direction, torch.ones(3))


def test_a_perfect_copy_stays() -> None:
    white = torch.ones(1, 1, 4, 4)
    assert within_distance(white, white).equal(white)
    with pytest.raises(ValueError, match="must be positive"):
        within_distance(white, white, 0)


def test_limited_similarity_does_not_depend_on_how_far_a_picture_went() -> None:
    originals = pictures(90, 0) * 0.8
    which = torch.tensor([1, 1])
    far, farther = originals[which], originals[which]
    far[:, :, :, 1] += 0.4
    farther[:, :, :, 1] += 0.9
    found = [limited_similarity(PIXELS, x, originals, which, 250) for x in (far, farther)]
    # At a right angle to (0.8, 0), with a root mean square of 0.2 over two pixels.
    expected = 0.8 / math.hypot(0.8, 0.2 * math.sqrt(2))
    assert [result.value for result in found] == pytest.approx([expected, expected])
    assert found[0].name == "limited_similarity_of_regeneration_250"
    assert found[0].higher_is_better is False
