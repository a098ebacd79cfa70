"""The audit on a model that provably memorises, and the command's files and exit codes."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel
from torch import Tensor, nn

from dataunlearn.cli import main as cli
from dataunlearn.data import ArrayImages, ConcatImages, SubsetImages, open_images
from dataunlearn.data.base import ImageSet
from dataunlearn.metrics.audit.audit import AuditedImage, audit_images
from dataunlearn.metrics.audit.calibration import NEUTRAL_PROMPTS
from dataunlearn.metrics.audit.config import AuditSettings
from dataunlearn.models import DiffusionModel
from dataunlearn.models.families import wrap_pipeline
from dataunlearn.models.sampling import Drawing
from dataunlearn.models.space import PixelSpace
from dataunlearn.process import ForwardProcess
from tiny_pipelines import stable_diffusion

SHAPE = (1, 8, 8)
SMALL = AuditSettings(
    tries=24, num_steps=10, num_samples=60, sampling_steps=10, embedder="pixels", num_neighbours=2
)


class Memoriser(nn.Module):
    """The perfect denoiser of a training set: it can restore nothing but its images.

    E[z | m] = sum_k r_k z_k with r = softmax(-|m - gamma z_k|^2 / (2 sigma^2)).
    """

    def __init__(self, process: ForwardProcess, images: Tensor) -> None:
        super().__init__()
        self.process, self.images = process, images
        self.anchor = nn.Parameter(torch.zeros(()))

    def forward(self, noisy: Tensor, t: Tensor, cond: Tensor | None = None) -> Tensor:
        gamma, sigma = float(self.process.gamma(t[:1])), float(self.process.sigma(t[:1]))
        away = torch.cdist(noisy.flatten(1), gamma * self.images.flatten(1)) / sigma
        clean = ((-0.5 * away.square()).softmax(1) @ self.images.flatten(1)).reshape(noisy.shape)
        return self.process.target(noisy, clean, t)


def memoriser(images: Tensor) -> DiffusionModel:
    scheduler = DDPMScheduler()
    process = ForwardProcess.from_scheduler(scheduler)
    pipeline = SimpleNamespace(scheduler=scheduler)
    denoiser = Memoriser(process, images)
    return DiffusionModel(pipeline, denoiser, process, SHAPE, SHAPE, PixelSpace(), "test")  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def pictures() -> ImageSet:
    """Pictures 0 to 5 are the training set, with one pixel of 5 changed in 6; 7 to 11 are not."""
    pixels = np.random.default_rng(0).integers(0, 256, (12, 8, 8), dtype=np.uint8)
    pixels[6] = pixels[5]
    pixels[6, 0, 0] ^= 64
    return open_images(pixels, SHAPE)


@pytest.fixture(scope="module")
def model(pictures: ImageSet) -> DiffusionModel:
    return memoriser(pictures.batch(torch.arange(7)))


def audit(model: DiffusionModel, images: ImageSet, keep: ImageSet | None) -> list[AuditedImage]:
    return audit_images(model, images, keep=keep, settings=SMALL, shown=False)


@pytest.mark.parametrize("with_keep", [True, False])
def test_memorised_images_are_told_from_others(
    model: DiffusionModel, pictures: ImageSet, with_keep: bool
) -> None:
    """Without keep images the model's own samples calibrate."""
    questioned = SubsetImages(pictures, [0, 1, 8, 9])
    keep = SubsetImages(pictures, range(7)) if with_keep else None
    found = audit(model, questioned, keep)
    assert [image.memorised for image in found] == [True, True, False, False]
    assert "restored from t = 500" in found[0].why
    assert found[2].why == "neither restored nor among the samples"
    assert found[0].nearest_distance is not None
    assert found[0].nearest_distance < 0.1
    if with_keep:
        assert found[0].loss_percentile is not None
        assert found[2].loss_percentile is not None
        assert found[2].loss_percentile < 0.2  # no training image has a higher loss


@pytest.mark.parametrize(
    ("shares", "num_copies", "memorised"),
    [((0.5, 0.0), 0, True), ((0.44, 0.44), 0, False), ((0.0, 0.0), 1, True), ((0.0, 1.0), 0, True)],
)
def test_half_of_the_tries_or_one_copy_decide(
    shares: tuple[float, float], num_copies: int, memorised: bool
) -> None:
    intervals = {500: (0.0, 1.0), 750: (0.0, 1.0)}
    regeneration = dict(zip(intervals, shares, strict=True))
    found = AuditedImage("x", "0", 1.0, regeneration, intervals, num_copies, None, None, None, {})
    assert found.memorised is memorised
    assert (found.why == "neither restored nor among the samples") is not memorised


def test_relatives_are_found_among_the_keep_images(
    model: DiffusionModel, pictures: ImageSet
) -> None:
    """Picture 5 is there three times, and 6 is nearly the same; neither hides that it is known."""
    keep = ConcatImages([SubsetImages(pictures, range(7)), SubsetImages(pictures, [5, 5])])
    (found,) = audit(model, SubsetImages(pictures, [5]), keep)
    assert found.twins is not None
    assert found.twins.identical == tuple(keep.name(row) for row in (5, 7, 8))
    assert found.twins.similar[0] == keep.name(6)
    assert found.twins.similarities[0] > 0.98 > found.twins.similarities[1]
    assert found.memorised


