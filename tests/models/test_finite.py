"""What is not finite is refused where it arises, by name: weights, noise levels, pictures."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DDPMPipeline, DDPMScheduler, EulerDiscreteScheduler
from safetensors.torch import save

from dataunlearn.cli import main as cli
from dataunlearn.data.base import ImageSet
from dataunlearn.metrics.copy_frequency import CopyFrequency
from dataunlearn.metrics.evaluation import TABLE_FILE, evaluate
from dataunlearn.metrics.inputs import Inputs, read_samples
from dataunlearn.metrics.likelihood import bits_per_dim
from dataunlearn.metrics.membership_scores import denoising_losses, pia_scores, sima_scores
from dataunlearn.models import DiffusionModel, load_model, save_model
from dataunlearn.models.families import wrap_pipeline
from dataunlearn.models.finite import blank_samples
from dataunlearn.models.sampling import Drawing, generate, noise_and_denoise
from dataunlearn.process import ForwardProcess
from tiny_pipelines import stable_diffusion

MakeModel = Callable[..., DiffusionModel]
MakeImages = Callable[..., ImageSet]
ZERO_SNR = {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing", "clip_sample": False}


def spoil(model: DiffusionModel, value: float = math.nan) -> DiffusionModel:
    """Spoil the network after it was opened, as training would."""
    with torch.no_grad():
        model.denoiser.unet.conv_out.bias.fill_(value)
    return model


class TestWeights:
    def test_the_tensor_is_named(self, tmp_path: Path, make_model: MakeModel) -> None:
        save_model(spoil(make_model()), tmp_path / "model")
        with pytest.raises(ValueError, match=r"unet's tensor conv_out\.bias are NaN or infinite"):
            load_model(tmp_path / "model")

    @pytest.mark.parametrize("part", ["vae", "text_encoder", "unet"])
    def test_every_network_of_a_pipeline_is_looked_at(self, part: str) -> None:
        pipeline = stable_diffusion()
        with torch.no_grad():
            next(getattr(pipeline, part).parameters()).view(-1)[0] = math.inf
        with pytest.raises(ValueError, match=f"1 of the .* numbers of {part}'s tensor"):
            wrap_pipeline(pipeline)


class TestNoiseLevels:
    @pytest.mark.parametrize("kind", [DDIMScheduler, DDPMScheduler])
    def test_predicted_noise_without_signal_is_refused_by_the_setting(self, kind: Any) -> None:
        with pytest.raises(ValueError, match=r"rescale_betas_zero_snr=True.*'epsilon'"):
            ForwardProcess.from_scheduler(kind(rescale_betas_zero_snr=True))

    def test_trained_betas_that_leave_nothing(self) -> None:
        with pytest.raises(ValueError, match="betas that reach 1"):
            ForwardProcess.from_scheduler(
                DDPMScheduler(num_train_timesteps=2, trained_betas=[0.1, 1.0])
            )

    def test_noise_levels_that_are_none(self) -> None:
        with pytest.raises(ValueError, match="Mend its beta_start and beta_end"):
            ForwardProcess.from_scheduler(DDPMScheduler(beta_end=1.5))
        with pytest.raises(ValueError, match=r"1 at timestep 0.*Mend its trained_betas"):
            ForwardProcess.from_scheduler(
                DDPMScheduler(num_train_timesteps=2, trained_betas=[0.0, 0.5])
            )

    @pytest.mark.parametrize("prediction", ["v_prediction", "sample"])
    def test_other_predictions_draw_from_nothing(
        self, make_unet: Any, make_images: MakeImages, prediction: str
    ) -> None:
        """alphas_cumprod[-1] = 0: the first step's clean estimate is -v, or the prediction."""
        scheduler = DDIMScheduler(prediction_type=prediction, **ZERO_SNR)
        model = wrap_pipeline(DDPMPipeline(make_unet(), scheduler))
        assert bool(generate(model, 2, Drawing(num_steps=4)).isfinite().all())
        pictures = make_images(2).batch(torch.arange(2))
        found = bits_per_dim(model, pictures)
        assert bool(found.bits_per_dim.isfinite().all())

    def test_a_trace_of_signal_is_enough(self, make_unet: Any) -> None:
        """Euler's scheduler leaves alphas_cumprod = 2^-24, and draws with predicted noise."""
        scheduler = EulerDiscreteScheduler(rescale_betas_zero_snr=True)
        model = wrap_pipeline(DDPMPipeline(make_unet(), scheduler))
        assert bool(generate(model, 2, Drawing(num_steps=4)).isfinite().all())


