from __future__ import annotations

import json
import math
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL
from torch import Tensor
from torch.distributions import Normal, kl_divergence

import dataunlearn.base_models.autoencoder
from dataunlearn.base_models.autoencoder import (
    autoencoder_loss,
    build_autoencoder,
    train_autoencoder,
)
from dataunlearn.base_models.autoencoder_measures import latent_deviation, reconstruction_error
from dataunlearn.base_models.config import Autoencoder
from dataunlearn.data import ArrayImages
from dataunlearn.recipes.emoji_sd import emoji_autoencoder
from dataunlearn.runtime.files import read_log
from dataunlearn.runtime.interrupt import InterruptedRunError
from dataunlearn.runtime.seeding import random_stream
from dataunlearn.training.two_gradients import NonFiniteError

TINY_VAE: dict[str, Any] = {
    "sample_size": 8,
    "in_channels": 1,
    "out_channels": 1,
    "block_out_channels": (8, 16),
    "down_block_types": ("DownEncoderBlock2D",) * 2,
    "up_block_types": ("UpDecoderBlock2D",) * 2,
    "latent_channels": 2,
    "norm_num_groups": 2,
    "mid_block_add_attention": False,
}
CONFIG = Autoencoder(
    TINY_VAE,
    steps=6,
    batch_images=4,
    learning_rate=3e-3,
    kl_weight=1e-3,
    warmup_steps=2,
    checkpoint_every_steps=2,
)


@pytest.fixture
def images() -> ArrayImages:
    """Twenty pictures of two plain halves: easy to learn."""
    generator = np.random.default_rng(0)
    pixels = np.repeat(generator.integers(20, 236, (20, 1, 2, 1), dtype=np.uint8), 4, axis=2)
    return ArrayImages(np.ascontiguousarray(np.broadcast_to(pixels, (20, 1, 8, 8))))


@pytest.fixture
def vae() -> AutoencoderKL:
    return build_autoencoder(CONFIG)


def train(config: Autoencoder, images: ArrayImages, out: Path, **options: Any) -> AutoencoderKL:
    return train_autoencoder(config, images, out, shown=False, **options)


def weights(vae: AutoencoderKL) -> Tensor:
    return torch.cat([value.detach().reshape(-1) for value in vae.state_dict().values()])


