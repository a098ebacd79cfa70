"""The warning that importance weights have collapsed, and the law that it rests on."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel

from dataunlearn.data import open_images
from dataunlearn.models.families import wrap_pipeline
from dataunlearn.objectives import SISS, BernoulliSubscore, Objective
from dataunlearn.process import ForwardProcess
from dataunlearn.rows import Pair
from dataunlearn.timesteps import TimestepPolicy, Uniform, Window
from dataunlearn.training.config import Training
from dataunlearn.training.importance_weights import collapse_warning, two_sided
from dataunlearn.training.pairs import PairSampler
from dataunlearn.training.phase import Phase, StepPart
from dataunlearn.training.trainer import Trainer


def trainer(size: int, objective: Objective, timesteps: TimestepPolicy) -> Trainer:
    unet = UNet2DModel(
        sample_size=size,
        in_channels=1,
        out_channels=1,
        block_out_channels=(8,),
        down_block_types=("DownBlock2D",),
        up_block_types=("UpBlock2D",),
        layers_per_block=1,
        norm_num_groups=4,
    )
    model = wrap_pipeline(DDPMPipeline(unet, DDPMScheduler()))
    pixels = np.random.default_rng(0).choice(np.array([0, 255], np.uint8), (9, size, size))
    sampler = PairSampler(
        open_images(pixels[1:], model.shape),
        open_images(pixels[:1], model.shape),
        model.process,
        batch_pairs=32,
        timesteps=timesteps,
        seed=0,
    )
    training = Training(steps=20, batch_pairs=32, learning_rate=1e-3)
    part = StepPart(sampler, objective)
    return Trainer(model, [Phase([part], objective.default_combination)], training, shown=False)


def warning_of(trainer: Trainer) -> str | None:
    return collapse_warning(trainer.phase.parts, trainer.rows)


def test_small_images_mix_and_large_ones_collapse() -> None:
    assert warning_of(trainer(8, SISS(), Uniform())) is None
    warning = warning_of(trainer(64, SISS(), Window(0, 500)))
    assert warning is not None
    assert "Only 0.0% of the rows carry both sides" in warning


def test_methods_that_never_mix_are_not_warned_about() -> None:
    assert warning_of(trainer(64, BernoulliSubscore(), Window(0, 500))) is None


@pytest.mark.parametrize("timestep", [100, 400, 700])
def test_log_ratio_has_the_predicted_mean_and_variance(timestep: int) -> None:
    """For m ~ q(.|x): Delta ~ N(mu, 2 mu), mu = gamma^2 |x - a|^2 / (2 sigma^2)."""
    process = ForwardProcess.from_scheduler(DDPMScheduler())
    stream = torch.Generator().manual_seed(0)
    x = (torch.rand(1, 1, 6, 6, generator=stream) * 2 - 1).expand(20000, -1, -1, -1)
    a = (torch.rand(1, 1, 6, 6, generator=stream) * 2 - 1).expand_as(x)
    t = torch.full((20000,), timestep)
    noisy = process.add_noise(x, torch.randn(x.shape, generator=stream), t)
    delta = process.log_density_ratio(noisy, x, a, t)
    gamma, sigma = float(process.gamma(t[:1])), float(process.sigma(t[:1]))
    mu = gamma**2 * float((x[0] - a[0]).square().sum()) / (2 * sigma**2)
    assert delta.mean().item() == pytest.approx(mu, abs=4 * math.sqrt(2 * mu / 20000))
    assert delta.var().item() == pytest.approx(2 * mu, rel=0.05)


def test_two_sided_rows_are_those_that_the_engine_runs_on_both_sides() -> None:
    process = ForwardProcess.from_scheduler(DDPMScheduler())
    keep, forget = torch.ones(4, 1, 8, 8), -torch.ones(4, 1, 8, 8)
    t = torch.tensor([0, 0, 999, 999])
    noise = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    pair = Pair(keep, forget, t, noise)
    rows = SISS()(process, pair, torch.Generator().manual_seed(0))
    assert two_sided(rows).tolist() == [False, False, True, True]
