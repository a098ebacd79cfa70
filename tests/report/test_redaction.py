"""Pages without the removed pictures."""

from __future__ import annotations

import numpy as np
import pytest

from dataunlearn.report.redaction import CELLS, GREY, blurred, redacted


def pictures(count: int, seed: int, side: int = 8) -> np.ndarray:
    shape = (count, side, side, 3)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


@pytest.fixture
def run() -> dict[str, np.ndarray]:
    """Two removed pictures, samples of which one is a copy, and tries to restore them."""
    forget = pictures(2, 0)
    samples = np.concatenate([pictures(3, 1), forget[:1]])
    return {"forget": forget, "before_samples": samples, "before_regeneration_500": pictures(2, 2)}


def test_copies_are_hidden_and_others_stay(run: dict[str, np.ndarray]) -> None:
    found = redacted(run, 1.0, "left_out")
    assert (found["forget"] == GREY).all()
    assert (found["before_regeneration_500"] == GREY).all()
    assert (found["before_samples"][3] == GREY).all()
    np.testing.assert_array_equal(found["before_samples"][:3], run["before_samples"][:3])


def test_without_a_threshold_all_samples_are_hidden(run: dict[str, np.ndarray]) -> None:
    assert (redacted(run, None, "left_out")["before_samples"] == GREY).all()


def test_shown_changes_nothing(run: dict[str, np.ndarray]) -> None:
    assert all((redacted(run, 1.0, "shown")[name] == run[name]).all() for name in run)


@pytest.mark.parametrize("side", [2, 8, 13])
def test_blurred_keeps_a_few_mean_colours(side: int) -> None:
    given = pictures(3, 4, side)
    found = blurred(given)
    assert found.shape == given.shape
    assert all(len(np.unique(each.reshape(-1, 3), axis=0)) <= CELLS**2 for each in found)
    np.testing.assert_allclose(found.mean(), given.mean(), atol=1)


def test_blurred_cells_are_means() -> None:
    given = pictures(1, 5, 8)
    np.testing.assert_allclose(
        blurred(given)[0, 0, 0], given[0, :2, :2].mean(axis=(0, 1)), atol=0.5001
    )
