"""Text noise against closed forms, and against sampling loops with diffusers' own schedulers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel
from torch import Tensor, nn

from dataunlearn.conditioning import TextCond
from dataunlearn.data import ArrayImages
from dataunlearn.metrics.inputs import Inputs
from dataunlearn.metrics.text_noise import (
    TextNoise,
    noise_distance,
    noisiest_timestep,
    picture_text_noise,
    text_noise_norms,
)
from dataunlearn.models import DiffusionModel
from dataunlearn.models.families import wrap_pipeline
from dataunlearn.models.sampling import noise_for
from dataunlearn.prediction import FLOW, PREDICTION_TYPES
from dataunlearn.process import ForwardProcess
from dataunlearn.runtime.seeding import mix_seed
from tiny_pipelines import (
    CAPTIONS,
    FAMILIES,
    flux,
    stable_diffusion,
    stable_diffusion_3,
    stable_diffusion_v,
)

ALPHAS = torch.linspace(0.999, 0.01, 1000, dtype=torch.float64)


class Shifted(nn.Module):
    """Predicts zero without a prompt, and a known vector times the prompt's number with one."""

    def __init__(self, shift: Tensor) -> None:
        super().__init__()
        self.shift = nn.Parameter(shift)

    def forward(self, noisy: Tensor, t: Tensor, cond: TextCond) -> Tensor:
        number = cond.fields["number"].reshape(-1, 1, 1, 1)
        return 0.1 * noisy + number * self.shift


def wrapped(pipeline: Any) -> DiffusionModel:
    model = wrap_pipeline(pipeline)
    model.denoiser.eval()
    return model


def shifted(pipeline: Any) -> tuple[DiffusionModel, float]:
    """A model whose prompts are numbers, and the norm of its shift; the empty prompt is 0."""
    model = wrapped(pipeline)
    shift = torch.randn(model.shape, generator=torch.Generator().manual_seed(0))
    model.denoiser = Shifted(shift)
    numbers = {"": 0.0, "red": 1.0, "blue": 3.0}
    model.space.encode_texts = lambda texts: TextCond(
        {"number": torch.tensor([numbers[text] for text in texts])}
    )
    return model, float(shift.norm())


def pixel_model() -> DiffusionModel:
    unet = UNet2DModel(
        sample_size=8,
        in_channels=1,
        out_channels=1,
        block_out_channels=(4,),
        down_block_types=("DownBlock2D",),
        up_block_types=("UpBlock2D",),
        layers_per_block=1,
        norm_num_groups=4,
    )
    return wrapped(DDPMPipeline(unet, DDPMScheduler()))


@pytest.mark.parametrize("name", PREDICTION_TYPES)
def test_distance_of_the_noises_that_predictions_stand_for(name: str) -> None:
    """Turn each prediction at x_t into its noise and subtract, in float64.

    The closed forms: d for noise, gamma d for v (eps = gamma v + sigma x_t) and for flow
    (eps = x_t + gamma v), gamma/sigma d for clean samples.
    """
    kind = PREDICTION_TYPES[name]
    process = ForwardProcess(1000, kind, None if kind is FLOW else ALPHAS)
    generator = torch.Generator().manual_seed(1)
    noisy, first, second = torch.randn(3, 5, 2, 4, 4, dtype=torch.float64, generator=generator)
    t = torch.tensor([1, 200, 500, 800, 990])
    gamma, sigma = (c[:, None, None, None] for c in (process.gamma(t), process.sigma(t)))
    noises = [
        (noisy - gamma * process.clean_estimate(noisy, given, t)) / sigma
        for given in (first, second)
    ]
    found = noise_distance(process, first, second, t)
    torch.testing.assert_close(found, (noises[0] - noises[1]).flatten(1).norm(dim=1))
    factor = {"epsilon": 1.0, "sample": gamma / sigma}.get(name, gamma)
    torch.testing.assert_close(found, (factor * (first - second)).flatten(1).norm(dim=1))


