"""Every text-to-image family from end to end: unlearn, save, reload with plain diffusers, draw."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline
from safetensors.torch import load_file

import dataunlearn
from dataunlearn.assets import asset
from dataunlearn.data import ArrayImages
from dataunlearn.models import DiffusionModel, load_model
from dataunlearn.models.families import wrap_pipeline
from dataunlearn.models.lora import Lora
from dataunlearn.models.sampling import Drawing, generate
from dataunlearn.objectives import SISS, SISSNoIS
from dataunlearn.training.trainer import Trainer
from dataunlearn.unlearning.config import Evaluation
from dataunlearn.unlearning.run import UnlearnResult
from quick_run import QUICK
from tiny_pipelines import CAPTIONS, FAMILIES, safety_parts, stable_diffusion

MEASURED: Evaluation = QUICK["evaluation"]


def make_images(count: int, seed: int, captions: list[str] | None) -> ArrayImages:
    draw = np.random.default_rng(seed)
    pixels = draw.integers(0, 256, (count, 3, 16, 16), dtype=np.uint8)
    return ArrayImages(pixels, captions=captions)


def unlearn(pipeline: Any, out: Path | None, **settings: Any) -> UnlearnResult:
    return dataunlearn.unlearn(
        pipeline,
        forget=make_images(1, 1, ["red"]),
        keep=make_images(3, 2, ["red"] * 3),
        out=out,
        **{**QUICK, **settings},
    )


def draw(pipeline: Any) -> np.ndarray:
    pipeline.set_progress_bar_config(disable=True)
    pictures = pipeline(
        CAPTIONS[0],
        num_inference_steps=2,
        height=16,
        width=16,
        output_type="np",
        generator=torch.Generator().manual_seed(0),
    ).images
    return np.asarray(pictures)


@pytest.mark.parametrize("family", FAMILIES)
class TestFamilies:
    def test_full_fine_tuning(self, family: str, tmp_path: Path) -> None:
        pipeline = FAMILIES[family]()
        before = draw(pipeline)
        result = unlearn(pipeline, tmp_path / "run")
        assert len(result.log) == 2
        reloaded = DiffusionPipeline.from_pretrained(str(tmp_path / "run" / "model"))
        after = draw(reloaded)
        assert np.isfinite(after).all()
        assert np.abs(after - before).max() > 1e-6
        np.testing.assert_allclose(after, draw(result.pipeline), atol=1e-4)
        assert (tmp_path / "run" / "report.json").is_file()

    def test_lora_loads_and_unloads_as_an_ordinary_one(self, family: str, tmp_path: Path) -> None:
        pipeline = FAMILIES[family]()
        before = draw(pipeline)
        result = unlearn(pipeline, tmp_path / "run", lora=Lora(rank=2), learning_rate=1e-2)
        merged = draw(DiffusionPipeline.from_pretrained(str(tmp_path / "run" / "model")))
        assert np.abs(merged - before).max() > 1e-6
        fresh = FAMILIES[family]()
        fresh.load_lora_weights(str(tmp_path / "run" / "lora"))
        np.testing.assert_allclose(draw(fresh), merged, atol=1e-4)
        fresh.unload_lora_weights()
        np.testing.assert_allclose(draw(fresh), before, atol=1e-5)
        assert result.facts["model"]["before"]["sha256"] != result.facts["model"]["after"]["sha256"]


def test_samples_are_measured_with_the_prompts_to_forget() -> None:
    """Copies are looked for among pictures of what was memorised, not of the empty prompt."""
    pipeline = stable_diffusion()
    result = unlearn(pipeline, None, learning_rate=1e-12, evaluation=MEASURED)
    model = wrap_pipeline(stable_diffusion())
    model.denoiser.eval()
    wanted, empty = (
        generate(model, 2, Drawing(seed=MEASURED.seed, num_steps=2, prompts=prompts))
        for prompts in (["red"], [])
    )
    assert not torch.allclose(wanted, empty, atol=1e-2)
    torch.testing.assert_close(result.before.samples, wanted)
    torch.testing.assert_close(result.after.samples, wanted, atol=1e-3, rtol=0)


def test_a_reference_encodes_prompts_itself(tmp_path: Path) -> None:
    """A model whose text encoder says the opposite, and whose unet hears the opposite, is the same.

    All that the unet takes from a prompt goes through the keys and values of cross-attention, which
    are linear: with them and the text encoder's last layer norm negated nothing changes.
    """
    twin = stable_diffusion()
    norm = next(m for n, m in twin.text_encoder.named_modules() if n.endswith("final_layer_norm"))
    layers = [m for n, m in twin.unet.named_modules() if n.endswith(("attn2.to_k", "attn2.to_v"))]
    assert layers
    with torch.no_grad():
        for parameter in (norm.weight, norm.bias, *(layer.weight for layer in layers)):
            parameter.neg_()
    twin.save_pretrained(str(tmp_path / "twin"))
    many = replace(MEASURED, regeneration_copies=4)
    result = unlearn(stable_diffusion(), None, evaluation=many, reference=str(tmp_path / "twin"))
    before, reference = result.before.numbers, result.facts["reference"]
    for key in ("regeneration_median_distance",):
        assert reference[key]["500"] == pytest.approx(before[key]["500"], abs=1e-3)


def test_a_reference_of_another_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot be compared"):
        unlearn(stable_diffusion(), None, reference=str(asset("mnist_tshirt_small")))


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"tracker": "wandb"}, "leave out tracker"), ({"device": "mps"}, "no device 'mps' here")],
)
def test_what_python_cannot_do_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        unlearn(stable_diffusion(), None, **settings)


def test_captions_concern_no_pixel_model(
    make_model: Callable[..., DiffusionModel], make_images: Callable[..., ArrayImages]
) -> None:
    """Pictures with captions are unlearned from a model that takes no prompts as any others."""
    forget = ArrayImages(make_images(1, 1)._pixels, captions=["a word"])
    settings = {**QUICK, "evaluation": MEASURED}
    result = dataunlearn.unlearn(
        make_model().pipeline, forget=forget, keep=make_images(3), **settings
    )
    assert len(result.after.samples) == 2


def test_a_safety_checker_is_not_trained_and_comes_back(tmp_path: Path) -> None:
    """Its weights and its picture processor lie in the new folder as they were, and it is used."""
    pipeline = stable_diffusion()
    pipeline.register_modules(**safety_parts())
    pipeline.register_to_config(requires_safety_checker=True)
    pipeline.save_pretrained(str(tmp_path / "model"))
    unlearn(str(tmp_path / "model"), tmp_path / "run")
    old, new = (
        folder / "safety_checker" for folder in (tmp_path / "model", tmp_path / "run/model")
    )
    weights, saved = (load_file(folder / "model.safetensors") for folder in (old, new))
    assert weights.keys() == saved.keys()
    for name, value in weights.items():
        torch.testing.assert_close(saved[name], value, rtol=0, atol=0)
    reloaded = DiffusionPipeline.from_pretrained(str(tmp_path / "run" / "model"))
    assert type(reloaded.safety_checker).__name__ == "StableDiffusionSafetyChecker"
    assert reloaded.feature_extractor is not None
    assert np.isfinite(draw(reloaded)).all()


class TestPrompts:
    def test_different_captions_need_a_choice(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="choose with conditioning"):
            dataunlearn.unlearn(
                stable_diffusion(),
                forget=make_images(1, 1, ["red"]),
                keep=make_images(3, 2, ["blue"] * 3),
                objective=SISS(),
                **QUICK,
            )

    def test_two_pass_objectives_take_both_captions(self, tmp_path: Path) -> None:
        result = dataunlearn.unlearn(
            stable_diffusion(),
            forget=make_images(1, 1, ["red"]),
            keep=make_images(3, 2, ["blue"] * 3),
            objective=SISSNoIS(),
            **QUICK,
        )
        assert len(result.log) == 2

    def test_generated_keep_images_take_the_forget_images_prompts(self) -> None:
        result = dataunlearn.unlearn(
            stable_diffusion(), forget=make_images(1, 1, ["red"]), keep="generated:4", **QUICK
        )
        assert len(result.log) == 2


class TestMemory:
    def test_gradient_checkpointing_changes_nothing_else(self, tmp_path: Path) -> None:
        plain = unlearn(stable_diffusion(), tmp_path / "plain", objective=SISS())
        saved = unlearn(
            stable_diffusion(), tmp_path / "saved", objective=SISS(), gradient_checkpointing=True
        )
        for name in ("norm_keep", "norm_forget", "loss_keep"):
            values = [[record[name] for record in run.log] for run in (plain, saved)]
            np.testing.assert_allclose(*values, rtol=1e-5)

    def test_a_lora_run_goes_on_from_a_checkpoint_of_the_adapter_alone(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        whole = unlearn(stable_diffusion(), tmp_path / "whole", lora=Lora(rank=2), steps=4)
        settings = {"lora": Lora(rank=2), "steps": 4, "checkpoint_every_steps": 2}
        step = Trainer.step

        def fail_at_third(trainer: Trainer, number: int) -> dict[str, Any]:
            if number == 2:
                raise RuntimeError("power cut")
            return step(trainer, number)

        monkeypatch.setattr(Trainer, "step", fail_at_third)
        with pytest.raises(RuntimeError, match="power cut"):
            unlearn(stable_diffusion(), tmp_path / "cut", **settings)
        state = next((tmp_path / "cut" / "checkpoints").glob("*/state.safetensors"))
        names = [name for name in load_file(state) if name.startswith("model.")]
        assert names
        assert all(".lora_" in name for name in names)
        monkeypatch.setattr(Trainer, "step", step)
        resumed = unlearn(stable_diffusion(), tmp_path / "cut", **settings)
        assert resumed.facts["model"]["after"]["sha256"] == whole.facts["model"]["after"]["sha256"]

    def test_image_size_is_for_text_to_image_models(self, tmp_path: Path) -> None:
        stable_diffusion().save_pretrained(tmp_path / "model")
        assert load_model(tmp_path / "model", image_size=32).image_shape == (3, 32, 32)
        with pytest.raises(ValueError, match="multiple of 2"):
            load_model(tmp_path / "model", image_size=15)


def test_lora_is_refused_where_diffusers_has_none(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has no LoRA for a DDPMPipeline"):
        dataunlearn.unlearn(
            str(asset("mnist_tshirt_small")),
            forget=str(asset("tshirt.png")),
            keep=np.zeros((2, 28, 28), np.uint8),
            lora=Lora(),
            **QUICK,
        )


def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a kill other pictures are new to the autoencoder than in one go, in other company."""
    settings = {**QUICK, "steps": 6, "checkpoint_every_steps": 2, "batch_pairs": 4}

    def run(name: str) -> dict[str, torch.Tensor]:
        dataunlearn.unlearn(
            stable_diffusion(),
            forget=make_images(3, 1, CAPTIONS[:1] * 3),
            keep=make_images(30, 2, CAPTIONS[:1] * 30),
            out=tmp_path / name,
            objective=SISS(),
            **settings,
        )
        unet = tmp_path / name / "model" / "unet" / "diffusion_pytorch_model.safetensors"
        return load_file(unet)

    whole, step = run("whole"), Trainer.step
    with monkeypatch.context() as patch:

        def cut(trainer: Trainer, number: int) -> dict[str, Any]:
            if number == 3:
                raise RuntimeError("power cut")
            return step(trainer, number)

        patch.setattr(Trainer, "step", cut)
        with pytest.raises(RuntimeError, match="power cut"):
            run("cut")
    assert (tmp_path / "cut" / "checkpoints" / "step_00000002").is_dir()
    resumed = run("cut")
    for name, value in whole.items():
        assert torch.equal(resumed[name], value), name
