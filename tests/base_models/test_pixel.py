from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline, UNet2DModel
from PIL import Image

import dataunlearn.base_models.pixel
from dataunlearn.base_models.config import BaseModel
from dataunlearn.base_models.pixel import build_model, train_base, training_images
from dataunlearn.data import ArrayImages
from dataunlearn.models import load_model
from dataunlearn.models.saving import hash_model
from dataunlearn.recipes import BASE_RECIPES, mnist_tshirt, mnist_tshirt_small
from dataunlearn.recipes.mnist_tshirt import NUM_IMAGES
from dataunlearn.runtime.files import read_log
from dataunlearn.runtime.interrupt import InterruptedRunError
from dataunlearn.training.config import Ema, Training

SHAPE = (1, 8, 8)
PLANTED, UNKNOWN = 200, 201


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Ten pictures (3 and 7 equal), one to plant, and one that is in no training set."""
    pixels = np.random.default_rng(0).integers(0, 256, (10, 8, 8), dtype=np.uint8)
    pixels[7] = pixels[3]
    path = tmp_path / "data.npz"
    np.savez(
        path,
        x=pixels,
        t=np.full((1, 8, 8), PLANTED, np.uint8),
        stranger=np.full((1, 8, 8), UNKNOWN, np.uint8),
        twin=pixels[3:4],
    )
    return path


@pytest.fixture
def config(archive: Path, tiny_unet: dict[str, Any]) -> BaseModel:
    return BaseModel(
        unet=tiny_unet,
        images=f"{archive}:x",
        planted=f"{archive}:t",
        planted_copies=6,
        training=Training(
            steps=5,
            batch_pairs=4,
            learning_rate=1e-3,
            schedule="cosine",
            warmup_steps=1,
            checkpoint_every_steps=2,
            ema=Ema(max_decay=0.9),
        ),
        sample_every_steps=2,
    )


@pytest.fixture
def few_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Grids of four samples instead of sixty-four."""
    monkeypatch.setattr(dataunlearn.base_models.pixel, "NUM_GRID_SAMPLES", 4)


class TestTrainingImages:
    def test_planted_copies_are_counted(self, config: BaseModel) -> None:
        images = training_images(config, SHAPE)
        assert len(images) == 16
        values = [int(images.pixels(index)[0, 0, 0]) for index in range(10, 16)]
        assert values == [PLANTED] * 6
        assert len(set(images.digests())) == 10

    def test_nothing_planted(self, config: BaseModel) -> None:
        assert len(training_images(replace(config, planted=None), SHAPE)) == 10

    def test_several_planted_pictures(self, config: BaseModel, archive: Path) -> None:
        planted = replace(config, planted=f"{archive}:x", planted_copies=2)
        images = training_images(planted, SHAPE)
        digests = images.digests()
        assert len(images) == 30
        assert all(digests.count(digest) == 3 for digest in set(digests) - {digests[3]})
        assert digests.count(digests[3]) == 6

    @pytest.mark.parametrize(("name", "gone"), [("t", set(range(10, 16))), ("twin", {3, 7})])
    def test_without_removes_exactly_those(
        self, config: BaseModel, archive: Path, name: str, gone: set[int]
    ) -> None:
        digests = training_images(config, SHAPE).digests()
        images = training_images(replace(config, without=f"{archive}:{name}"), SHAPE)
        assert images.digests() == [d for i, d in enumerate(digests) if i not in gone]

    def test_without_an_unknown_picture_is_an_error(self, config: BaseModel, archive: Path) -> None:
        with pytest.raises(ValueError, match=r"1 of the images in .*not in the training set"):
            training_images(replace(config, without=f"{archive}:stranger"), SHAPE)

    def test_without_everything_is_an_error(self, config: BaseModel, archive: Path) -> None:
        with pytest.raises(ValueError, match="no training image is left"):
            training_images(replace(config, planted=None, without=f"{archive}:x"), SHAPE)


class TestBuild:
    def test_the_seed_names_the_weights(self, config: BaseModel) -> None:
        def weights(seed: int) -> torch.Tensor:
            training = replace(config.training, seed=seed)
            model = build_model(replace(config, training=training))
            return torch.cat([p.detach().reshape(-1) for p in model.denoiser.parameters()])

        torch.manual_seed(5)
        before = torch.get_rng_state()
        assert torch.equal(weights(1), weights(1))
        assert not torch.equal(weights(1), weights(2))
        assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.usefixtures("few_samples")
