"""Every text-to-image family behind the one call, on tiny pipelines with random weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, StableDiffusionImg2ImgPipeline
from diffusers.pipelines.flux.pipeline_flux import calculate_shift
from diffusers.utils import logging
from torch import Tensor, nn

from dataunlearn.conditioning import TextCond, same_conds
from dataunlearn.data import ArrayImages
from dataunlearn.models import DiffusionModel
from dataunlearn.models.families import wrap_pipeline
from dataunlearn.models.flow_transformers import from_patches, patch_positions, to_patches
from dataunlearn.models.sampling import (
    Drawing,
    generate,
    model_timesteps,
    noise_and_denoise,
    noise_for,
    shifted,
)
from dataunlearn.models.schedulers import SamplingRule
from dataunlearn.training.pairs import PairSampler
from tiny_pipelines import CAPTIONS, FAMILIES, flux, stable_diffusion, stable_diffusion_3, unet


def make_images(count: int = 3, size: int = 16) -> ArrayImages:
    pixels = np.random.default_rng(0).integers(0, 256, (count, 3, size, size), dtype=np.uint8)
    captions = [CAPTIONS[index % len(CAPTIONS)] for index in range(count)]
    return ArrayImages(pixels, captions=captions)


@pytest.fixture(params=FAMILIES)
def model(request: pytest.FixtureRequest) -> DiffusionModel:
    found = wrap_pipeline(FAMILIES[request.param]())
    found.denoiser.eval()
    return found


class TestFamilies:
    def test_shapes_are_those_of_latents_and_pictures(self, model: DiffusionModel) -> None:
        assert model.shape == (4, 8, 8)
        assert model.image_shape == (3, 16, 16)

    def test_the_prediction_depends_on_the_prompt(self, model: DiffusionModel) -> None:
        noisy, t = torch.randn(2, *model.shape), torch.tensor([500, 500])
        cat = model.space.drawn(range(2), ["red"])
        dog = model.space.drawn(range(2), ["blue"])
        with torch.no_grad():
            first, second = model.denoiser(noisy, t, cat), model.denoiser(noisy, t, dog)
        assert first.shape == noisy.shape
        assert (first - second).abs().max() > 1e-6

    def test_a_prompt_that_is_too_long_is_reported_with_the_lost_words(
        self, model: DiffusionModel, caplog: pytest.LogCaptureFixture
    ) -> None:
        logging.enable_propagation()
        try:
            model.space.drawn(range(1), ["red " * 600 + "blue"])
        finally:
            logging.disable_propagation()
        messages = [record.getMessage() for record in caplog.records]
        assert any("truncated" in text and "blue" in text for text in messages)

    def test_pairs_come_in_latents_with_prompts(self, model: DiffusionModel) -> None:
        sampler = PairSampler(
            make_images(), None, model.process, batch_pairs=4, space=model.space, seed=3
        )
        pair = sampler(0)
        assert pair.keep.shape == (4, *model.shape)
        assert isinstance(pair.keep_cond, TextCond)
        assert len(pair.keep_cond) == 4
        torch.testing.assert_close(pair.keep, sampler(0).keep)

    def test_samples_are_pictures_and_depend_on_the_seed_alone(self, model: DiffusionModel) -> None:
        alone = generate(model, 2, Drawing(num_steps=2, batch_size=1, prompts=CAPTIONS, seed=5))
        together = generate(model, 2, Drawing(num_steps=2, batch_size=2, prompts=CAPTIONS, seed=5))
        assert alone.shape == (2, *model.image_shape)
        assert alone.abs().max() <= 1
        torch.testing.assert_close(alone, together, atol=1e-4, rtol=0)

    def test_a_perfect_denoiser_restores_what_the_autoencoder_keeps(
        self, model: DiffusionModel
    ) -> None:
        """A denoiser that knows the clean latents leads any noise back to them."""
        pictures = make_images(2).batch(torch.arange(2))
        latents, process = model.space.encode(pictures), model.process

        class Perfect(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.unused = nn.Parameter(torch.zeros(1))

            def forward(self, noisy: Tensor, t: Tensor, cond: TextCond) -> Tensor:
                assert len(cond) == len(noisy)
                return process.target(noisy, latents, t)

        model.denoiser = Perfect()
        cond = model.space.drawn(range(2), CAPTIONS)
        back = noise_and_denoise(
            model, pictures, process.last_timestep // 2, Drawing(cond=cond, num_steps=20)
        )
        if SamplingRule.of(model.pipeline.scheduler).ends_noisy:  # with set_alpha_to_one=False
            noise = noise_for(model.shape, 0, range(2))
            latents = process.add_noise(latents, noise, torch.zeros(2, dtype=torch.int64))
        torch.testing.assert_close(back, model.space.decode(latents), atol=2e-3, rtol=0)


class TestAgainstDiffusers:
    """Our sampler with guidance takes the steps that the pipelines take."""

    def test_stable_diffusion(self) -> None:
        pipeline = stable_diffusion()
        pipeline.scheduler = type(pipeline.scheduler).from_config(
            pipeline.scheduler.config, timestep_spacing="trailing", steps_offset=0
        )
        model = wrap_pipeline(pipeline)
        model.denoiser.eval()
        ours = generate(model, 1, Drawing(num_steps=4, prompts=["red"], seed=1))
        theirs = pipeline(
            "red",
            latents=noise_for(model.shape, 1, range(1)),
            num_inference_steps=4,
            guidance_scale=model.guidance,
            height=16,
            width=16,
            output_type="pt",
        ).images
        # The last step: ours returns the clean estimate, set_alpha_to_one=False stops just before.
        torch.testing.assert_close(ours, theirs * 2 - 1, atol=0.03, rtol=0)

    def test_flux_patches_are_packed_as_the_pipeline_packs_them(self) -> None:
        latents = torch.randn(2, 4, 8, 6)
        pipeline = flux()
        packed = pipeline._pack_latents(latents, 2, 4, 8, 6)
        torch.testing.assert_close(to_patches(latents), packed)
        torch.testing.assert_close(from_patches(packed, 8, 6), latents)
        ids = pipeline._prepare_latent_image_ids(1, 4, 3, "cpu", torch.float32)
        torch.testing.assert_close(patch_positions(4, 3), ids)


class TestLatents:
    def test_draws_have_the_posteriors_mean_and_deviation(self) -> None:
        model = wrap_pipeline(stable_diffusion())
        images = make_images(1)
        many = torch.zeros(4000, dtype=torch.int64)
        draws = model.space.samples(images, many, torch.Generator().manual_seed(0))
        known = model.pipeline.vae.encode(images.batch(torch.tensor([0]))).latent_dist
        scale = model.pipeline.vae.config.scaling_factor
        torch.testing.assert_close(draws.mean(0), known.mean[0] * scale, atol=0.02, rtol=0)
        torch.testing.assert_close(draws.std(0), known.std[0] * scale, atol=0.02, rtol=0.05)

    def test_a_picture_is_encoded_once(self) -> None:
        model = wrap_pipeline(stable_diffusion())
        images = make_images(3)
        model.space.samples(images, torch.arange(3))
        model.pipeline.vae = model.space.coder.vae.encode = None  # a second encoding would fail
        model.space.samples(images, torch.tensor([2, 0, 2]))

    def test_captions_for_some_pictures_only_are_refused(self) -> None:
        model = wrap_pipeline(stable_diffusion())
        pixels = np.zeros((2, 3, 16, 16), np.uint8)
        mixed = ArrayImages(pixels, captions=["red", None])  # type: ignore[list-item]
        with pytest.raises(ValueError, match="1 of 2 keep images have no caption"):
            model.space.check(mixed, "keep")


class TestGuidance:
    def test_scale_one_asks_once_and_other_scales_extrapolate(self) -> None:
        model = wrap_pipeline(stable_diffusion())
        model.denoiser.eval()
        noisy, t = torch.randn(1, *model.shape), torch.tensor([300])
        cond, nothing = model.space.drawn(range(1), ["red"]), model.space.nothing(1)
        with torch.no_grad():
            given, without = model.denoiser(noisy, t, cond), model.denoiser(noisy, t, nothing)
        model.guidance = 3.0
        torch.testing.assert_close(model.predict(noisy, t, cond), 3 * given - 2 * without)
        model.guidance = 1.0
        torch.testing.assert_close(model.predict(noisy, t, cond), given)

    def test_no_caption_is_the_empty_prompt(self) -> None:
        model = wrap_pipeline(stable_diffusion())
        images = ArrayImages(np.zeros((1, 3, 16, 16), np.uint8))
        found = model.space.conditions(images, torch.tensor([0]))
        assert same_conds(found, model.space.nothing(1))


class TestRefusals:
    def test_an_inpainting_unet(self) -> None:
        pipeline = stable_diffusion()
        pipeline.unet = unet(in_channels=9)
        with pytest.raises(ValueError, match="9 input and 4 output channels"):
            wrap_pipeline(pipeline)

    def test_parts_of_different_models(self) -> None:
        pipeline = stable_diffusion()
        pipeline.unet = unet(cross_attention_dim=12)
        with pytest.raises(ValueError, match=r"prompts are \d+ wide, and the denoiser takes 12"):
            wrap_pipeline(pipeline)
        pipeline.unet = unet(in_channels=6, out_channels=6)
        with pytest.raises(ValueError, match=r"latents have 4 channels, and the denoiser's 6"):
            wrap_pipeline(pipeline)

    def test_a_pipeline_that_no_adapter_fits(self) -> None:
        pipeline = StableDiffusionImg2ImgPipeline(**stable_diffusion().components)
        with pytest.raises(ValueError, match=r"Img2ImgPipeline with UNet2DCond.* is"):
            wrap_pipeline(pipeline)

    def test_a_denoiser_without_prompts(self) -> None:
        model = wrap_pipeline(stable_diffusion())
        with pytest.raises(ValueError, match="needs prompts"):
            model.denoiser(torch.randn(1, *model.shape), torch.tensor([1]), None)


class TestShift:
    """Flow models space their steps as their schedulers do."""

    @pytest.mark.parametrize("shift", [1.0, 3.0])
    def test_a_fixed_shift(self, shift: float) -> None:
        pipeline = stable_diffusion_3()
        pipeline.scheduler = FlowMatchEulerDiscreteScheduler(shift=shift)
        model = wrap_pipeline(pipeline)
        pipeline.scheduler.set_timesteps(sigmas=np.linspace(1, 1 / 8, 8))
        expected = pipeline.scheduler.timesteps.round().int().tolist()
        assert model_timesteps(model, 1000, 8) == expected

    def test_a_shift_that_grows_with_the_picture(self) -> None:
        pipeline = flux()
        pipeline.scheduler = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
        model = wrap_pipeline(pipeline)
        patches = 16  # 8 x 8 latents in patches of 2 x 2
        mu = calculate_shift(patches)
        pipeline.scheduler.set_timesteps(sigmas=np.linspace(1, 1 / 8, 8), mu=mu)
        expected = pipeline.scheduler.timesteps.round().int().tolist()
        assert model_timesteps(model, 1000, 8) == expected

    def test_from_a_lower_level_it_begins_there(self) -> None:
        model = wrap_pipeline(stable_diffusion_3())
        steps = model_timesteps(model, 400, 4)
        assert steps[0] == 400
        assert len(steps) == 4
        assert steps[-1] >= 1
        before_shift = np.array([shifted(t / 1000, 1 / 3) for t in steps])
        np.testing.assert_allclose(-np.diff(before_shift), before_shift[0] / 4, atol=2e-3)
        assert shifted(shifted(0.3, 3.0), 1 / 3.0) == pytest.approx(0.3)
