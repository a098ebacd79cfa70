"""Confidence intervals for shares and for statistics of paired samples."""

import math
from collections.abc import Callable
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray


def wilson(successes: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson score interval of a binomial share (Wilson 1927), without continuity correction.

    Args:
        successes: number of successes, in [0, trials].
        trials: number of independent trials, at least 1.
        confidence: coverage in (0, 1).

    Returns:
        Lower and upper bound of the share, both in [0, 1].

    Raises:
        ValueError: if the counts or the confidence are out of range.
    """
    if trials < 1 or not 0 <= successes <= trials:
        raise ValueError(
            f"got {successes} successes in {trials} trials; give trials >= 1 and "
            "0 <= successes <= trials"
        )
    _check_confidence(confidence)
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    p = successes / trials
    centre = p + z**2 / (2 * trials)
    half_width = z * math.sqrt(p * (1 - p) / trials + z**2 / (4 * trials**2))
    scale = 1 + z**2 / trials
    # At 0 and at all successes one bound is exact; rounding would leave it at about 1e-17.
    lo = 0.0 if successes == 0 else (centre - half_width) / scale
    hi = 1.0 if successes == trials else (centre + half_width) / scale
    return lo, hi


def paired_bootstrap(
    statistic: Callable[..., float],
    *arrays: NDArray[Any],
    num_resamples: int = 2000,
    seed: int = 0,
    confidence: float = 0.95,
) -> tuple[float, float]:
    """Percentile bootstrap interval (Efron 1979) that keeps the rows of all arrays paired.

    Every resample draws N row indices with replacement and takes the same rows of every array, so
    that what two arrays share row by row (the same start noise before and after unlearning) does
    not widen the interval of a ratio or difference.

    Args:
        statistic: takes the resampled arrays, in the order given, and returns a float.
        *arrays: one or more arrays with the same first dimension N >= 1.
        num_resamples: number of bootstrap resamples, at least 1.
        seed: seed of the resampling.
        confidence: coverage in (0, 1).

    Returns:
        Lower and upper bound of the statistic.

    Raises:
        ValueError: if there is no array, the lengths differ or are 0, or a number is out of range.
    """
    lengths = {len(array) for array in arrays}
    if len(lengths) != 1 or 0 in lengths:
        raise ValueError(
            f"got {len(arrays)} arrays with lengths {sorted(lengths)}; give one or more arrays "
            "with the same number of rows, at least 1"
        )
    if num_resamples < 1:
        raise ValueError(f"num_resamples is {num_resamples}; give at least 1 (2000 is usual)")
    _check_confidence(confidence)
    num_rows = lengths.pop()
    rng = np.random.default_rng(seed)
    values = np.empty(num_resamples)
    for i in range(num_resamples):
        rows = rng.integers(num_rows, size=num_rows)
        values[i] = statistic(*(array[rows] for array in arrays))
    lo, hi = np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(lo), float(hi)


def mean_of_pairs_bootstrap(
    pairs: NDArray[np.float64], num_resamples: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """95 % percentile bootstrap interval of the mean over pairs from two independent samples.

    Both samples are resampled on their own; a resample's mean is that of its own pairs.

    Args:
        pairs: A number for each pair, ``(N, M)``: rows from one sample, columns from the other.
        num_resamples: Number of bootstrap resamples.
        seed: Seed of the resampling.
    """
    rng = np.random.default_rng(seed)
    rows, columns = (
        rng.multinomial(size, np.full(size, 1 / size), size=num_resamples) / size
        for size in pairs.shape
    )
    means = ((rows @ pairs) * columns).sum(1)
    lo, hi = np.quantile(means, [0.025, 0.975])
    return float(lo), float(hi)


def student_interval(mean: float, standard_error: float, degrees: int) -> tuple[float, float]:
    """95 % interval of a mean whose standard error was estimated from ``degrees`` + 1 values."""
    from scipy.special import stdtrit

    half_width = float(stdtrit(degrees, 0.975)) * standard_error
    return mean - half_width, mean + half_width


def mean_interval(values: NDArray[Any], seed: int = 0) -> tuple[float, float]:
    """95 % bootstrap interval of the mean of values ``(N,)``."""
    return paired_bootstrap(lambda rows: float(np.mean(rows)), values, seed=seed)


def _check_confidence(confidence: float) -> None:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence}; give a number between 0 and 1, such as 0.95")
