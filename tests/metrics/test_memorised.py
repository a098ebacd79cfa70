"""Memorised fraction on samples whose kind is known."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from dataunlearn.metrics.memorised import fit_memorised, memorised_fraction


def around(centre: Tensor, count: int, seed: int) -> Tensor:
    stream = torch.Generator().manual_seed(seed)
    return centre + 0.05 * torch.randn(count, *centre.shape, generator=stream)


@pytest.fixture
def original() -> Tensor:
    return torch.rand(1, 4, 4, generator=torch.Generator().manual_seed(9)) * 2 - 1


def test_copies_are_counted_whichever_cluster_is_larger(original: Tensor) -> None:
    for copies, others in ((100, 28), (20, 108)):
        fitted = fit_memorised(
            torch.cat([around(original, copies, 0), around(-original, others, 1)]), original
        )
        assert fitted.gap > 5
        fresh = torch.cat([around(original, 3, 2), around(-original, 13, 3)])
        result = memorised_fraction(fitted, fresh)
        assert result.value == 3 / 16
        assert result.per_item is not None
        assert result.per_item.tolist() == [True] * 3 + [False] * 13
        assert result.interval is not None
        assert result.interval[0] < 3 / 16 < result.interval[1]


def test_one_kind_of_sample_has_a_small_gap(original: Tensor) -> None:
    assert fit_memorised(around(original, 128, 0), original).gap < 1


def test_seeds_fix_the_clusters(original: Tensor) -> None:
    samples = around(original, 50, 0)
    first, again = (fit_memorised(samples, original, seed=3) for _ in range(2))
    assert torch.equal(first.centres, again.centres)


def test_degenerate_samples_are_errors(original: Tensor) -> None:
    with pytest.raises(ValueError, match="all alike"):
        fit_memorised(original.expand(5, -1, -1, -1), original)
    fitted = fit_memorised(around(original, 8, 0), original)
    with pytest.raises(ValueError, match="no samples"):
        memorised_fraction(fitted, torch.zeros(0, 1, 4, 4))
    with pytest.raises(ValueError, match="shape"):
        memorised_fraction(fitted, torch.zeros(2, 1, 5, 5))