class TestRun:
    def test_from_start_to_end(self, config: BaseModel, tmp_path: Path) -> None:
        out = tmp_path / "run"
        assert train_base(config, out, shown=False) == out / "model"
        names = {path.name for path in out.iterdir()}
        assert names == {"model", "samples", "log.jsonl", "settings.json", "finished"}
        grids = sorted((out / "samples").iterdir())
        assert [path.name for path in grids] == ["step_000002.png", "step_000004.png"]
        for path in grids:
            with Image.open(path) as grid:
                assert min(grid.size) >= 8
        log = read_log(out / "log.jsonl")
        assert [record["step"] for record in log] == [1, 2, 3, 4, 5]
        assert {record["u_keep"] for record in log} == {1 / 64}
        pipeline = DiffusionPipeline.from_pretrained(str(out / "model"))
        assert type(pipeline.unet) is UNet2DModel
        assert load_model(out / "model").shape == SHAPE
        with pytest.raises(ValueError, match="finished run"):
            train_base(config, out, shown=False)

    def test_the_average_is_what_is_saved(self, config: BaseModel, tmp_path: Path) -> None:
        plain = replace(config, training=replace(config.training, ema=None))
        averaged = train_base(config, tmp_path / "averaged", shown=False)
        trained = train_base(plain, tmp_path / "plain", shown=False)
        assert hash_model(averaged) != hash_model(trained)
        first, second = (read_log(tmp_path / n / "log.jsonl") for n in ("averaged", "plain"))
        assert [r["loss_keep"] for r in first] == [r["loss_keep"] for r in second]

    def test_a_resumed_run_saves_the_same_model(
        self, config: BaseModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Interrupted at step 4, in the sample grid; the log and the model's bytes must agree."""
        whole = train_base(config, tmp_path / "whole", shown=False)
        real: Callable[..., None] = dataunlearn.base_models.pixel.save_grid

        def interrupted(pixels: Any, path: Path) -> None:
            real(pixels, path)
            if path.name == "step_000004.png":
                signal.raise_signal(signal.SIGINT)

        with monkeypatch.context() as patch:
            patch.setattr(dataunlearn.base_models.pixel, "save_grid", interrupted)
            with pytest.raises(InterruptedRunError, match="after step 4"):
                train_base(config, tmp_path / "cut", shown=False)
        assert not (tmp_path / "cut" / "model").exists()
        resumed = train_base(config, tmp_path / "cut", shown=False)
        assert hash_model(resumed) == hash_model(whole)
        logs = [read_log(tmp_path / name / "log.jsonl") for name in ("whole", "cut")]
        for log in logs:
            for record in log:
                del record["seconds"]
        assert logs[0] == logs[1]

    def test_overwrite_starts_anew(self, config: BaseModel, tmp_path: Path) -> None:
        first = hash_model(train_base(config, tmp_path / "run", shown=False))
        other = replace(config, training=replace(config.training, seed=1))
        with pytest.raises(ValueError, match="finished run"):
            train_base(other, tmp_path / "run", shown=False)
        second = train_base(other, tmp_path / "run", overwrite=True, shown=False)
        assert hash_model(second) != first

    def test_bad_data_claims_no_folder(
        self, config: BaseModel, archive: Path, tmp_path: Path
    ) -> None:
        with pytest.raises(ValueError, match="not in the training set"):
            train_base(
                replace(config, without=f"{archive}:stranger"), tmp_path / "run", shown=False
            )
        assert not (tmp_path / "run").exists()

    def test_a_class_conditional_network_wants_labels(
        self, config: BaseModel, tmp_path: Path
    ) -> None:
        conditional = replace(config, unet=config.unet | {"num_class_embeds": 3})
        with pytest.raises(ValueError, match="no labels"):
            train_base(conditional, tmp_path / "run", shown=False)


class TestRecipes:
    def test_published_model(self) -> None:
        """Architecture with 14.7 M parameters; 250 epochs of 60,606 images at batch 128."""
        recipe = mnist_tshirt()
        with torch.device("meta"):
            unet = UNet2DModel(**recipe.unet)
        assert 14.6e6 < sum(p.numel() for p in unet.parameters()) < 14.8e6
        assert "add_attention" not in recipe.unet
        assert [block is not None for block in unet.mid_block.attentions] == [True]
        assert 60_000 + recipe.planted_copies == NUM_IMAGES
        assert recipe.training.batch_pairs == 128
        assert recipe.training.steps == 118_371  # 250 * 60,606 / 128 = 118,371.09
        assert recipe.training.ema is not None
        assert recipe.training.schedule == "cosine"

    def test_small_model(self) -> None:
        recipe = mnist_tshirt_small()
        model = build_model(recipe)
        assert model.num_parameters == 1_540_681
        assert model.shape == (1, 28, 28)
        assert recipe.planted_copies == 606

    @pytest.mark.parametrize("name", BASE_RECIPES)
    def test_every_recipe_runs_forward(self, name: str) -> None:
        with torch.device("meta"):
            unet = UNet2DModel(**BASE_RECIPES[name]().unet)
            size = unet.config.sample_size
            noisy = torch.empty(2, unet.config.in_channels, size, size)
            assert unet(noisy, torch.tensor([1, 2])).sample.shape == noisy.shape

    def test_each_call_returns_its_own(self) -> None:
        mnist_tshirt().unet["sample_size"] = 1
        assert mnist_tshirt().unet["sample_size"] == 28


def test_image_set_type(config: BaseModel, make_images: Callable[..., ArrayImages]) -> None:
    """The tiny network takes the shape that the tests' pictures have."""
    assert build_model(config).shape == make_images(1).shape
