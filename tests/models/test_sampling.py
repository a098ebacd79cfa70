"""Sampling: timesteps, independence of the batch, and restoring half-noised pictures."""

from __future__ import annotations

from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from dataunlearn.data.pixels import to_uint8
from dataunlearn.models import DiffusionModel
from dataunlearn.models.sampling import Drawing, generate, noise_and_denoise, sampling_timesteps
from dataunlearn.models.space import PixelSpace

SHAPE = (1, 4, 4)


class PerfectDenoiser(nn.Module):
    """The exact posterior mean for a data set of a few pictures, in the process's prediction type.

    z(m) = sum_i p_i z_i with p = softmax_i(-|m - gamma z_i|^2 / (2 sigma^2)).
    """

    def __init__(self, process, pictures):
        super().__init__()
        self.process = process
        self.pictures = nn.Parameter(pictures, requires_grad=False)

    def forward(self, noisy, t, cond=None):
        gamma = self.process.gamma(t).float()[:, None, None]
        sigma = self.process.sigma(t).float()[:, None]
        scaled = gamma * self.pictures.flatten(1)[None]  # (B, P, d)
        distance = (noisy.flatten(1)[:, None] - scaled).square().sum(dim=2) / (2 * sigma.square())
        mean = (-distance).softmax(dim=1) @ self.pictures.flatten(1)
        clean = mean.reshape(noisy.shape)
        if cond is not None:
            clean = clean + 0.01 * cond.reshape(-1, 1, 1, 1)
        return self.process.target(noisy, clean, t)


def pictures(count=3):
    generator = torch.Generator().manual_seed(0)
    return torch.rand(count, *SHAPE, generator=generator) * 1.6 - 0.8


def perfect_model(process, num_classes=None):
    pipeline = SimpleNamespace(scheduler=SimpleNamespace(config={"clip_sample": False}))
    denoiser = PerfectDenoiser(process, pictures())
    return DiffusionModel(pipeline, denoiser, process, SHAPE, SHAPE, PixelSpace(num_classes), "toy")


@pytest.mark.parametrize(
    ("start", "first", "num_steps", "expected"),
    [
        (999, 0, 4, [999, 749, 499, 249]),
        (1000, 1, 4, [1000, 750, 500, 250]),
        (3, 0, 10, [3, 2, 1, 0]),
        (250, 0, 1, [250]),
        (0, 0, 5, [0]),
    ],
)
def test_sampling_timesteps(start, first, num_steps, expected):
    assert sampling_timesteps(start, first, num_steps) == expected


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("num_steps", [1, 7, 50, 333, 999, 1000, 5000])
def test_sampling_timesteps_fall_from_start_without_repeats(first, num_steps):
    for start in (first, first + 1, 250, 999):
        steps = sampling_timesteps(start, first, num_steps)
        assert len(steps) == min(num_steps, start - first + 1)
        assert steps[0] == start and steps[-1] >= first
        assert all(a > b for a, b in pairwise(steps))


@pytest.mark.parametrize("num_classes", [None, 3])
def test_a_sample_does_not_depend_on_the_batch(num_classes, make_process):
    model = perfect_model(make_process("epsilon"), num_classes)
    together = generate(model, 7, Drawing(seed=5, num_steps=6, batch_size=7))
    for batch_size in (1, 3, 64):
        apart = generate(model, 7, Drawing(seed=5, num_steps=6, batch_size=batch_size))
        torch.testing.assert_close(apart, together, rtol=1e-5, atol=1e-5)
    fewer = generate(model, 2, Drawing(seed=5, num_steps=6))
    torch.testing.assert_close(fewer, together[:2], rtol=1e-5, atol=1e-5)


def test_generate_reports_progress_and_leaves_the_global_stream_alone(make_process):
    model, finished = perfect_model(make_process("epsilon")), []
    state = torch.get_rng_state()
    samples = generate(model, 5, Drawing(num_steps=2, batch_size=2, progress=finished.append))
    assert finished == [2, 2, 1]
    assert samples.shape == (5, *SHAPE) and samples.dtype == torch.float32
    torch.testing.assert_close(torch.get_rng_state(), state, rtol=0, atol=0)
    assert generate(model, 0).shape == (0, *SHAPE)


@pytest.mark.parametrize("name", ["epsilon", "sample", "v_prediction", "flow_prediction"])
def test_samples_of_a_perfect_denoiser_are_its_pictures(name, make_process):
    """The posterior mean at the last timesteps is the nearest picture, so the sampler must end on
    one of the data set's pictures."""
    samples = generate(perfect_model(make_process(name)), 12, Drawing(num_steps=40))
    nearest = torch.cdist(samples.flatten(1), pictures().flatten(1)).min(dim=1)
    torch.testing.assert_close(nearest.values, torch.zeros(12), rtol=0, atol=1e-3)
    assert len(nearest.indices.unique()) > 1


@pytest.mark.parametrize("name", ["epsilon", "sample", "v_prediction", "flow_prediction"])
@pytest.mark.parametrize("batch_size", [1, 2, 64])
def test_noise_and_denoise_at_small_t_returns_the_input(name, batch_size, make_process):
    """At t = 20 of 1000 the noise is far smaller than the pictures' distances: the perfect denoiser
    of a data set restores each of its members."""
    clean = pictures()
    restored = noise_and_denoise(
        perfect_model(make_process(name)), clean, 20, Drawing(num_steps=5, batch_size=batch_size)
    )
    torch.testing.assert_close(restored, clean, rtol=0, atol=1e-3)


def test_noise_and_denoise_of_foreign_pictures_moves_to_the_data(make_process):
    """A picture outside the data set is not restored: what comes back is a member."""
    foreign = -pictures()
    restored = noise_and_denoise(
        perfect_model(make_process("epsilon")), foreign, 300, Drawing(num_steps=20)
    )
    nearest = torch.cdist(restored.flatten(1), pictures().flatten(1)).min(dim=1).values
    torch.testing.assert_close(nearest, torch.zeros(3), rtol=0, atol=1e-3)


def test_noise_and_denoise_passes_the_conditioning(make_process):
    """The toy adds a hundredth of the label to its clean estimate, which shows at the end."""
    model, clean = perfect_model(make_process("sample"), 3), pictures()
    labels = torch.tensor([0, 1, 2])
    restored = noise_and_denoise(model, clean, 10, Drawing(num_steps=3, batch_size=2, cond=labels))
    shifted = clean + 0.01 * labels.reshape(-1, 1, 1, 1)
    torch.testing.assert_close(restored, shifted, rtol=0, atol=1e-3)


def test_to_uint8_rounds_and_clamps():
    values = torch.tensor([-2.0, -1.0, 0.0, 0.5, 1.0, 3.0]).reshape(1, 1, 2, 3)
    images = to_uint8(values)
    assert images.shape == (1, 2, 3, 1)
    # (v + 1) * 127.5: 0 gives 127.5, which rounds to the even 128; 0.5 gives 191.25.
    assert images.flatten().tolist() == [0, 0, 128, 191, 255, 255]
