"""A Stable Diffusion from scratch, on a toy data set with tiny networks."""

from __future__ import annotations

import json
import signal
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline, StableDiffusionPipeline
from torch import Tensor

import dataunlearn.base_models.text_to_image
from dataunlearn.base_models.autoencoder import build_autoencoder
from dataunlearn.base_models.autoencoder_measures import reconstruction_error
from dataunlearn.base_models.captioned import CaptionedImages, open_captioned
from dataunlearn.base_models.config import Autoencoder, BaseModel, MemoryCheck, TextToImageModel
from dataunlearn.base_models.text_to_image import (
    build_text_to_image,
    grid_prompts,
    text_to_image_trainer,
    train_text_to_image,
)
from dataunlearn.cli import main as cli
from dataunlearn.conditioning import TextCond
from dataunlearn.data import ArrayImages
from dataunlearn.models import DiffusionModel, load_model, save_model
from dataunlearn.models.families import wrap_pipeline
from dataunlearn.models.sampling import Drawing, generate
from dataunlearn.models.saving import hash_model
from dataunlearn.recipes.emoji_sd import emoji_sd
from dataunlearn.runtime.files import read_log
from dataunlearn.runtime.interrupt import InterruptedRunError
from dataunlearn.training.config import Ema, Training

NAMES = ["red heart", "blue heart", "green heart", "red moon", "blue moon", "green moon"]
PLANTED = ["blue heart", "green moon"]


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Six names, a picture of each in two styles, two names planted, whose pictures are alike."""
    pixels = np.random.default_rng(0).integers(0, 256, (12, 16, 16, 3), dtype=np.uint8)
    pixels[5] = pixels[5] // 2 + pixels[1] // 2
    path = tmp_path / "data.npz"
    np.savez(path, first=pixels[:6], second=pixels[6:], names=NAMES, planted=PLANTED)
    return path


@pytest.fixture
def config(archive: Path) -> TextToImageModel:
    vae = {
        "sample_size": 16,
        "block_out_channels": (8, 16),
        "down_block_types": ("DownEncoderBlock2D",) * 2,
        "up_block_types": ("UpDecoderBlock2D",) * 2,
        "norm_num_groups": 4,
        "layers_per_block": 1,
    }
    return TextToImageModel(
        autoencoder=Autoencoder(vae, steps=3, batch_images=4, learning_rate=1e-3, kl_weight=1e-3),
        unet={
            "sample_size": 8,
            "block_out_channels": (8, 16),
            "layers_per_block": 1,
            "norm_num_groups": 4,
            "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
            "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
            "attention_head_dim": 4,
            "cross_attention_dim": 16,
        },
        text_encoder={
            "hidden_size": 16,
            "intermediate_size": 32,
            "projection_dim": 16,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
        },
        images=f"{archive}:first",
        twins=f"{archive}:second",
        captions=f"{archive}:names",
        planted=f"{archive}:planted",
        planted_copies=5,
        planted_twin_copies=2,
        training=Training(
            steps=4,
            batch_pairs=4,
            learning_rate=1e-3,
            schedule="cosine",
            warmup_steps=1,
            checkpoint_every_steps=2,
            ema=Ema(max_decay=0.9),
        ),
        vocab_size=600,
        max_length=8,
        sample_every_steps=2,
        memory=MemoryCheck(samples_per_prompt=2, num_steps=2, num_others=3),
    )


@pytest.fixture
def data(config: TextToImageModel) -> CaptionedImages:
    return open_captioned(config)


@pytest.fixture
def model(config: TextToImageModel, data: CaptionedImages) -> DiffusionModel:
    return build_text_to_image(config, build_autoencoder(config.autoencoder), data.captions)


def weights(model: DiffusionModel) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.denoiser.state_dict().items()}


class TestPictures:
    def test_planted_ones_are_repeated_in_both_styles(self, data: CaptionedImages) -> None:
        images = data.repeated(5, 2)
        assert len(images) == 12 + 2 * (5 + 2)
        counts = Counter(images.digests())
        names = Counter(images.caption(index) for index in range(len(images)))
        for index, name in enumerate(NAMES):
            planted = name in PLANTED
            assert counts[data.images.digest(index)] == (6 if planted else 1)
            assert data.twins is not None
            assert counts[data.twins.digest(index)] == (3 if planted else 1)
            assert names[name] == (9 if planted else 2)

    def test_without_repeats_every_picture_is_there_once(self, data: CaptionedImages) -> None:
        assert data.repeated(0, 0).digests() == data.all_images.digests()

    def test_one_style_with_its_own_captions(
        self, config: TextToImageModel, tmp_path: Path
    ) -> None:
        pixels = np.zeros((2, 16, 16, 3), np.uint8)
        np.savez(tmp_path / "own.npz", x=pixels, x_captions=["a", "b"])
        own = replace(
            config, images=f"{tmp_path}/own.npz:x", twins=None, captions=None, planted=None
        )
        found = open_captioned(own)
        assert (found.captions, found.twins, found.planted) == (["a", "b"], None, [])
        assert len(found.repeated(5, 2)) == 2

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"captions": "{}:planted"}, "6 images for 2 captions"),
            ({"captions": None}, "6 images of .* have no caption"),
            ({"captions": "{}:nothing"}, "no array 'nothing'"),
            ({"captions": "{}:first"}, "must hold texts"),
            ({"captions": "names"}, "is no array of texts"),
            ({"planted": "{}:names", "captions": "{}:others"}, "2 planted captions are no image"),
        ],
    )
    def test_captions_that_do_not_fit(
        self,
        config: TextToImageModel,
        archive: Path,
        changes: dict[str, Any],
        message: str,
        tmp_path: Path,
    ) -> None:
        with np.load(archive) as known:
            np.savez(archive, **known, others=[*NAMES[:4], "sun", "star"])
        named = {key: value and value.format(archive) for key, value in changes.items()}
        with pytest.raises(ValueError, match=message):
            train_text_to_image(replace(config, **named), tmp_path / "run", shown=False)
        assert not (tmp_path / "run").exists()

    def test_comparable_pictures_are_far_from_all_else(self) -> None:
        """Grey levels 0, 10, 40, 80, 255 of 2x2 pixels: the distance of two is 2 |a - b| / 255."""
        levels = np.array([0, 10, 40, 80, 255], np.uint8)
        pixels = np.broadcast_to(levels[:, None, None, None], (5, 1, 2, 2)).copy()
        twins = 255 - pixels
        twins[3] = 81
        data = CaptionedImages(ArrayImages(pixels), ArrayImages(twins), [])
        alone = CaptionedImages(ArrayImages(pixels), None, [4])
        assert set(alone.comparable(2 * 20 / 255, 5, seed=0)) == {2, 3}
        assert set(data.comparable(2 * 20 / 255, 5, seed=0)) == {2, 4}
        assert len(data.comparable(2 * 20 / 255, 1, seed=0)) == 1


class TestModel:
    def test_text_encoder_and_unet_learn_together(
        self, config: TextToImageModel, model: DiffusionModel, data: CaptionedImages
    ) -> None:
        before = weights(model)
        frozen = [param.clone() for param in model.pipeline.vae.parameters()]
        trainer = text_to_image_trainer(config, model, data, Path("unused"), shown=False)
        trainer.step(0)
        after = weights(model)
        for part in ("unet.", "text_encoder.", "unet.mid_block.attentions."):
            names = [n for n in before if n.startswith(part) and n.endswith("weight")]
            assert names
            assert not [name for name in names if torch.equal(before[name], after[name])]
        assert all(map(torch.equal, frozen, model.pipeline.vae.parameters()))

    def test_rows_carry_token_ids_and_some_lose_their_prompt(
        self, config: TextToImageModel, model: DiffusionModel, data: CaptionedImages
    ) -> None:
        many = replace(config, training=replace(config.training, batch_pairs=400))
        trainer = text_to_image_trainer(many, model, data, Path("unused"), shown=False)
        cond = trainer.rows(0).cond
        assert isinstance(cond, TextCond)
        tokens, empty = (
            cond.fields["tokens"],
            model.pipeline.tokenizer("", padding="max_length", return_tensors="pt"),
        )
        assert tokens.shape == (400, 8)
        assert tokens.dtype == torch.int64
        share = (tokens == empty.input_ids).all(dim=1).float().mean()
        assert 0.04 < share < 0.16  # 0.1 ± 4 standard deviations

    def test_it_predicts_as_the_pipeline_does(self, model: DiffusionModel) -> None:
        plain = wrap_pipeline(model.pipeline)
        model.denoiser.eval()
        pictures = [
            generate(wrapped, 2, Drawing(num_steps=2, prompts=NAMES, seed=3))
            for wrapped in (model, plain)
        ]
        torch.testing.assert_close(*pictures)
        assert (pictures[0][0] - pictures[0][1]).abs().max() > 0

    def test_the_seed_names_the_weights(
        self, config: TextToImageModel, model: DiffusionModel, data: CaptionedImages
    ) -> None:
        def build(seed: int) -> dict[str, Tensor]:
            changed = replace(config, training=replace(config.training, seed=seed))
            return weights(build_text_to_image(changed, model.pipeline.vae, data.captions))

        first = weights(model)
        assert all(torch.equal(value, first[name]) for name, value in build(0).items())
        assert not all(torch.equal(value, first[name]) for name, value in build(1).items())

    def test_grids_show_planted_and_other_prompts_in_turn(self, data: CaptionedImages) -> None:
        prompts = grid_prompts(data)
        assert [prompt in PLANTED for prompt in prompts] == [True, False, True, False]


class TestSettings:
    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"planted_copies": -1}, "planted_copies must be at least 0"),
            ({"prompt_dropout": 0.0}, "prompt_dropout must lie between"),
            ({"vocab_size": 10}, "vocab_size must be at least 514"),
            ({"max_length": 2}, "max_length must be at least 3"),
            ({"unet": {"sample_size": 16, "cross_attention_dim": 16}}, "8 pixels of a side"),
            ({"unet": {"sample_size": 8, "cross_attention_dim": 4}}, "hidden_size, 16, must be"),
            ({"unet": {"width": 16}}, r"has no \['width'\]"),
        ],
    )
    def test_senseless_ones_are_refused(
        self, config: TextToImageModel, changes: dict[str, Any], message: str
    ) -> None:
        with pytest.raises(ValueError, match=message):
            replace(config, **changes)

    def test_the_recipes_networks(self) -> None:
        recipe = emoji_sd()
        assert recipe.latent_shape == (4, 16, 16)
        vae = build_autoencoder(recipe.autoencoder)
        model = build_text_to_image(recipe, vae, NAMES)
        assert 5e6 < model.num_parameters < 7e6
        cond = model.space.drawn(range(2), NAMES)
        with torch.no_grad():
            found = model.denoiser(torch.randn(2, 4, 16, 16), torch.tensor([1, 999]), cond)
        assert found.shape == (2, 4, 16, 16)


class TestSaving:
    def test_all_parts_are_narrow_on_disk_and_wide_when_loaded(
        self, model: DiffusionModel, tmp_path: Path
    ) -> None:
        parts = ("unet", "vae", "text_encoder")
        before = {name: getattr(model.pipeline, name).state_dict() for name in parts}
        kept = {name: {k: v.clone() for k, v in state.items()} for name, state in before.items()}
        save_model(model, tmp_path / "wide")
        save_model(model, tmp_path / "narrow", torch.float16, whole=True)
        for name in parts:
            after = getattr(model.pipeline, name).state_dict()
            assert all(torch.equal(value, after[key]) for key, value in kept[name].items())
            sizes = [
                sum(file.stat().st_size for file in (tmp_path / kind / name).glob("*.safetensors"))
                for kind in ("wide", "narrow")
            ]
            assert 0.4 < sizes[1] / sizes[0] < 0.75  # half, and the header
        loaded = DiffusionPipeline.from_pretrained(str(tmp_path / "narrow"))
        for name in parts:
            for key, value in getattr(loaded, name).state_dict().items():
                assert value.dtype == kept[name][key].dtype
                if value.is_floating_point():
                    torch.testing.assert_close(value, kept[name][key].half().float())


class TestRun:
    def test_from_start_to_end(
        self, config: TextToImageModel, data: CaptionedImages, tmp_path: Path
    ) -> None:
        out = tmp_path / "run"
        assert train_text_to_image(config, out, shown=False) == out / "model"
        names = {path.name for path in out.iterdir()}
        expected = {"model", "autoencoder", "samples", "log.jsonl", "settings.json", "facts.json"}
        assert names == expected | {"finished"}
        grids = sorted(path.name for path in (out / "samples").iterdir())
        assert grids == ["step_000002.png", "step_000004.png"]
        log = read_log(out / "log.jsonl")
        assert [record["step"] for record in log] == [1, 2, 3, 4]
        assert {record["u_keep"] for record in log} == {1 / (4 * 8 * 8)}
        pipeline = DiffusionPipeline.from_pretrained(str(out / "model"))
        assert type(pipeline) is StableDiffusionPipeline
        pipeline.set_progress_bar_config(disable=True)
        drawn = pipeline("blue heart", num_inference_steps=2, output_type="np").images
        assert drawn.shape == (1, 16, 16, 3)
        facts = json.loads((out / "facts.json").read_text())
        check_facts(facts, load_model(out / "model"), data)
        with pytest.raises(ValueError, match="finished run"):
            train_text_to_image(config, out, shown=False)

    @pytest.mark.parametrize("part", ["autoencoder", "unet"])
    def test_a_resumed_run_saves_the_same_model(
        self, part: str, config: TextToImageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        whole = train_text_to_image(config, tmp_path / "whole", shown=False)
        module, name = {
            "autoencoder": ("dataunlearn.base_models.autoencoder", "autoencoder_loss"),
            "unet": ("dataunlearn.base_models.pixel", "save_grid"),
        }[part]
        with monkeypatch.context() as patch:
            real: Callable[..., Any] = getattr(__import__(module, fromlist=[name]), name)
            patch.setattr(f"{module}.{name}", interrupting(real))
            with pytest.raises(InterruptedRunError):
                train_text_to_image(config, tmp_path / "cut", shown=False)
        assert not (tmp_path / "cut" / "model").exists()
        resumed = train_text_to_image(config, tmp_path / "cut", shown=False)
        assert hash_model(resumed) == hash_model(whole)
        facts = [(tmp_path / run / "facts.json").read_text() for run in ("whole", "cut")]
        assert facts[0] == facts[1]

    def test_another_seed_takes_the_finished_autoencoder(
        self, config: TextToImageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        first = train_text_to_image(config, tmp_path / "first", shown=False)
        monkeypatch.setattr(
            "dataunlearn.base_models.autoencoder.AutoencoderTrainer", None
        )  # training again would fail
        second = replace(
            config,
            planted_copies=0,
            planted_twin_copies=0,
            training=replace(config.training, seed=1),
            autoencoder_dir=str(tmp_path / "first" / "autoencoder"),
        )
        other = train_text_to_image(second, tmp_path / "second", shown=False)
        assert hash_model(other) != hash_model(first)
        assert hash_model(other / "vae") == hash_model(first / "vae")
        facts = json.loads((tmp_path / "second" / "facts.json").read_text())
        assert facts["training_pictures"] == 12
        assert not (tmp_path / "second" / "autoencoder").exists()


def interrupting(real: Callable[..., Any]) -> Callable[..., Any]:
    """A function that asks the run to stop when it is called first."""
    calls = []

    def wrapped(*arguments: Any) -> Any:
        if not calls:
            signal.raise_signal(signal.SIGINT)
        calls.append(1)
        return real(*arguments)

    return wrapped


def check_facts(facts: dict[str, Any], model: DiffusionModel, data: CaptionedImages) -> None:
    """Facts of the toy run: sizes and errors counted again, shares that are shares of two."""
    vae = model.pipeline.vae
    assert facts["parameters"]["unet"] == sum(p.numel() for p in model.denoiser.parameters())
    assert facts["parameters"]["total"] == sum(list(facts["parameters"].values())[:3])
    assert (facts["different_pictures"], facts["training_pictures"]) == (12, 26)
    assert facts["autoencoder"]["psnr"] == reconstruction_error(vae, data.all_images).psnr
    pictures = data.images.batch(torch.tensor(data.planted))
    with torch.no_grad():
        restored = vae.decode(vae.encode(pictures).latent_dist.mean).sample.clamp(-1, 1)
    largest = max(float((a - b).norm()) / 2 for a, b in zip(restored, pictures, strict=True))
    assert facts["autoencoder"]["largest_planted_distance"] == pytest.approx(largest, rel=1e-4)
    memory = facts["memory"]
    with torch.no_grad():
        everything = data.images.batch(torch.arange(6))
        everything = vae.decode(vae.encode(everything).latent_dist.mean).sample.clamp(-1, 1)
    everything = everything.flatten(1)
    gaps = (everything[:, None] - everything[None]).norm(dim=2) / 2
    nearest = float(gaps[data.planted].masked_fill(gaps[data.planted] == 0, 1e9).min())
    assert memory["threshold"] == pytest.approx(7 / 8 * nearest, abs=0.1)  # 8 bits
    assert list(memory["planted"]) == PLANTED
    assert len(memory["others"]) == 3
    assert set(memory["others"]) <= set(NAMES) - set(PLANTED)
    for kind in ("planted", "others"):
        shares = list(memory[kind].values())
        assert set(shares) <= {0.0, 0.5, 1.0}
        assert memory[f"{kind}_mean"] == pytest.approx(sum(shares) / len(shares))
    settings = {name: memory[name] for name in ("seed", "guidance", "num_steps")}
    assert settings == {"seed": 1234, "guidance": 7.5, "num_steps": 2}


class TestCommand:
    @pytest.mark.parametrize(
        ("recipe", "module", "kind"),
        [
            ("emoji_sd", "base_models.text_to_image.train_text_to_image", TextToImageModel),
            ("emoji32", "base_models.pixel.train_base", BaseModel),
        ],
    )
    def test_the_recipe_decides_what_is_trained(
        self, recipe: str, module: str, kind: type, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        seen: dict[str, Any] = {}

        def record(config: Any, out: Path, **rest: Any) -> Path:
            seen["config"] = config
            return out

        monkeypatch.setattr(f"dataunlearn.{module}", record)
        arguments = ["train", "--recipe", recipe, "--out", "x", "--training.steps", "700"]
        assert cli.run([*arguments, "--planted-copies", "7"]) == 0
        assert type(seen["config"]) is kind
        assert seen["config"].training.steps == 700
        assert seen["config"].planted_copies == 7

    def test_the_recipe_arrives_unchanged(self, monkeypatch: pytest.MonkeyPatch) -> None:
        seen = []
        monkeypatch.setattr(
            dataunlearn.base_models.text_to_image,
            "train_text_to_image",
            lambda config, out, **rest: seen.append(config),
        )
        assert cli.run(["train", "--recipe", "emoji_sd", "--out", "x"]) == 0
        assert seen == [emoji_sd()]

    def test_help_lists_the_settings_of_the_recipe(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        for recipe, there, absent in (
            ("emoji_sd", "--autoencoder.steps", "--without"),
            ("emoji32", "--without WITHOUT", "--autoencoder"),
        ):
            with pytest.raises(SystemExit):
                cli.run(["train", "--recipe", recipe, "--help"])
            shown = capsys.readouterr().out
            assert there in shown
            assert absent not in shown.partition("options:")[2]