def test_a_known_shift_gives_a_known_norm() -> None:
    """Noise predictions that differ by k d, whatever x_t: k |d| at every step, for any draw."""
    model, length = shifted(stable_diffusion())
    found = text_noise_norms(model, ["red", "blue", ""], num_steps=3, draws=2)
    expected = length * torch.tensor([1.0, 3.0, 0.0])[:, None].expand(3, 3)
    torch.testing.assert_close(found, expected.double(), rtol=1e-5, atol=1e-6)


def test_v_and_flow_models_are_measured_in_noise() -> None:
    """The same shift of the prediction counts gamma_t times; at pure noise it counts nothing."""
    model, length = shifted(stable_diffusion_v())
    gamma = model.pipeline.scheduler.alphas_cumprod[[999, 499]].sqrt()
    found = text_noise_norms(model, ["red"], num_steps=2, draws=1)
    torch.testing.assert_close(found[0], (length * gamma).double(), rtol=1e-5, atol=0)
    model, length = shifted(flux())
    found = text_noise_norms(model, ["red"], timesteps=(1000, 750, 500), draws=1)
    torch.testing.assert_close(found[0], length * torch.tensor([0.0, 0.25, 0.5]).double())
    assert noisiest_timestep(model.process) == 999
    assert noisiest_timestep(wrapped(stable_diffusion()).process) == 999


