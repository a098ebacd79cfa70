from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    DDIMPipeline,
    DDIMScheduler,
    DDPMPipeline,
    DDPMScheduler,
    DiffusionPipeline,
    UNet2DConditionModel,
    UNet2DModel,
)
from huggingface_hub import HfApi

from dataunlearn.cli.accelerator import make_accelerator
from dataunlearn.models import DiffusionModel, load_model, save_model
from dataunlearn.models.families import wrap_pipeline
from dataunlearn.models.loading import check_device
from dataunlearn.models.saving import hash_model, hash_weights
from dataunlearn.runtime.files import replace_folder

MakeUnet = Callable[..., UNet2DModel]
MakeModel = Callable[..., DiffusionModel]


def weights(model: DiffusionModel) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.denoiser.state_dict().items()}


def assert_equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> None:
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert value.dtype == second[name].dtype
        assert torch.equal(value, second[name]), name


def draw(pipeline: Any) -> np.ndarray:
    pipeline.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(3)
    images: np.ndarray = pipeline(
        batch_size=2, generator=generator, num_inference_steps=4, output_type="np"
    ).images
    return images


def full_disk(*args: Any, **kwargs: Any) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


class TestSave:
    @pytest.mark.parametrize(
        ("pipeline_class", "scheduler_class"),
        [(DDIMPipeline, DDIMScheduler), (DDPMPipeline, DDPMScheduler)],
    )
    def test_diffusers_alone_reloads_it_and_draws_the_same(
        self, tmp_path: Path, make_unet: MakeUnet, pipeline_class: Any, scheduler_class: Any
    ) -> None:
        scheduler = scheduler_class(beta_end=0.015, clip_sample=False)
        model = wrap_pipeline(pipeline_class(make_unet(), scheduler))
        save_model(model, tmp_path / "model")
        found = DiffusionPipeline.from_pretrained(str(tmp_path / "model"))
        assert type(found) is pipeline_class
        assert found.scheduler.config.beta_end == 0.015
        assert np.array_equal(draw(found), draw(model.pipeline))
        assert not list((tmp_path / "model").rglob("*.bin"))

    def test_others_may_read_every_file(self, tmp_path: Path, make_model: MakeModel) -> None:
        save_model(make_model(), tmp_path / "model")
        files = [path for path in (tmp_path / "model").rglob("*") if path.is_file()]
        assert any(path.suffix == ".safetensors" for path in files)
        assert {path.stat().st_mode & 0o777 for path in files} == {0o644}

    def test_load_gives_back_the_model(self, tmp_path: Path, make_model: MakeModel) -> None:
        model = make_model(num_class_embeds=3)
        save_model(model, tmp_path / "model")
        found = load_model(tmp_path / "model")
        assert_equal(weights(found), weights(model))
        assert (found.shape, found.num_classes) == (model.shape, 3)
        assert found.source == str(tmp_path / "model")
        t = torch.arange(1000)
        assert torch.equal(found.process.gamma(t), model.process.gamma(t))

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_half_precision_is_stored_and_widened_on_loading(
        self, tmp_path: Path, make_model: MakeModel, dtype: torch.dtype
    ) -> None:
        model = make_model()
        before = weights(model)
        save_model(model, tmp_path / "model", dtype)
        stored = UNet2DModel.from_pretrained(tmp_path / "model" / "unet", torch_dtype=dtype)
        full = (tmp_path / "model" / "unet" / "diffusion_pytorch_model.safetensors").stat().st_size
        assert full < 3 * model.num_parameters
        found = load_model(tmp_path / "model")
        rounded = {name: value.to(dtype).float() for name, value in before.items()}
        assert_equal(weights(found), rounded)
        assert_equal(
            {f"unet.{k}": v for k, v in stored.state_dict().items()},
            {name: value.to(dtype) for name, value in before.items()},
        )

    def test_saving_in_half_precision_leaves_the_model_as_it_is(
        self, tmp_path: Path, make_model: MakeModel
    ) -> None:
        model = make_model()
        before = weights(model)
        save_model(model, tmp_path / "model", torch.float16)
        assert_equal(weights(model), before)

    def test_saving_over_an_old_folder_replaces_it(
        self, tmp_path: Path, make_model: MakeModel
    ) -> None:
        save_model(make_model(0), tmp_path / "model")
        (tmp_path / "model" / "leftover").write_text("old")
        save_model(make_model(1), tmp_path / "model")
        assert names(tmp_path) == ["model"]
        assert "leftover" not in names(tmp_path / "model")
        assert_equal(weights(load_model(tmp_path / "model")), weights(make_model(1)))

    @pytest.mark.parametrize("old", [True, False])
    def test_full_disk_leaves_the_old_folder(
        self, tmp_path: Path, make_model: MakeModel, monkeypatch: pytest.MonkeyPatch, old: bool
    ) -> None:
        if old:
            save_model(make_model(0), tmp_path / "model")
        model = make_model(1)
        before = weights(model)
        with monkeypatch.context() as patch:
            patch.setattr(DDPMScheduler, "save_pretrained", full_disk)
            with pytest.raises(OSError, match="No space left"):
                save_model(model, tmp_path / "model", torch.float16)
        assert names(tmp_path) == (["model"] if old else [])
        assert_equal(weights(model), before)
        if old:
            assert_equal(weights(load_model(tmp_path / "model")), weights(make_model(0)))


