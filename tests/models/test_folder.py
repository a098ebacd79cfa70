"""Folders as they come: what can be opened is, and the rest is named in one line."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDPMPipeline, DDPMScheduler
from safetensors.torch import load_file, save_file

from dataunlearn.models import load_model
from dataunlearn.models.sampling import Drawing, generate
from tiny_pipelines import stable_diffusion, stable_diffusion_3

UNET = "unet/diffusion_pytorch_model.safetensors"
ENCODER = "text_encoder/model.safetensors"
VAE = "vae/diffusion_pytorch_model.safetensors"
INDEX = "model_index.json"
Change = Callable[[Path], Any]


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of tiny models, which tests copy."""
    folder = tmp_path_factory.mktemp("made")
    stable_diffusion().save_pretrained(folder / "sd")
    pipeline = stable_diffusion_3()
    pipeline.save_pretrained(folder / "sd3")
    return folder


@pytest.fixture
def sd(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made / "sd", tmp_path / "sd"))


@pytest.fixture
def sd3(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made / "sd3", tmp_path / "sd3"))


def config(file: str, **values: Any) -> Change:
    def change(folder: Path) -> None:
        path = folder / file
        path.write_text(json.dumps(json.loads(path.read_text()) | values))

    return change


def text(file: str, content: str) -> Change:
    return lambda folder: (folder / file).write_text(content)


def tensors(file: str, change: Callable[[dict[str, torch.Tensor]], Any]) -> Change:
    def edit(folder: Path) -> None:
        found = load_file(folder / file)
        change(found)
        save_file(found, folder / file)

    return edit


def cut(file: str) -> Change:
    return lambda folder: (folder / file).write_bytes((folder / file).read_bytes()[:-100])


def first_out(found: dict[str, torch.Tensor]) -> None:
    found.pop(next(iter(found)))


def one_more(found: dict[str, torch.Tensor]) -> None:
    found["more"] = torch.ones(2)


def renamed(found: dict[str, torch.Tensor]) -> None:
    for name in list(found):
        found[f"my_{name}"] = found.pop(name)


def another_shape(found: dict[str, torch.Tensor]) -> None:
    found[next(iter(found))] = torch.ones(2)


def refused(folder: Path, words: str) -> None:
    """It is refused in one line with these words, whatever a library says of it."""
    with pytest.raises(ValueError, match=words) as caught:
        load_model(folder)
    assert "\n" not in str(caught.value)


class TestWeights:
    @pytest.mark.parametrize(
        ("part", "file"), [("unet", UNET), ("text_encoder", ENCODER), ("vae", VAE)]
    )
    @pytest.mark.parametrize(
        ("change", "words"),
        [
            (first_out, "1 tensors are missing"),
            (one_more, r"1 tensors are none of it \(more\)"),
            (renamed, "tensors are missing .* are none of it"),
            (another_shape, "(have another|expected) shape"),
        ],
    )
    def test_other_tensors_than_the_config_asks_for(
        self, sd: Path, part: str, file: str, change: Any, words: str
    ) -> None:
        tensors(file, change)(sd)
        refused(sd, f"{part}.*{words}")

    @pytest.mark.parametrize(
        ("part", "file"), [("unet", UNET), ("text_encoder", ENCODER), ("vae", VAE)]
    )
    def test_truncated_or_none(self, sd: Path, part: str, file: str) -> None:
        cut(file)(sd)
        refused(sd, f"cannot open {part} ")
        (sd / file).unlink()
        refused(sd, f"{part} holds no weights")

    def test_fewer_layers_than_the_file_holds(self, sd: Path) -> None:
        config("text_encoder/config.json", num_hidden_layers=1)(sd)
        refused(sd, "16 tensors are none of it")

    def test_positions_that_older_files_hold(self, sd: Path) -> None:
        name = "text_model.embeddings.position_ids"
        tensors(ENCODER, lambda found: found.update({name: torch.arange(8)[None]}))(sd)
        load_model(sd)

    @pytest.mark.parametrize("variant", ["fp16", "ema", "non_ema"])
    def test_the_only_variant_is_taken(
        self, sd: Path, caplog: pytest.LogCaptureFixture, variant: str
    ) -> None:
        drawing = Drawing(num_steps=1, prompts=["red"])
        expected = generate(load_model(sd), 1, drawing)
        for file in (UNET, ENCODER):
            os.rename(sd / file, (sd / file).with_suffix(f".{variant}.safetensors"))
        assert torch.equal(generate(load_model(sd), 1, drawing), expected)
        assert f"only the variant {variant}" in caplog.text

    def test_of_two_variants_none_is_taken(self, sd: Path) -> None:
        shutil.copy(sd / UNET, (sd / UNET).with_suffix(".ema.safetensors"))
        os.rename(sd / UNET, (sd / UNET).with_suffix(".fp16.safetensors"))
        refused(sd, "the variants ema, fp16 and no plain weights")

    def test_a_variant_of_a_bare_unet(self, make_unet: Any, tmp_path: Path) -> None:
        DDPMPipeline(make_unet(), DDPMScheduler()).save_pretrained(tmp_path, variant="fp16")
        assert load_model(tmp_path / "unet").shape == (1, 8, 8)