@pytest.mark.parametrize("build", [stable_diffusion, stable_diffusion_v, stable_diffusion_3, flux])
def test_norms_along_sampling_equal_a_loop_of_diffusers(build: Any) -> None:
    """Guided steps by the scheduler itself, one sample at a time."""
    model, steps = wrapped(build()), 4
    found = text_noise_norms(model, CAPTIONS, num_steps=steps, draws=2, seed=4, batch_size=4)
    prompt, nothing = model.space.prompts([CAPTIONS[1]]), model.space.nothing(1)
    scheduler = model.pipeline.scheduler
    if model.process.prediction is FLOW:
        scheduler = type(scheduler)(shift=model.shift)
        scheduler.set_timesteps(sigmas=[1.0, 0.75, 0.5, 0.25])
        factors = (1 - scheduler.timesteps / 1000).tolist()
    else:
        changes = {"timestep_spacing": "trailing", "steps_offset": 0}
        scheduler = type(scheduler).from_config(scheduler.config, **changes)
        scheduler.set_timesteps(steps)
        factors = [1.0] * steps
        if scheduler.config.prediction_type == "v_prediction":
            factors = scheduler.alphas_cumprod[[999, 749, 499, 249]].sqrt().tolist()
    expected = torch.zeros(steps, dtype=torch.float64)
    for start in noise_for(model.shape, 4, range(2)):
        sample, scheduler._step_index = start[None], None
        for column, timestep in enumerate(scheduler.timesteps):
            with torch.no_grad():
                given = model.denoiser(sample, timestep[None], prompt)
                without = model.denoiser(sample, timestep[None], nothing)
            expected[column] += factors[column] * (given - without).double().norm() / 2
            guided = without + model.guidance * (given - without)
            sample = scheduler.step(guided, timestep, sample, return_dict=False)[0]
    torch.testing.assert_close(found[1], expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("family", FAMILIES)
def test_norms_depend_neither_on_the_batch_nor_on_other_prompts(family: str) -> None:
    model = wrapped(FAMILIES[family]())
    settings: dict[str, Any] = {"num_steps": 2, "draws": 2}
    together = text_noise_norms(model, CAPTIONS, batch_size=4, **settings)
    encoded = model.space.prompts(CAPTIONS[2:])
    alone = text_noise_norms(model, encoded, batch_size=1, **settings)
    assert together.shape == (3, 2)
    assert (together[:, 1] > 0).all()
    torch.testing.assert_close(together[2:], alone, rtol=1e-3, atol=1e-6)


def test_watching_leaves_the_model_as_it_was() -> None:
    model = wrapped(stable_diffusion())
    space, counts = model.space, []
    settings: dict[str, Any] = {"timesteps": [999], "draws": 2, "batch_size": 4}
    text_noise_norms(model, CAPTIONS, progress=counts.append, **settings)
    assert model.space is space
    assert counts == [4, 2]


@pytest.mark.parametrize("build", [stable_diffusion_v, stable_diffusion_3])
def test_noised_pictures_equal_a_slow_loop(build: Any) -> None:
    """Each picture, timestep and draw by itself, with gamma times the difference of predictions."""
    model = wrapped(build())
    images = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    found = picture_text_noise(model, images, CAPTIONS, (100, 600), draws=2, seed=7, batch_size=2)
    latents, nothing = model.space.encode(images), model.space.nothing(1)
    for row, caption in enumerate(CAPTIONS):
        for column, timestep in enumerate((100, 600)):
            t, total = torch.tensor([timestep]), 0.0
            for noise in noise_for(model.shape, mix_seed(7, timestep), range(2)):
                noisy = model.process.add_noise(latents[row : row + 1], noise[None], t)
                with torch.no_grad():
                    given = model.denoiser(noisy, t, model.space.prompts([caption]))
                    difference = given - model.denoiser(noisy, t, nothing)
                total += float(model.process.gamma(t) * difference.norm()) / 2
            assert found[row, column].item() == pytest.approx(total, rel=1e-3)


def test_measure_of_several_prompts_and_of_one() -> None:
    """Norms |d| and 3 |d|: mean 2 |d|, and a bootstrap interval between both."""
    model, length = shifted(stable_diffusion())
    inputs = Inputs(model, prompts=["red", "blue"], shown=False)
    measure = TextNoise(num_steps=2, draws=3)
    measure.check(inputs)
    (found,) = measure(inputs)
    assert found.value == pytest.approx(2 * length, rel=1e-5)
    assert found.interval == pytest.approx((length, 3 * length), rel=1e-5)
    assert found.settings["timestep"] == 999
    assert list(found.settings["mean_by_timestep"]) == ["999", "499"]
    assert found.as_json()["per_item"] == pytest.approx([length, 3 * length], rel=1e-5)
    (single,) = measure(Inputs(model, prompts=["red"], shown=False))
    assert single.value == pytest.approx(length, rel=1e-5)
    assert single.interval == pytest.approx((length, length), rel=1e-5)


def test_measure_takes_captions_and_the_first_step_that_tells_something() -> None:
    model = wrapped(stable_diffusion_3())
    pixels = np.zeros((3, 3, 16, 16), np.uint8)
    forget = ArrayImages(pixels, captions=["red", "blue", "red"])
    (found,) = TextNoise(num_steps=2, draws=1)(Inputs(model, forget=forget, shown=False))
    assert found.settings["timestep"] == 750  # half of the noise, shifted by 3
    assert found.settings["num_prompts"] == 2
    assert found.settings["mean_by_timestep"]["1000"] == 0
    assert found.value == pytest.approx(found.settings["mean_by_timestep"]["750"])


def test_errors_say_what_to_do() -> None:
    model = wrapped(stable_diffusion())
    with pytest.raises(ValueError, match="takes no prompts"):
        text_noise_norms(pixel_model(), ["red"])
    with pytest.raises(ValueError, match="takes no prompts"):
        TextNoise().check(Inputs(pixel_model(), prompts=["red"]))
    with pytest.raises(ValueError, match="--prompts, or --forget images with captions"):
        TextNoise().check(Inputs(model))
    with pytest.raises(ValueError, match="give a list"):
        text_noise_norms(model, "red")
    with pytest.raises(ValueError, match="give a list"):
        text_noise_norms(model, [])
    for wrong in ([], [1000], [10, 20], [-1]):
        with pytest.raises(ValueError, match="falling ones from 999 to 0"):
            text_noise_norms(model, ["red"], timesteps=wrong)
    with pytest.raises(ValueError, match="at least 2 steps"):
        TextNoise(num_steps=1)
    with pytest.raises(ValueError, match="1 pictures with 2 prompts"):
        picture_text_noise(model, torch.zeros(1, 3, 16, 16), ["red", "blue"], (10,))