class TestPictures:
    @pytest.mark.parametrize("value", [math.nan, math.inf])
    def test_the_first_one_and_its_timestep_are_named(
        self, make_model: MakeModel, value: float
    ) -> None:
        model = spoil(make_model(), value)
        words = r"prediction for picture 0 \(and 2 more of its batch\) is not finite at timestep"
        with pytest.raises(ValueError, match=f"{words} 999"):
            generate(model, 3, Drawing(num_steps=2))
        with pytest.raises(ValueError, match=f"{words} 400"):
            noise_and_denoise(model, torch.zeros(3, 1, 8, 8), 400, Drawing(num_steps=2))
        generate(model, 1, Drawing(checked=False))

    def test_the_vae_is_named(self) -> None:
        model = wrap_pipeline(stable_diffusion())
        with torch.no_grad():
            model.pipeline.vae.decoder.conv_out.bias.fill_(math.nan)
        with pytest.raises(ValueError, match="the VAE decodes picture 0 to pixels"):
            generate(model, 1, Drawing(num_steps=1))

    def test_scores_name_measure_picture_and_timestep(
        self, make_model: MakeModel, make_images: MakeImages
    ) -> None:
        model, images = spoil(make_model()), make_images(2).batch(torch.arange(2))
        for scores, name in (
            (denoising_losses, "denoising loss"),
            (sima_scores, "SimA score"),
            (pia_scores, "PIA score"),
        ):
            with pytest.raises(ValueError, match=f"{name} of picture 0 at timestep 7"):
                scores(model, images, [7, 9])
        with pytest.raises(ValueError, match="likelihood"):
            bits_per_dim(model, images)

    def test_kept_samples_that_are_not_finite(self, tmp_path: Path) -> None:
        (tmp_path / "s").write_bytes(save({"samples": torch.full((1, 1, 2, 2), math.nan)}))
        with pytest.raises(ValueError, match="not finite: delete it"):
            read_samples(tmp_path / "s")


@pytest.fixture
def white(make_unet: Any) -> DiffusionModel:
    """A model that draws white pictures alone."""
    unet = make_unet()
    with torch.no_grad():
        unet.conv_out.bias.fill_(100)
    return wrap_pipeline(DDPMPipeline(unet, DDPMScheduler(prediction_type="sample")))


class TestBlank:
    def test_one_colour_each_or_the_same_picture(self) -> None:
        pictures = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
        assert blank_samples(pictures) is None
        assert blank_samples(pictures[:0]) is None
        assert blank_samples(pictures[:1]) is None
        assert "same picture" in str(blank_samples(pictures[:1].repeat(3, 1, 1, 1)))
        colours = torch.rand(4, 3, 1, 1).expand(4, 3, 8, 8)
        assert "all 4 samples are of one colour" in str(blank_samples(colours))

    def test_an_evaluation_says_so_first(
        self, tmp_path: Path, white: DiffusionModel, make_images: MakeImages
    ) -> None:
        inputs = Inputs(white, forget=make_images(1), num_samples=4, sampling_steps=2, shown=False)
        evaluate(inputs, {"copies": CopyFrequency(threshold=0.5)}, tmp_path)
        first, *rest = (tmp_path / TABLE_FILE).read_text().splitlines()
        assert first.startswith("**Beware: the model draws nothing: all 4 samples are of one")
        assert any("copy_frequency" in line for line in rest)

    def test_an_audit_gives_no_verdict(
        self,
        tmp_path: Path,
        white: DiffusionModel,
        make_images: MakeImages,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        save_model(white, tmp_path / "model")
        pictures = make_images(3).batch(torch.arange(3))
        np.save(tmp_path / "p.npy", ((pictures[:, 0] + 1) * 127.5).round().byte().numpy())
        command = ["audit", "--model", str(tmp_path / "model"), "--images", str(tmp_path / "p.npy")]
        command += ["--num-samples", "4", "--sampling-steps", "2", "--tries", "2"]
        command += ["--num-steps", "2", "--device", "cpu", "--out", str(tmp_path / "out")]
        assert cli.run(command) == 1
        said = " ".join(capsys.readouterr().err.split())
        assert "the model draws nothing" in said
        assert "cannot be told" in said
        assert "0 of 3" not in said
