"""The forward process against diffusers' own schedulers."""

from __future__ import annotations

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    PNDMScheduler,
    ScoreSdeVeScheduler,
)

from dataunlearn.process import ForwardProcess

SCHEDULES = {
    "linear": {"beta_start": 1e-4, "beta_end": 0.02, "beta_schedule": "linear"},
    "scaled_linear": {"beta_start": 8.5e-4, "beta_end": 0.012, "beta_schedule": "scaled_linear"},
    "squaredcos_cap_v2": {"beta_schedule": "squaredcos_cap_v2"},
}
TIMESTEPS = torch.tensor([0, 1, 10, 250, 500, 900, 998])


def samples(seed=0):
    generator = torch.Generator().manual_seed(seed)
    shape = (len(TIMESTEPS), 3, 4, 4)
    return torch.randn(shape, generator=generator), torch.randn(shape, generator=generator)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("scheduler_class", [DDPMScheduler, DDIMScheduler, EulerDiscreteScheduler])
def test_add_noise_equals_ddpm_scheduler(schedule, scheduler_class):
    """gamma x + sigma eps must be DDPMScheduler.add_noise whichever scheduler of the same config is
    read; the Euler scheduler's own add_noise is x + (sigma/gamma) eps and must not be used."""
    clean, noise = samples()
    process = ForwardProcess.from_scheduler(scheduler_class(**SCHEDULES[schedule]))
    expected = DDPMScheduler(**SCHEDULES[schedule]).add_noise(clean, noise, TIMESTEPS)
    torch.testing.assert_close(process.add_noise(clean, noise, TIMESTEPS), expected)
    assert process.num_train_timesteps == 1000
    assert (process.first_timestep, process.last_timestep) == (0, 999)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("prediction_type", ["epsilon", "sample", "v_prediction"])
@pytest.mark.parametrize("scheduler_class", [DDPMScheduler, DDIMScheduler, EulerDiscreteScheduler])
def test_target_is_what_the_model_was_trained_on(schedule, prediction_type, scheduler_class):
    """diffusers' training scripts regress on noise, on the clean image or on get_velocity. The
    process knows the noisy image only, so its eps is (m - gamma x)/sigma: rounding of m in float32
    is amplified by 1/sigma, which is 100 at the first timestep."""
    clean, noise = samples()
    config = SCHEDULES[schedule] | {"prediction_type": prediction_type}
    process = ForwardProcess.from_scheduler(scheduler_class(**config))
    reference = DDPMScheduler(**config)
    expected = {
        "epsilon": noise,
        "sample": clean,
        "v_prediction": reference.get_velocity(clean, noise, TIMESTEPS),
    }[prediction_type]
    noisy = process.add_noise(clean, noise, TIMESTEPS)
    actual = process.target(noisy, clean, TIMESTEPS)
    amplification = 1 / process.sigma(TIMESTEPS).float().reshape(-1, 1, 1, 1)
    torch.testing.assert_close(actual / amplification, expected / amplification, rtol=0, atol=2e-6)
    assert actual.dtype == torch.float32


@pytest.mark.parametrize("scheduler_class", [PNDMScheduler, DPMSolverMultistepScheduler])
def test_schedulers_without_velocity_are_read_too(scheduler_class):
    process = ForwardProcess.from_scheduler(scheduler_class(**SCHEDULES["scaled_linear"]))
    expected = DDPMScheduler(**SCHEDULES["scaled_linear"]).alphas_cumprod.double()
    torch.testing.assert_close(process.gamma(TIMESTEPS).square(), expected[TIMESTEPS])
    torch.testing.assert_close(process.sigma(TIMESTEPS).square(), 1 - expected[TIMESTEPS])


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_flow_matching_ignores_the_samplers_shift(shift):
    """Rectified flow: m = (1 - t/T) x + (t/T) eps and the target is eps - x. The scheduler's
    scale_noise looks the same sigma up in its (shifted) table, so it agrees once it is given
    the timestep T sigma of that table."""
    scheduler = FlowMatchEulerDiscreteScheduler(shift=shift)
    process = ForwardProcess.from_scheduler(scheduler)
    clean, noise = samples()
    t = torch.tensor([1, 10, 100, 250, 500, 900, 1000])
    share = (t / 1000).reshape(-1, 1, 1, 1)
    noisy = process.add_noise(clean, noise, t)
    torch.testing.assert_close(noisy, (1 - share) * clean + share * noise)
    target = process.target(noisy, clean, t)
    torch.testing.assert_close(target * share, (noise - clean) * share, rtol=0, atol=2e-6)
    assert (process.first_timestep, process.last_timestep) == (1, 1000)
    in_table = scheduler.timesteps[[0, 300, 700, 999]]
    noisy = process.add_noise(clean[:4], noise[:4], in_table)
    torch.testing.assert_close(noisy, scheduler.scale_noise(clean[:4], in_table, noise[:4]))


def test_timesteps_out_of_range_are_refused():
    process = ForwardProcess.from_scheduler(DDPMScheduler())
    process.check_timesteps([0, 999], "levels")
    with pytest.raises(ValueError, match="levels must lie from 0 to 999 for this model, not 1000"):
        process.check_timesteps([5, 1000], "levels")
    flow = ForwardProcess.from_scheduler(FlowMatchEulerDiscreteScheduler())
    with pytest.raises(ValueError, match="from 1 to 1000 for this model, not 0"):
        flow.check_timesteps([0], "levels")


def test_timesteps_at_shares_stay_within_the_model():
    process = ForwardProcess.from_scheduler(DDPMScheduler())
    assert process.timesteps_at((0, 0.25, 0.3, 1)) == (0, 250, 300, 999)
    short = ForwardProcess.from_scheduler(DDPMScheduler(num_train_timesteps=100))
    assert short.timesteps_at((0.2, 0.9, 1)) == (20, 90, 99)
    flow = ForwardProcess.from_scheduler(FlowMatchEulerDiscreteScheduler())
    assert flow.timesteps_at((0, 0.5, 1)) == (1, 500, 1000)


def test_unsuitable_schedulers_are_refused():
    with pytest.raises(ValueError, match="ScoreSdeVeScheduler has no alphas_cumprod"):
        ForwardProcess.from_scheduler(ScoreSdeVeScheduler())
    scheduler = DDPMScheduler()
    scheduler.register_to_config(prediction_type="score")
    with pytest.raises(ValueError, match="unknown prediction_type 'score'"):
        ForwardProcess.from_scheduler(scheduler)