def stop_after(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Ask to stop during step number ``step``, from 1, once."""
    original = dataunlearn.base_models.autoencoder.autoencoder_loss
    calls = []

    def interrupting(*args: Any) -> Any:
        calls.append(args)
        if len(calls) == step:
            signal.raise_signal(signal.SIGINT)
        return original(*args)

    monkeypatch.setattr(dataunlearn.base_models.autoencoder, "autoencoder_loss", interrupting)


class TestLoss:
    def test_kl_is_that_of_the_posterior(self, vae: AutoencoderKL, images: ArrayImages) -> None:
        """Mean over dimensions and pictures of KL(N(mean, std), N(0, 1)), by torch."""
        pictures = images.batch(torch.arange(5))
        posterior = vae.encode(pictures).latent_dist
        divergence = kl_divergence(Normal(posterior.mean, posterior.std), Normal(0.0, 1.0))
        loss = autoencoder_loss(vae, pictures, 0.5, random_stream(0))
        torch.testing.assert_close(loss.kl, divergence.mean().detach())
        assert float(loss.kl) > 0

    def test_total_is_the_weighted_sum(self, vae: AutoencoderKL, images: ArrayImages) -> None:
        """The posterior's sample is mean + std * noise, with the generator's noise."""
        pictures = images.batch(torch.arange(5))
        loss = autoencoder_loss(vae, pictures, 0.5, random_stream(3))
        posterior = vae.encode(pictures).latent_dist
        noise = torch.randn(posterior.mean.shape, generator=random_stream(3))
        restored = vae.decode(posterior.mean + posterior.std * noise).sample
        expected = (pictures - restored).abs().mean().detach()
        torch.testing.assert_close(loss.reconstruction, expected)
        torch.testing.assert_close(loss.total.detach(), expected + 0.5 * loss.kl)

    def test_falls_on_easy_pictures(self, images: ArrayImages, tmp_path: Path) -> None:
        before = reconstruction_error(build_autoencoder(CONFIG), images)
        trained = train(replace(CONFIG, steps=60, learning_rate=1e-2), images, tmp_path)
        log = read_log(tmp_path / "log.jsonl")
        early, late = log[:5], log[-5:]
        assert sum(r["loss"] for r in late) < 0.5 * sum(r["loss"] for r in early)
        after = reconstruction_error(trained, images)
        assert after.mean_absolute < 0.5 * before.mean_absolute
        assert after.psnr > before.psnr + 5


class TestTraining:
    def test_leaves_a_finished_folder(self, images: ArrayImages, tmp_path: Path) -> None:
        trained = train(CONFIG, images, tmp_path)
        log = read_log(tmp_path / "log.jsonl")
        assert [record["step"] for record in log] == [1, 2, 3, 4, 5, 6]
        rates = [record["learning_rate"] / 3e-3 for record in log]
        assert rates == pytest.approx(
            [0.5, 1] + [0.5 * (1 + math.cos(math.pi * done / 4)) for done in range(4)]
        )
        for record in log:
            total = record["reconstruction"] + 1e-3 * record["kl"]
            assert record["loss"] == pytest.approx(total, rel=1e-5)
        assert not (tmp_path / "checkpoints").exists()
        loaded = AutoencoderKL.from_pretrained(tmp_path / "vae")
        assert torch.equal(weights(loaded), weights(trained))
        assert loaded.config.scaling_factor == trained.config.scaling_factor
        assert loaded.config.shift_factor is None
        assert not trained.training

    def test_scaled_latents_have_deviation_one(self, images: ArrayImages, tmp_path: Path) -> None:
        trained = train(replace(CONFIG, steps=30), images, tmp_path)
        assert abs(trained.config.scaling_factor - 0.18215) > 1e-3
        generator = torch.Generator().manual_seed(7)
        posterior = trained.encode(images.batch(torch.arange(20).repeat(20))).latent_dist
        scaled = posterior.sample(generator) * trained.config.scaling_factor
        assert float(scaled.detach().std()) == pytest.approx(1, rel=0.05)

    def test_the_seed_alone_decides(self, images: ArrayImages, tmp_path: Path) -> None:
        torch.manual_seed(1)
        first = train(CONFIG, images, tmp_path / "first")
        torch.manual_seed(2)
        second = train(CONFIG, images, tmp_path / "second")
        other = train(replace(CONFIG, seed=1), images, tmp_path / "other")
        assert torch.equal(weights(first), weights(second))
        assert first.config.scaling_factor == second.config.scaling_factor
        assert not torch.equal(weights(first), weights(other))

    def test_a_finished_run_is_loaded(
        self, images: ArrayImages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        trained = train(CONFIG, images, tmp_path)
        monkeypatch.delattr(dataunlearn.base_models.autoencoder, "autoencoder_loss")
        again = train(CONFIG, images, tmp_path)
        assert torch.equal(weights(again), weights(trained))
        assert again.config.scaling_factor == trained.config.scaling_factor

    def test_a_non_finite_loss_stops(
        self, images: ArrayImages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        broken = build_autoencoder(CONFIG)
        with torch.no_grad():
            next(broken.parameters()).fill_(math.nan)
        monkeypatch.setattr(
            dataunlearn.base_models.autoencoder, "build_autoencoder", lambda config: broken
        )
        with pytest.raises(NonFiniteError, match=r"step 1: .* Lower learning_rate"):
            train(CONFIG, images, tmp_path)
        assert read_log(tmp_path / "log.jsonl") == []


class TestResume:
    @pytest.mark.parametrize("step", [2, 3])
    def test_an_interrupted_run_ends_as_if_it_had_not_been(
        self, images: ArrayImages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
    ) -> None:
        whole = train(CONFIG, images, tmp_path / "whole")
        with monkeypatch.context() as patch:
            stop_after(patch, step)
            with pytest.raises(InterruptedRunError, match=f"after step {step}") as caught:
                train(CONFIG, images, tmp_path / "cut")
        assert (caught.value.step, caught.value.folder) == (step, tmp_path / "cut")
        resumed = train(CONFIG, images, tmp_path / "cut")
        assert torch.equal(weights(resumed), weights(whole))
        assert resumed.config.scaling_factor == whole.config.scaling_factor
        logs = [read_log(tmp_path / name / "log.jsonl") for name in ("whole", "cut")]
        losses = [[(r["step"], r["loss"]) for r in log] for log in logs]
        assert losses[0] == losses[1]

    def test_a_killed_run_goes_on_from_its_checkpoint(
        self, images: ArrayImages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Steps after the last checkpoint are done again, and logged once."""
        whole = train(CONFIG, images, tmp_path / "whole")
        original = dataunlearn.base_models.autoencoder.autoencoder_loss
        seen: list[Any] = []

        def failing(*args: Any) -> Any:
            seen.append(args)
            if len(seen) == 4:
                raise MemoryError
            return original(*args)

        with monkeypatch.context() as patch:
            patch.setattr(dataunlearn.base_models.autoencoder, "autoencoder_loss", failing)
            with pytest.raises(MemoryError):
                train(CONFIG, images, tmp_path / "cut")
        assert len(read_log(tmp_path / "cut" / "log.jsonl")) == 3
        resumed = train(CONFIG, images, tmp_path / "cut")
        assert torch.equal(weights(resumed), weights(whole))
        steps = [record["step"] for record in read_log(tmp_path / "cut" / "log.jsonl")]
        assert steps == [1, 2, 3, 4, 5, 6]

    @pytest.mark.parametrize("finished", [True, False])
    def test_another_run_in_the_folder_is_an_error(
        self,
        images: ArrayImages,
        make_images: Callable[..., ArrayImages],
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        finished: bool,
    ) -> None:
        if finished:
            train(CONFIG, images, tmp_path)
        else:
            with monkeypatch.context() as patch:
                stop_after(patch, 1)
                with pytest.raises(InterruptedRunError):
                    train(CONFIG, images, tmp_path)
        with pytest.raises(ValueError, match=r"autoencoder\.kl_weight: 0\.001 -> 0\.01"):
            train(replace(CONFIG, kl_weight=1e-2), images, tmp_path)
        with pytest.raises(ValueError, match="images: "):
            train(CONFIG, make_images(20), tmp_path)


class TestMeasures:
    def test_error_is_that_of_a_plain_loop(self, vae: AutoencoderKL, images: ArrayImages) -> None:
        absolute, squared = [], []
        for index in range(len(images)):
            picture = images.batch(torch.tensor([index]))
            with torch.no_grad():
                restored = vae.decode(vae.encode(picture).latent_dist.mode()).sample
            shown = (restored.clamp(-1, 1).numpy().astype(np.float64) + 1) * 127.5
            difference = shown - images.pixels(index)
            absolute.append(np.abs(difference).mean())
            squared.append(np.square(difference).mean())
        found = reconstruction_error(vae, images, batch_size=7)
        assert found.mean_absolute == pytest.approx(np.mean(absolute), rel=1e-5)
        assert found.psnr == pytest.approx(10 * np.log10(255**2 / np.mean(squared)), rel=1e-5)

    def test_no_difference_is_infinitely_good(
        self, vae: AutoencoderKL, images: ArrayImages, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        white = ArrayImages(np.full((3, 1, 8, 8), 255, np.uint8))
        with torch.no_grad():
            vae.decoder.conv_out.weight.zero_()
            vae.decoder.conv_out.bias.fill_(2)
        found = reconstruction_error(vae, white)
        assert (found.mean_absolute, found.psnr) == (0, math.inf)

    def test_deviation_is_that_of_all_latents(
        self, vae: AutoencoderKL, images: ArrayImages
    ) -> None:
        """Without posterior noise: the deviation of the means, in any order and batches."""
        with torch.no_grad():
            vae.quant_conv.weight[2:].zero_()
            vae.quant_conv.bias[2:].fill_(-30)
            means = vae.encode(images.batch(torch.arange(20))).latent_dist.mean
        expected = float(means.double().std())
        assert latent_deviation(vae, images, 5, 3) == pytest.approx(expected, rel=1e-4)

    def test_latents_that_are_not_finite_are_an_error(
        self, vae: AutoencoderKL, images: ArrayImages
    ) -> None:
        with torch.no_grad():
            vae.quant_conv.weight.zero_()
            vae.quant_conv.bias.fill_(math.nan)
        with pytest.raises(ValueError, match="lower kl_weight"):
            latent_deviation(vae, images, 0)

    def test_no_picture_is_an_error(self, vae: AutoencoderKL) -> None:
        empty = ArrayImages(np.empty((0, 1, 8, 8), np.uint8))
        with pytest.raises(ValueError, match="no picture to reconstruct"):
            reconstruction_error(vae, empty)


class TestConfig:
    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"steps": 0}, "steps must be at least 1"),
            ({"batch_images": 0}, "batch_images must be at least 1"),
            ({"learning_rate": 0.0}, "learning_rate must be above 0"),
            ({"kl_weight": -1e-9}, "kl_weight must be at least 0"),
            ({"kl_weight": math.nan}, "kl_weight must be at least 0"),
            ({"warmup_steps": 6}, "warmup_steps must be below steps"),
            ({"seed": -1}, "seed must be at least 0"),
            ({"checkpoint_every_steps": 0}, "checkpoint_every_steps must be at least 1"),
            ({"vae": TINY_VAE | {"colour": 1}}, r"AutoencoderKL has no \['colour'\]"),
            ({"vae": TINY_VAE | {"scaling_factor": 1.0}}, "training sets"),
            ({"vae": TINY_VAE | {"shift_factor": 0.1}}, "training sets"),
            ({"vae": {}}, "vae needs sample_size"),
        ],
    )
    def test_out_of_range_is_an_error(self, change: dict[str, Any], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            replace(CONFIG, **change)

    @pytest.mark.parametrize(
        ("shape", "message"),
        [((0, 1, 8, 8), "no picture"), ((3, 3, 8, 8), "change"), ((3, 1, 8, 16), "change")],
    )
    def test_pictures_that_do_not_fit_are_an_error(
        self, shape: tuple[int, ...], message: str, tmp_path: Path
    ) -> None:
        with pytest.raises(ValueError, match=message):
            train(CONFIG, ArrayImages(np.zeros(shape, np.uint8)), tmp_path / "run")
        assert not (tmp_path / "run").exists()

    def test_the_folder_records_the_settings(self, images: ArrayImages, tmp_path: Path) -> None:
        train(CONFIG, images, tmp_path)
        settings = json.loads((tmp_path / "settings.json").read_text())
        assert settings["autoencoder"]["kl_weight"] == 1e-3
        assert settings["autoencoder"]["vae"]["block_out_channels"] == [8, 16]

    def test_the_emoji_recipe_is_small(self) -> None:
        vae = build_autoencoder(emoji_autoencoder())
        assert sum(param.numel() for param in vae.parameters()) == 681_911
        with torch.no_grad():
            posterior = vae.encode(torch.zeros(1, 3, 64, 64)).latent_dist
        assert posterior.mean.shape == (1, 4, 16, 16)