class TestReplaceFolder:
    def test_moves_into_place(self, tmp_path: Path) -> None:
        for old in (False, True):
            (tmp_path / "new").mkdir()
            (tmp_path / "new" / f"file{old}").touch()
            replace_folder(tmp_path / "new", tmp_path / "target")
            assert names(tmp_path) == ["target"]
            assert names(tmp_path / "target") == [f"file{old}"]

    def test_failed_second_rename_puts_the_old_folder_back(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in ("new", "target"):
            (tmp_path / name).mkdir()
            (tmp_path / name / f"in_{name}").touch()
        real = os.replace

        def replace(source: Path, target: Path) -> None:
            if Path(source).name == "new":
                full_disk()
            real(source, target)

        monkeypatch.setattr("dataunlearn.runtime.files.os.replace", replace)
        with pytest.raises(OSError, match="No space left"):
            replace_folder(tmp_path / "new", tmp_path / "target")
        assert names(tmp_path / "target") == ["in_target"]
        assert names(tmp_path) == ["new", "target"]


class TestHash:
    def test_weights_alone_count(self, tmp_path: Path, make_model: MakeModel) -> None:
        model = make_model()
        original = hash_weights(model)
        assert hash_weights(make_model()) == original
        save_model(model, tmp_path / "model")
        assert hash_weights(load_model(tmp_path / "model")) == original
        with torch.no_grad():
            next(model.denoiser.parameters()).view(-1)[0] += 1e-6
        assert hash_weights(model) != original

    def test_storage_type_does_not_count(self, tmp_path: Path, make_model: MakeModel) -> None:
        """Float16 to float32 is exact, so a model and its widened copy have one hash."""
        model = make_model()
        model.denoiser.half()
        half = hash_weights(model)
        save_model(model, tmp_path / "half", torch.float16)
        assert hash_weights(load_model(tmp_path / "half")) == half
        model.denoiser.float()
        assert hash_weights(model) == half

    def test_folder_hash_follows_files(self, tmp_path: Path, make_model: MakeModel) -> None:
        for name, seed in (("a", 0), ("b", 0), ("c", 1)):
            save_model(make_model(seed), tmp_path / name)
        first, second, third = (hash_model(tmp_path / name) for name in "abc")
        assert first == second != third
        (tmp_path / "a" / "notes.txt").write_text("not a weight")
        assert hash_model(tmp_path / "a") == first


@pytest.fixture
def bare(tmp_path: Path, make_unet: MakeUnet) -> Path:
    """A folder with a bare network, and nothing beside it."""
    folder = tmp_path / "checkpoint-5" / "unet"
    make_unet().save_pretrained(folder)
    return folder


class TestBareUnet:
    def test_scheduler_beside_it(self, bare: Path, make_unet: MakeUnet) -> None:
        DDIMScheduler(beta_end=0.012).save_pretrained(bare.parent / "scheduler")
        model = load_model(bare)
        assert type(model.pipeline.scheduler) is DDIMScheduler
        assert model.pipeline.scheduler.config.beta_end == 0.012
        expected = {f"unet.{k}": v for k, v in make_unet().state_dict().items()}
        assert_equal(weights(model), expected)

    def test_given_scheduler_folder_or_pipeline(
        self, bare: Path, tmp_path: Path, make_model: MakeModel
    ) -> None:
        DDPMScheduler(beta_end=0.03).save_pretrained(tmp_path / "elsewhere")
        assert load_model(bare, scheduler=tmp_path / "elsewhere").pipeline.scheduler.config[
            "beta_end"
        ] == pytest.approx(0.03)
        save_model(make_model(), tmp_path / "pipeline")
        found = load_model(bare, scheduler=str(tmp_path / "pipeline"))
        assert found.pipeline.scheduler.config.beta_end == 0.02

    def test_given_scheduler_wins_over_the_neighbour(self, bare: Path, tmp_path: Path) -> None:
        DDPMScheduler(beta_end=0.012).save_pretrained(bare.parent / "scheduler")
        DDPMScheduler(beta_end=0.03).save_pretrained(tmp_path / "elsewhere")
        found = load_model(bare, scheduler=tmp_path / "elsewhere")
        assert found.pipeline.scheduler.config.beta_end == 0.03

    def test_averaged_weights_folder(self, tmp_path: Path, make_unet: MakeUnet) -> None:
        make_unet(1).save_pretrained(tmp_path / "unet_ema")
        DDPMScheduler().save_pretrained(tmp_path / "scheduler")
        expected = {f"unet.{k}": v for k, v in make_unet(1).state_dict().items()}
        assert_equal(weights(load_model(tmp_path / "unet_ema")), expected)

    def test_no_scheduler_anywhere(self, bare: Path, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match=r"bare unet: give --scheduler"):
            load_model(bare)
        with pytest.raises(ValueError, match=r"give --scheduler.*nowhere"):
            load_model(bare, scheduler=tmp_path / "nowhere")

    def test_unknown_scheduler_class(self, bare: Path) -> None:
        (bare.parent / "scheduler").mkdir()
        config = {"_class_name": "DreamScheduler"}
        (bare.parent / "scheduler" / "scheduler_config.json").write_text(json.dumps(config))
        with pytest.raises(ValueError, match="scheduler is a DreamScheduler, which diffusers"):
            load_model(bare)

    def test_missing_weights(self, bare: Path) -> None:
        DDPMScheduler().save_pretrained(bare.parent / "scheduler")
        (bare / "diffusion_pytorch_model.safetensors").unlink()
        with pytest.raises(ValueError, match="holds no weights"):
            load_model(bare)

    def test_other_network_class(self, tmp_path: Path) -> None:
        UNet2DConditionModel(
            block_out_channels=(8,),
            norm_num_groups=4,
            cross_attention_dim=8,
            attention_head_dim=4,
            down_block_types=("DownBlock2D",),
            up_block_types=("UpBlock2D",),
        ).save_pretrained(tmp_path / "unet")
        with pytest.raises(ValueError, match="text-to-image model alone: give the whole"):
            load_model(tmp_path / "unet")


class TestErrors:
    def test_missing_path(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match=r"does not exist"):
            load_model(tmp_path / "nothing")

    def test_not_a_model(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="is no diffusers model"):
            load_model(tmp_path)

    def test_pipeline_with_a_scheduler_given(self, tmp_path: Path, make_model: MakeModel) -> None:
        save_model(make_model(), tmp_path / "model")
        with pytest.raises(ValueError, match="drop --scheduler"):
            load_model(tmp_path / "model", scheduler=tmp_path / "model")

    def test_pipeline_without_its_unet(self, tmp_path: Path, make_model: MakeModel) -> None:
        save_model(make_model(), tmp_path / "model")
        shutil.rmtree(tmp_path / "model" / "unet")
        with pytest.raises(ValueError, match="there is no folder unet with its UNet2DModel"):
            load_model(tmp_path / "model")

    def test_pipeline_of_an_unknown_class(self, tmp_path: Path) -> None:
        (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": "DreamPipeline"}))
        with pytest.raises(ValueError, match="has no pipeline DreamPipeline"):
            load_model(tmp_path)

    @pytest.mark.parametrize(
        ("changes", "message"),
        [({"out_channels": 2}, "learned variance"), ({"sample_size": None}, "no sample_size")],
    )
    def test_unsupported_network(
        self, tmp_path: Path, make_unet: MakeUnet, changes: dict[str, Any], message: str
    ) -> None:
        DDPMPipeline(make_unet(**changes), DDPMScheduler()).save_pretrained(tmp_path / "model")
        with pytest.raises(ValueError, match=message):
            load_model(tmp_path / "model")


class TestDevices:
    def test_those_that_are_there_are_told(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
        for device in ("cpu", "cuda", "cuda:0", "cuda:1"):
            check_device(device)
        for device in ("cuda:2", "cuda:", "cuda:-1", "gpu", ""):
            with pytest.raises(ValueError, match="there is cpu, cuda, cuda:0, cuda:1"):
                check_device(device)

    def test_the_command_takes_no_number(self) -> None:
        """It would run on the first GPU whatever the number."""
        with pytest.raises(ValueError, match=r"CUDA_VISIBLE_DEVICES .* chooses one of several"):
            make_accelerator("cuda:1")


class TestHub:
    def test_without_a_network_the_error_says_what_to_copy(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        """The hub is asked once, for a short while, then what was fetched earlier is looked at."""
        asked = []

        def offline(*args: Any, **settings: Any) -> None:
            asked.append(settings)
            raise OSError("We couldn't connect to 'https://huggingface.co'")

        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(HfApi, "model_info", offline)
        monkeypatch.setattr(DiffusionPipeline, "download", offline)
        with pytest.raises(ValueError, match="google/ddpm") as caught:
            load_model("google/ddpm-celebahq-256")
        for text in ("couldn't connect", "model_index.json", "scheduler_config.json"):
            assert text in str(caught.value)
        assert asked == [{"timeout": 5}, {"local_files_only": True}]

    def test_an_id_is_fetched_and_opened(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, make_model: MakeModel
    ) -> None:
        save_model(make_model(), tmp_path / "fetched")
        asked = []

        def fetch(source: str, *, local_files_only: bool) -> Path:
            asked.append((source, local_files_only))
            return tmp_path / "fetched"

        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(HfApi, "model_info", lambda *args, **settings: None)
        monkeypatch.setattr(DiffusionPipeline, "download", fetch)
        assert load_model("owner/name").source == "owner/name"
        assert asked == [("owner/name", False)]

    def test_a_mistyped_name_in_a_folder_that_is_there(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(HfApi, "model_info", lambda *args, **settings: pytest.fail("asked"))
        (tmp_path / "models").mkdir()
        with pytest.raises(ValueError, match=r"no 'mine' in the folder models here.*hub id"):
            load_model("models/mine")

    @pytest.mark.parametrize("source", ["name", "a/b/c", "./a", "~/a", "/a"])
    def test_mistyped_paths_never_touch_the_network(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, source: str
    ) -> None:
        def unwanted(*args: Any, **kwargs: Any) -> None:
            pytest.fail("asked the network")

        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(HfApi, "model_info", unwanted)
        with pytest.raises(ValueError, match="does not exist"):
            load_model(source)
