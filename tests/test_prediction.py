"""Prediction types: targets and clean estimates are inverse, and true at the true sample."""

from __future__ import annotations

import pytest
import torch

from dataunlearn.prediction import PREDICTION_TYPES

TIMESTEPS = torch.tensor([1, 20, 300, 700, 990])


def draw(seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(len(TIMESTEPS), 2, 3, 3, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("name", PREDICTION_TYPES)
def test_clean_estimate_inverts_target(name, make_process):
    """The target of any clean sample z at any m, read back as a clean sample, is z, although m was
    not made from z."""
    process = make_process(name)
    noisy, clean = draw(1), draw(2)
    target = process.target(noisy, clean, TIMESTEPS)
    back = process.clean_estimate(noisy, target, TIMESTEPS)
    torch.testing.assert_close(back, clean, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", PREDICTION_TYPES)
def test_noise_estimate_goes_with_the_clean_estimate(name, make_process):
    """gamma z + sigma eps is m again, whatever the prediction; m's own target gives its noise."""
    process = make_process(name)
    noisy, prediction = draw(10), draw(11)
    clean = process.clean_estimate(noisy, prediction, TIMESTEPS)
    noise = process.noise_estimate(noisy, prediction, TIMESTEPS)
    torch.testing.assert_close(process.add_noise(clean, noise, TIMESTEPS), noisy)
    made = process.add_noise(draw(12), draw(13), TIMESTEPS)
    target = process.target(made, draw(12), TIMESTEPS)
    back = process.noise_estimate(made, target, TIMESTEPS)
    torch.testing.assert_close(back, draw(13), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", PREDICTION_TYPES)
def test_target_at_the_true_sample(name, make_process):
    """With m = gamma x + sigma eps the targets are eps, x, gamma eps - sigma x and eps - x."""
    process = make_process(name)
    clean, noise = draw(3), draw(4)
    gamma = process.gamma(TIMESTEPS).reshape(-1, 1, 1, 1)
    sigma = process.sigma(TIMESTEPS).reshape(-1, 1, 1, 1)
    expected = {
        "epsilon": noise,
        "sample": clean,
        "v_prediction": gamma * noise - sigma * clean,
        "flow_prediction": noise - clean,
    }[name]
    noisy = process.add_noise(clean, noise, TIMESTEPS)
    actual = process.target(noisy, clean, TIMESTEPS)
    torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-9)


def test_flow_target_in_closed_form(make_process):
    """For gamma = 1 - s, sigma = s the target (m - (1-s) z)/s - z is (m - z)/s."""
    process = make_process("flow_prediction")
    noisy, clean = draw(5), draw(6)
    share = (TIMESTEPS / 1000).double().reshape(-1, 1, 1, 1)
    actual = process.target(noisy, clean, TIMESTEPS)
    torch.testing.assert_close(actual, (noisy - clean) / share, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", PREDICTION_TYPES)
def test_target_is_linear_in_noisy_and_clean(name, make_process):
    """ReTrack's one-row form rests on this: the mean of targets is the target of the mean."""
    process = make_process(name)
    noisy, first, second = draw(7), draw(8), draw(9)
    mixed = process.target(noisy, 0.3 * first + 0.7 * second, TIMESTEPS)
    parts = 0.3 * process.target(noisy, first, TIMESTEPS)
    parts = parts + 0.7 * process.target(noisy, second, TIMESTEPS)
    torch.testing.assert_close(mixed, parts, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", PREDICTION_TYPES)
def test_results_keep_the_samples_dtype(name, make_process):
    process = make_process(name)
    noisy, clean = draw(1).float(), draw(2).float()
    assert process.add_noise(clean, noisy, TIMESTEPS).dtype == torch.float32
    assert process.target(noisy, clean, TIMESTEPS).dtype == torch.float32
    assert process.clean_estimate(noisy, clean, TIMESTEPS).dtype == torch.float32