class TestConfigs:
    @pytest.mark.parametrize(
        ("change", "words"),
        [
            (config(INDEX, unet=["my_models", "MyUNet"]), "part unet is my_models.MyUNet"),
            (config(INDEX, unet=["diffusers", "MyUNet"]), "part unet is a MyUNet, which diffusers"),
            (config(INDEX, unet=["os", "path"]), "no module that a file names"),
            (config(INDEX, unet=["diffusers", "StableDiffusionPipeline"]), "does not have"),
            (config(INDEX, unet=["diffusers"]), "not \\[library, class\\]"),
            (config(INDEX, unet=[None, None]), "has no unet, without which"),
            (
                config(INDEX, _class_name=["my_pipeline", "MyPipeline"]),
                "code of its own is not run",
            ),
            (config(INDEX, _class_name="MyPipeline"), "has no pipeline MyPipeline"),
            (config(INDEX, _class_name=None), "names None as the pipeline's class"),
            (config("unet/config.json", block_out_channels=None), "cannot open unet"),
            (config("text_encoder/config.json", hidden_size=None), "cannot open text_encoder"),
            (config("scheduler/scheduler_config.json", beta_start=None), "cannot open scheduler"),
            (
                config("vae/config.json", scaling_factor=None),
                "scaling_factor null: it takes a number",
            ),
            (
                config("vae/config.json", shift_factor=[0.1]),
                r"shift_factor \[0.1\]: it takes a number",
            ),
            (config("vae/config.json", shift_factor=10**400), "shift_factor 1000.*: it must be"),
            (config("vae/config.json", scaling_factor=True), "scaling_factor .*number"),
            (
                config("vae/config.json", latents_mean=[0.0], latents_std=[1.0]),
                "latents_mean .*: it must hold 4 numbers$",
            ),
            (
                config("vae/config.json", latents_mean=[0.0] * 4, latents_std=[1, 1, 1, 0]),
                "latents_std .*: it must hold 4 numbers above 0$",
            ),
            (
                config("vae/config.json", latents_mean={"a": 0}, latents_std=[1] * 4),
                "latents_mean .*: it must hold 4 numbers$",
            ),
            (config("unet/config.json", freq_shift=[0]), r"freq_shift \[0\]: it takes a number"),
            (config("unet/config.json", freq_shift="x"), 'freq_shift "x": it takes a number'),
            (config("unet/config.json", sample_size=10**6), "sample_size 1000000: .*up to 16384"),
            (config("unet/config.json", layers_per_block=10**9), "more than 1000"),
            (config("text_encoder/config.json", num_hidden_layers=10**9), "more than 1000"),
            (config("text_encoder/config.json", eos_token_id=[]), "empty prompt cannot be encoded"),
            (
                config("tokenizer/tokenizer_config.json", model_max_length=None),
                r"tokenizer has model_max_length .* takes at most \d+ tokens",
            ),
            (
                config("unet/config.json", mid_block_scale_factor=[[]]),
                r"mid_block_scale_factor \[\[\]\]: it takes a number",
            ),
            (
                config("tokenizer/tokenizer_config.json", model_max_length=[1]),
                r"tokenizer has model_max_length \[1\]: it must be a number",
            ),
            (
                config("unet/config.json", num_class_embeds=True),
                "num_class_embeds true: it takes a number",
            ),
            (
                config("scheduler/scheduler_config.json", prediction_type=[None]),
                r"unknown prediction_type \[None\]",
            ),
            *(
                (
                    config("scheduler/scheduler_config.json", trained_betas=betas),
                    "(noise levels are none: .* Mend its trained_betas|cannot open scheduler)",
                )
                for betas in (0, 2.5, [0.1, 0.2], [[0.1]])
            ),
            (
                config("tokenizer/tokenizer_config.json", eos_token="<new>"),
                r"tokenizer has \d+ tokens, and text_encoder knows",
            ),
            (
                config("scheduler/scheduler_config.json", clip_sample_range=[]),
                r"clip_sample_range=\[\]: it must be a number above 0",
            ),
            (text("unet/config.json", "[" * 100_000), "config.json is no JSON that can be read"),
            (text("unet/config.json", "[]"), "config.json holds no JSON object"),
            (text("tokenizer/tokenizer_config.json", "[" * 100_000), "cannot open tokenizer"),
            (text(INDEX, '{"a":' * 100_000), "model_index.json is no JSON"),
            (lambda folder: shutil.rmtree(folder / "tokenizer"), "there is no folder tokenizer"),
            (lambda folder: (folder / "tokenizer/tokenizer.json").unlink(), "holds no vocabulary"),
        ],
    )
    def test_what_is_wrong_is_named(self, sd: Path, change: Change, words: str) -> None:
        change(sd)
        refused(sd, words)

    def test_no_module_is_imported(
        self, sd: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A module that a config names lies in the working folder, which is on the path."""
        (tmp_path / "my_models.py").write_text("raise SystemExit('it was run')")
        monkeypatch.chdir(tmp_path)
        monkeypatch.syspath_prepend(str(tmp_path))
        config(INDEX, unet=["my_models", "MyUNet"])(sd)
        refused(sd, "part unet is my_models.MyUNet")
        assert "my_models" not in sys.modules

    def test_a_missing_safety_checker_is_left_out(
        self, sd: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        config(
            INDEX,
            safety_checker=["stable_diffusion", "StableDiffusionSafetyChecker"],
            feature_extractor=["transformers", "CLIPImageProcessor"],
            requires_safety_checker=True,
        )(sd)
        assert load_model(sd).pipeline.safety_checker is None
        assert "safety_checker is left out" in caplog.text

    def test_stable_diffusion_3_without_t5(self, sd3: Path) -> None:
        config(INDEX, text_encoder_3=[None, None], tokenizer_3=[None, None])(sd3)
        drawn = generate(load_model(sd3), 1, Drawing(num_steps=1, prompts=["red"]))
        assert bool(drawn.isfinite().all())

    @pytest.mark.parametrize(("size", "shape"), [([8, 8], (8, 8)), ([8, 16], (8, 16))])
    def test_two_sizes_of_stable_diffusion_3(
        self, sd3: Path, size: list[int], shape: tuple[int, int]
    ) -> None:
        config("transformer/config.json", sample_size=size)(sd3)
        model = load_model(sd3)
        assert model.shape[1:] == shape
        generate(model, 1, Drawing(num_steps=1, prompts=["red"]))
        config("transformer/config.json", sample_size=None)(sd3)
        refused(sd3, "has sample_size null: add the number")


class TestOtherThings:
    def test_a_bare_unet_of_a_text_to_image_model(self, sd: Path) -> None:
        refused(sd / "unet", "give the whole pipeline's folder")

    def test_a_lora(self, tmp_path: Path) -> None:
        (tmp_path / "pytorch_lora_weights.safetensors").touch()
        refused(tmp_path, "is a LoRA, and not the model that it adapts.*fuse_lora")

    @pytest.mark.parametrize("suffix", ["safetensors", "ckpt"])
    def test_a_single_file(self, tmp_path: Path, suffix: str) -> None:
        (tmp_path / f"model.{suffix}").touch()
        refused(tmp_path / f"model.{suffix}", "single file.*from_single_file")
        refused(tmp_path, "holds weights .*from_single_file")
