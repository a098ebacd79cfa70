"""The sampler against stepping diffusers' DDIM and flow-matching Euler schedulers."""

from __future__ import annotations

import pytest
import torch
from diffusers import (
    DDIMPipeline,
    DDIMScheduler,
    DDPMPipeline,
    FlowMatchEulerDiscreteScheduler,
    UNet2DModel,
)

from dataunlearn.models.families import wrap_pipeline
from dataunlearn.models.sampling import denoise


def tiny_model(scheduler, pipeline_class=DDIMPipeline):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        unet = UNet2DModel(
            sample_size=8,
            in_channels=1,
            out_channels=1,
            layers_per_block=1,
            block_out_channels=(8,),
            norm_num_groups=4,
            down_block_types=("DownBlock2D",),
            up_block_types=("UpBlock2D",),
        )
    unet.eval()
    pipeline = pipeline_class(unet, scheduler)
    # DDIMPipeline converts its scheduler, DDPMPipeline does not mind which it is given.
    pipeline.scheduler = scheduler
    return wrap_pipeline(pipeline)


@torch.no_grad()
def step_scheduler(model, scheduler, noisy, timesteps):
    """The textbook loop: predict, step, repeat."""
    for t in timesteps:
        prediction = model.pipeline.unet(noisy, t).sample
        noisy = scheduler.step(prediction, t, noisy).prev_sample
    return noisy.clamp(-1, 1)


def start(scale):
    return scale * torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("clip_sample", [False, True])
@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction", "sample"])
def test_denoise_equals_ddim(prediction_type, clip_sample):
    """DDIM with eta = 0 goes from t to s by x_s = gamma_s z + sigma_s eps, z clipped if the
    scheduler says so, eps as predicted before clipping. Over the scheduler's own "leading"
    timesteps both must agree to rounding. 100 timesteps keep gamma_T large enough that pixels stay
    inside [-1, 1] without clipping; with it the start is wide, so that clipping happens."""
    scheduler = DDIMScheduler(
        num_train_timesteps=100, prediction_type=prediction_type, clip_sample=clip_sample
    )
    scheduler.set_timesteps(10)
    model = tiny_model(scheduler)
    timesteps = scheduler.timesteps.tolist()
    noisy = start(1.5 if clip_sample else 0.3)
    actual = denoise(model, noisy, timesteps)
    expected = step_scheduler(model, scheduler, noisy, timesteps)
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)
    assert (actual.abs() < 1).float().mean() > 0.2


def test_denoise_equals_flow_euler():
    """Euler's method on the velocity eps - x0: x_s = x_t + (sigma_s - sigma_t) v, at timesteps
    1000, 667, 334, 1 and then sigma = 0."""
    scheduler = FlowMatchEulerDiscreteScheduler(shift=1.0)
    scheduler.set_timesteps(4)
    model = tiny_model(scheduler, DDPMPipeline)
    timesteps = [round(t) for t in scheduler.timesteps.tolist()]
    assert timesteps == [1000, 667, 334, 1]
    actual = denoise(model, start(0.5), timesteps)
    expected = step_scheduler(model, scheduler, start(0.5), scheduler.timesteps)
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)
    assert (actual.abs() < 1).float().mean() > 0.2
