"""Timestep policies: bounds, draws and errors."""

from __future__ import annotations

import pytest
import torch

from dataunlearn.timesteps import Above, Last, Uniform, Window


@pytest.mark.parametrize(
    ("policy", "name", "bounds"),
    [
        (Uniform(), "epsilon", (0, 999)),
        (Uniform(), "flow_prediction", (1, 1000)),
        (Last(), "v_prediction", (999, 999)),
        (Last(), "flow_prediction", (1000, 1000)),
        (Window(0, 0), "epsilon", (0, 0)),
        (Window(200, 800), "epsilon", (200, 800)),
        (Window(1, 1000), "flow_prediction", (1, 1000)),
    ],
)
def test_bounds_hold_and_are_reached(policy, name, bounds, make_process):
    """20,000 uniform draws miss one of 1,000 values with probability (1 - 1e-3)^20000 = 2e-9."""
    process = make_process(name)
    assert policy.bounds(process) == bounds
    draws = policy.draw(20_000, process, torch.Generator().manual_seed(0))
    assert draws.shape == (20_000,) and draws.dtype == torch.int64
    assert (int(draws.min()), int(draws.max())) == bounds


def test_draws_are_uniform(make_process):
    """Each of ten values is binomial(50000, 0.1): within five standard deviations (67) of 5000."""
    draws = Window(10, 19).draw(50_000, make_process("epsilon"), torch.Generator().manual_seed(1))
    counts = torch.bincount(draws)[10:]
    torch.testing.assert_close(counts.float(), torch.full((10,), 5000.0), rtol=0, atol=336)


def test_draws_come_from_the_generator(make_process):
    process, state = make_process("epsilon"), torch.get_rng_state()
    first = Uniform().draw(50, process, torch.Generator().manual_seed(3))
    again = Uniform().draw(50, process, torch.Generator().manual_seed(3))
    other = Uniform().draw(50, process, torch.Generator().manual_seed(4))
    torch.testing.assert_close(first, again, rtol=0, atol=0)
    assert not torch.equal(first, other)
    torch.testing.assert_close(torch.get_rng_state(), state, rtol=0, atol=0)


@pytest.mark.parametrize(("lo", "hi"), [(-1, 5), (6, 5), (-3, -2)])
def test_disordered_windows_are_refused(lo, hi):
    with pytest.raises(ValueError, match="0 <= lo <= hi"):
        Window(lo, hi)


@pytest.mark.parametrize(
    ("window", "name"),
    [
        (Window(0, 1000), "epsilon"),
        (Window(0, 500), "flow_prediction"),
        (Window(1, 1001), "flow_prediction"),
    ],
)
def test_windows_outside_the_process_are_refused(window, name, make_process):
    with pytest.raises(ValueError, match="leaves the model's timesteps"):
        window.draw(3, make_process(name), torch.Generator())


def test_above_starts_at_a_share_of_the_range(make_process):
    assert Above(0.25).bounds(make_process()) == (250, 999)
    assert Above(0).bounds(make_process()) == Uniform().bounds(make_process())
    assert Above(0.25).bounds(make_process("flow_prediction")) == (251, 1000)
    for share in (-0.1, 1.0):
        with pytest.raises(ValueError, match="share"):
            Above(share)
