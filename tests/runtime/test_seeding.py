"""Random streams: distinct names give distinct streams, equal names the same one."""

from __future__ import annotations

import itertools

import pytest
import torch

from dataunlearn.runtime.seeding import mix_seed, random_stream


def test_seeds_of_nearby_names_are_distinct_and_fit_into_63_bits():
    seeds = [mix_seed(*names) for names in itertools.product(range(12), repeat=3)]
    assert len(set(seeds)) == 12**3
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_seeds_depend_on_order():
    assert mix_seed(1, 2) != mix_seed(2, 1)
    assert mix_seed(3) != mix_seed(4)


def test_seeds_are_the_same_in_every_run():
    """Pinned: a change here changes every seeded run."""
    assert mix_seed(1, 5) == 716584098017366430
    assert mix_seed(7, 123, 2) == 3359425289784689656


def test_names_of_different_lengths_and_sizes_are_distinct():
    names = [(0,), (0, 0), (0, 0, 0), (2**32 + 7,), (7, 1), (7,), (2**63,)]
    assert len({mix_seed(*name) for name in names}) == len(names)


def test_streams_are_reproducible_and_unrelated():
    """Five standard errors of the correlation of 10,000 independent normal pairs is 0.05."""
    first, again = (torch.randn(10_000, generator=random_stream(1, 5)) for _ in range(2))
    torch.testing.assert_close(first, again, rtol=0, atol=0)
    other = torch.randn(10_000, generator=random_stream(1, 6))
    correlation = torch.corrcoef(torch.stack([first, other]))[0, 1]
    torch.testing.assert_close(correlation, torch.tensor(0.0), rtol=0, atol=0.05)


def test_streams_leave_the_global_one_alone():
    state = torch.get_rng_state()
    torch.randn(3, generator=random_stream(9))
    torch.testing.assert_close(torch.get_rng_state(), state, rtol=0, atol=0)


def test_negative_names_are_refused():
    with pytest.raises(ValueError):
        mix_seed(-1)