def test_a_seed_fixes_the_audit(model: DiffusionModel, pictures: ImageSet) -> None:
    questioned = SubsetImages(pictures, [0, 8])
    first, again = (
        [image.as_json() for image in audit(model, questioned, pictures)] for _ in range(2)
    )
    assert first == again


def test_threshold_without_samples_or_keep_images_is_asked_for(
    model: DiffusionModel, pictures: ImageSet
) -> None:
    with pytest.raises(ValueError, match="needs --keep or --threshold"):
        audit_images(
            model,
            SubsetImages(pictures, [0]),
            settings=AuditSettings(num_samples=0, tries=1),
            shown=False,
        )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    unet = UNet2DModel(
        sample_size=8,
        in_channels=1,
        out_channels=1,
        block_out_channels=(8,),
        down_block_types=("DownBlock2D",),
        up_block_types=("UpBlock2D",),
        layers_per_block=1,
        norm_num_groups=4,
    )
    DDPMPipeline(unet, DDPMScheduler()).save_pretrained(tmp_path / "model")
    pixels = np.random.default_rng(0).integers(0, 256, (12, 8, 8), dtype=np.uint8)
    np.save(tmp_path / "keep.npy", pixels)
    np.save(tmp_path / "images.npy", pixels[:3])
    return tmp_path


def test_command(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """0 if nothing is memorised, 3 if something is; a page, numbers, and no second run into it."""
    command = ["audit", "--model", str(folder / "model"), "--images", str(folder / "images.npy")]
    command += ["--num-samples", "6", "--sampling-steps", "2", "--tries", "2", "--num-steps", "2"]
    out = folder / "out"
    assert cli.run([*command, "--out", str(out), "--threshold", "0.001"]) == 0
    assert "0 of 3 images are memorised." in capsys.readouterr().err
    assert cli.run([*command, "--out", str(out), "--threshold", "0.001"]) == 1
    assert "holds a finished run" in " ".join(capsys.readouterr().err.split())
    unknown = ["--keep", str(folder / "keep.npy"), "--embedder", "-1"]
    assert cli.run([*command, "--out", str(folder / "none"), *unknown]) == 1
    assert "no embedder '-1'" in capsys.readouterr().err
    assert not (folder / "none").exists()  # noticed before anything is written
    keep = ["--keep", str(folder / "keep.npy"), "--embedder", "pixels", "--threshold", "1000"]
    assert cli.run([*command, "--out", str(out), "--overwrite", *keep]) == 3
    assert "3 of 3 images are memorised." in capsys.readouterr().err
    content = json.loads((out / "audit.json").read_text())
    assert content["memorised"] == 3
    first = content["audited"][0]
    assert first["regeneration"] == {"500": 1.0, "750": 1.0}
    assert len(first["training_set"]["identical"]) == 1
    page = (out / "audit.html").read_text()
    assert "3 of 3 images are memorised." in page
    assert page.count("<section") == 3
    assert page.count("data:image/png") == 12  # image, restorations, sample, relatives of each


class TestCalibration:
    """Without keep images and threshold, what others are is told by the model's own samples."""

    def test_samples_of_other_prompts_calibrate_a_text_to_image_model(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A model that draws the picture for its caption, and other pictures for others."""
        model = wrap_pipeline(stable_diffusion())
        pixels = np.random.default_rng(0).integers(0, 256, (1, 3, 16, 16), dtype=np.uint8)
        images = ArrayImages(pixels, captions=["A  photo"])
        asked: list[list[str]] = []

        def drawn(model: DiffusionModel, count: int, drawing: Drawing) -> Tensor:
            asked.append([str(prompt) for prompt in drawing.prompts])
            others = torch.rand(count, 3, 16, 16, generator=torch.Generator().manual_seed(1))
            return (
                images.batch(torch.zeros(count, dtype=torch.int64)) if len(asked) == 1 else others
            )

        monkeypatch.setattr("dataunlearn.metrics.inputs.generate", drawn)
        settings = AuditSettings(num_samples=16, tries=1, num_steps=1, embedder="pixels")
        (found,) = audit_images(model, images, settings=settings, shown=False)
        assert asked[0] == ["A  photo"]
        assert asked[1] == [prompt for prompt in NEUTRAL_PROMPTS if prompt != "a photo"]
        assert found.num_copies == 16
        assert found.memorised
        assert found.threshold > 1

    def test_samples_that_are_nothing_but_the_image_tell_nothing(self, pictures: ImageSet) -> None:
        alone = memoriser(pictures.batch(torch.tensor([0])))
        with pytest.raises(ValueError, match=r"are nearly .*cannot tell.*--keep"):
            audit(alone, SubsetImages(pictures, [0]), None)
        (found,) = audit(alone, SubsetImages(pictures, [0]), pictures)
        assert found.memorised
