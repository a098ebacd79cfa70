"""FID and KID against closed forms and a slow loop on the same features."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from dataunlearn.metrics.distribution import fid, kid
from dataunlearn.metrics.embedders import open_embedder

PIXELS = open_embedder("pixels")


def gaussian(count: int, mean: float, std: float, seed: int) -> Tensor:
    stream = torch.Generator().manual_seed(seed)
    return (torch.randn(count, 1, 2, 2, generator=stream) * std + mean).clamp(-50, 50)


def test_fid_of_two_gaussians() -> None:
    """|m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)) = D ((m1 - m2)^2 + (s1 - s2)^2), diagonal."""
    result = fid(PIXELS, gaussian(20000, 0.5, 2.0, 0), gaussian(20000, 0.0, 1.0, 1))
    assert result.value == pytest.approx(4 * (0.25 + 1.0), rel=0.03)
    assert result.interval is not None
    assert result.interval[0] < 5 < result.interval[1]


def test_fid_of_the_same_pictures_is_nought() -> None:
    images = gaussian(100, 0, 1, 0)
    assert fid(PIXELS, images, images).value == pytest.approx(0, abs=1e-4)


def test_kid_is_the_unbiased_mmd() -> None:
    """With subsets of half the pictures, the mean over all is near a slow sum over all pairs."""
    first, second = gaussian(200, 0.7, 1, 0), gaussian(200, 0, 1, 1)
    x, y = first.flatten(1).double(), second.flatten(1).double()

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        return (a @ b.T / a.shape[1] + 1) ** 3

    def off_diagonal_mean(k: Tensor) -> Tensor:
        return (k.sum() - k.trace()) / (len(k) * (len(k) - 1))

    expected = off_diagonal_mean(kernel(x, x)) + off_diagonal_mean(kernel(y, y))
    expected -= 2 * kernel(x, y).mean()
    result = kid(PIXELS, first, second, num_subsets=300)
    assert result.value == pytest.approx(expected.item(), rel=0.05)
    assert result.settings["subset_size"] == 100


def test_kid_of_one_distribution_is_near_nought_and_of_two_is_not() -> None:
    same = kid(PIXELS, gaussian(400, 0, 1, 0), gaussian(400, 0, 1, 1))
    apart = kid(PIXELS, gaussian(400, 0.5, 1, 0), gaussian(400, 0, 1, 1))
    assert same.interval is not None
    assert same.interval[0] < 0 < same.interval[1]
    assert apart.interval is not None
    assert apart.interval[0] > 0.05


def test_a_seed_fixes_every_number_and_the_global_state_is_left_alone() -> None:
    first, second = gaussian(60, 0, 1, 0), gaussian(60, 0, 1, 1)
    before = torch.get_rng_state()
    one, again = kid(PIXELS, first, second), kid(PIXELS, first, second)
    assert torch.equal(before, torch.get_rng_state())
    assert (one.value, one.interval) == (again.value, again.interval)
    assert kid(PIXELS, first, second, seed=1).value != one.value
    assert fid(PIXELS, first, second).interval == fid(PIXELS, first, second).interval


def test_too_few_pictures_are_an_error() -> None:
    with pytest.raises(ValueError, match="at least 4"):
        kid(PIXELS, gaussian(3, 0, 1, 0), gaussian(10, 0, 1, 1))
    with pytest.raises(ValueError, match="at least 4"):
        fid(PIXELS, gaussian(10, 0, 1, 0), gaussian(0, 0, 1, 1))
