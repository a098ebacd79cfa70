import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import binomtest  # type: ignore[import-untyped]

from dataunlearn.metrics.intervals import mean_of_pairs_bootstrap, paired_bootstrap, wilson


def ratio_of_means(before: NDArray[np.float64], after: NDArray[np.float64]) -> float:
    return float(after.mean() / before.mean())


def mean(values: NDArray[np.float64]) -> float:
    return float(values.mean())


@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.999])
@pytest.mark.parametrize(
    ("successes", "trials"), [(0, 1), (1, 1), (0, 512), (3, 512), (256, 512), (512, 512), (7, 9)]
)
def test_wilson_is_scipys(successes: int, trials: int, confidence: float) -> None:
    test = binomtest(successes, trials)
    expected = test.proportion_ci(confidence_level=confidence, method="wilson")
    np.testing.assert_allclose(
        wilson(successes, trials, confidence), (expected.low, expected.high), rtol=0, atol=1e-12
    )


def test_wilson_of_none_and_all_mirror_each_other_and_touch_the_end() -> None:
    lo, hi = wilson(0, 20)
    assert lo == 0.0
    np.testing.assert_allclose(wilson(20, 20), (1 - hi, 1.0), atol=1e-15)
    assert wilson(20, 20)[1] == 1.0


@pytest.mark.parametrize(
    ("successes", "trials", "confidence"),
    [(0, 0, 0.95), (-1, 5, 0.95), (6, 5, 0.95), (1, 5, 0.0), (1, 5, 1.0), (1, 5, math.nan)],
)
def test_wilson_rejects(successes: int, trials: int, confidence: float) -> None:
    with pytest.raises(ValueError, match="give"):
        wilson(successes, trials, confidence)


def test_bootstrap_of_a_mean_is_the_normal_interval() -> None:
    """Large N: the bootstrap mean is normal with standard deviation std / sqrt(N)."""
    values = np.random.default_rng(1).exponential(size=2000)
    half_width = 1.959964 * values.std() / math.sqrt(len(values))
    lo, hi = paired_bootstrap(mean, values, num_resamples=4000)
    np.testing.assert_allclose(
        (lo, hi), values.mean() + np.array([-1, 1]) * half_width, rtol=0, atol=0.1 * half_width
    )


def test_bootstrap_of_two_rows_is_exact() -> None:
    """The mean of 2 draws from {0, 1} is 0, 1/2, 1 with shares 1/4, 1/2, 1/4.

    So the central 95 % interval is (0, 1) and the central 40 % interval is (1/2, 1/2).
    """
    values = np.array([0.0, 1.0])
    assert paired_bootstrap(mean, values) == (0.0, 1.0)
    assert paired_bootstrap(mean, values, confidence=0.4) == (0.5, 0.5)


def test_bootstrap_keeps_rows_paired() -> None:
    """If after = 0.9 before row by row, the ratio of means is 0.9 in every paired resample."""
    before = np.random.default_rng(2).uniform(0.1, 5, size=50)
    interval = paired_bootstrap(ratio_of_means, before, 0.9 * before)
    np.testing.assert_allclose(interval, (0.9, 0.9), rtol=1e-12)


def test_bootstrap_resamples_rows_of_matrices() -> None:
    rows = np.arange(12.0).reshape(4, 3)

    def width(resampled: NDArray[np.float64]) -> float:
        assert resampled.shape == (4, 3)
        return float((resampled[:, 2] - resampled[:, 0]).mean())

    assert paired_bootstrap(width, rows, num_resamples=20) == (2.0, 2.0)


def test_bootstrap_repeats_with_its_seed_and_leaves_global_state_alone() -> None:
    values = np.random.default_rng(3).normal(size=30)
    np.random.seed(0)
    untouched = np.random.random()
    np.random.seed(0)
    first = paired_bootstrap(mean, values, seed=5, num_resamples=200)
    assert first == paired_bootstrap(mean, values, seed=5, num_resamples=200)
    assert first != paired_bootstrap(mean, values, seed=6, num_resamples=200)
    assert np.random.random() == untouched


def test_bootstrap_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(4)
    num_covered = 0
    for seed in range(200):
        lo, hi = paired_bootstrap(mean, rng.normal(size=60), num_resamples=200, seed=seed)
        num_covered += lo <= 0 <= hi
    assert 0.88 <= num_covered / 200 <= 0.99


def test_bootstrap_rejects() -> None:
    rows = np.ones(3)
    with pytest.raises(ValueError, match="same number of rows"):
        paired_bootstrap(ratio_of_means, rows, np.ones(4))
    with pytest.raises(ValueError, match="same number of rows"):
        paired_bootstrap(mean)
    with pytest.raises(ValueError, match="at least 1"):
        paired_bootstrap(mean, np.ones(0))
    with pytest.raises(ValueError, match="num_resamples"):
        paired_bootstrap(mean, rows, num_resamples=0)
    with pytest.raises(ValueError, match="confidence"):
        paired_bootstrap(mean, rows, confidence=95)


def test_pairs_are_resampled_by_their_two_samples() -> None:
    """A slow loop that draws members and others and forms their pairs anew spreads as widely."""
    rng = np.random.default_rng(3)
    first, second = rng.normal(size=12), rng.normal(size=40) + 0.5
    means = []
    for _ in range(2000):
        rows, columns = rng.integers(12, size=12), rng.integers(40, size=40)
        means.append((first[rows][:, None] < second[columns]).mean())
    found = mean_of_pairs_bootstrap((first[:, None] < second).astype(np.float64))
    assert found == pytest.approx(np.quantile(means, [0.025, 0.975]), abs=0.02)
