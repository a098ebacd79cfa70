"""Pipelines in memory, in whatever state their user left them."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDPMPipeline, DDPMScheduler, DiffusionPipeline, StableDiffusionPipeline
from peft import LoraConfig

import dataunlearn
from dataunlearn.data import ArrayImages
from dataunlearn.data.base import ImageSet
from dataunlearn.models import save_model
from dataunlearn.models.families import wrap_pipeline
from dataunlearn.models.lora import Lora
from dataunlearn.models.parts import as_they_were, networks_of
from dataunlearn.models.sampling import Drawing, generate
from quick_run import QUICK
from tiny_pipelines import FAMILIES, flux, stable_diffusion, stable_diffusion_3


def pictures(count: int, seed: int) -> ImageSet:
    pixels = np.random.default_rng(seed).integers(0, 256, (count, 3, 16, 16), dtype=np.uint8)
    return ArrayImages(pixels, captions=["red"] * count)


def unlearned(pipeline: Any, **more: Any) -> Any:
    return dataunlearn.unlearn(
        pipeline, forget=pictures(1, 1), keep=pictures(3, 2), **{**QUICK, **more}
    )


def changed(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> set[str]:
    return {name for name, value in before.items() if not torch.equal(value, after[name])}


def types(pipeline: Any) -> set[torch.dtype]:
    return {p.dtype for network in networks_of(pipeline).values() for p in network.parameters()}


class TestPrecision:
    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
    @pytest.mark.parametrize("family", ["stable diffusion", "stable diffusion 3", "flux"])
    def test_networks_become_float32_and_draw_as_their_float32_copies(
        self, family: str, dtype: torch.dtype
    ) -> None:
        pipeline = FAMILIES[family]()
        expected = copy.deepcopy(pipeline).to(dtype).to(torch.float32)
        model = wrap_pipeline(pipeline.to(dtype))
        assert types(model.pipeline) == {torch.float32}
        drawing = Drawing(num_steps=2, prompts=["red"])
        drawn = generate(model, 1, drawing)
        torch.testing.assert_close(drawn, generate(wrap_pipeline(expected), 1, drawing))

    def test_unlearning_works_in_place_on_a_pipeline_in_half_precision(
        self, make_unet: Callable[..., Any], make_images: Callable[..., ImageSet]
    ) -> None:
        pipeline = DDPMPipeline(make_unet(), DDPMScheduler()).to(torch.float16)
        result = dataunlearn.unlearn(
            pipeline, forget=make_images(1), keep=make_images(3, 1), **QUICK
        )
        assert result.pipeline is pipeline
        assert types(pipeline) == {torch.float32}

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
    def test_an_audit_leaves_the_pipeline_as_it_is(self, dtype: torch.dtype) -> None:
        pipeline = stable_diffusion().to(dtype)
        pipeline.unet.train()
        dataunlearn.audit(
            pipeline,
            pictures(1, 1),
            keep=pictures(3, 2),
            num_samples=2,
            sampling_steps=1,
            tries=1,
            num_steps=1,
            embedder="pixels",
            shown=False,
        )
        assert types(pipeline) == {dtype}
        assert pipeline.unet.training
        assert all(p.requires_grad for p in pipeline.text_encoder.parameters())


class TestMissingParts:
    @pytest.mark.parametrize(
        ("make", "gone"),
        [
            (stable_diffusion, "text_encoder"),
            (stable_diffusion, "vae"),
            (stable_diffusion, "scheduler"),
            (flux, "tokenizer_2"),
            (stable_diffusion_3, "text_encoder"),
        ],
    )
    def test_they_are_named(self, make: Callable[[], Any], gone: str) -> None:
        pipeline = make()
        pipeline.register_modules(**{gone: None})
        with pytest.raises(ValueError, match=f"has no {gone}, without which"):
            unlearned(pipeline)

    def test_stable_diffusion_3_does_without_its_third_encoder(self) -> None:
        pipeline = stable_diffusion_3()
        pipeline.register_modules(text_encoder_3=None, tokenizer_3=None)
        drawn = generate(wrap_pipeline(pipeline), 1, Drawing(num_steps=1, prompts=["red"]))
        assert bool(drawn.isfinite().all())


class TestAdapters:
    def with_lora(self) -> Any:
        pipeline = stable_diffusion()
        torch.manual_seed(3)
        config = LoraConfig(
            r=2, target_modules=["to_q", "to_k", "to_v", "to_out.0"], init_lora_weights=False
        )
        pipeline.unet.add_adapter(config, adapter_name="mine")
        return pipeline

    @pytest.mark.parametrize("lora", [None, Lora(rank=2)])
    def test_loaded_ones_are_refused_with_advice(self, lora: Lora | None) -> None:
        with pytest.raises(ValueError, match=r"\(mine in unet\).*fuse_lora\(\)"):
            unlearned(self.with_lora(), lora=lora)

    def test_fused_ones_are_to_be_taken_off(self) -> None:
        pipeline = self.with_lora()
        pipeline.unet.fuse_lora()
        with pytest.raises(ValueError, match="fused already: take off what is left"):
            unlearned(pipeline)

    def test_the_advice_is_true(self, tmp_path: Path) -> None:
        """Fused and unloaded, what is trained and saved starts from the base with its LoRA."""
        pipeline = self.with_lora()
        plain = stable_diffusion().unet.state_dict()
        pipeline.fuse_lora()
        pipeline.unload_lora_weights()
        merged = {name: value.clone() for name, value in pipeline.unet.state_dict().items()}
        assert changed(plain, merged)
        assert not any(param.requires_grad for param in pipeline.unet.parameters())
        unlearned(pipeline, out=tmp_path)
        assert not any(param.requires_grad for param in pipeline.unet.parameters())
        saved = DiffusionPipeline.from_pretrained(str(tmp_path / "model")).unet.state_dict()
        assert changed(merged, saved)
        near = sum(float((saved[name] - merged[name]).square().sum()) for name in merged)
        far = sum(float((saved[name] - plain[name]).square().sum()) for name in merged)
        assert near < far / 4

    def test_an_audit_takes_the_pipeline_with_them(self) -> None:
        plain, adapted = wrap_pipeline(stable_diffusion()), wrap_pipeline(self.with_lora())
        drawing = Drawing(num_steps=2, prompts=["red"])
        assert not torch.equal(generate(plain, 1, drawing), generate(adapted, 1, drawing))


class TestFrozen:
    def test_a_partly_frozen_network_is_trained_whole_and_frozen_again(self) -> None:
        pipeline = stable_diffusion()
        pipeline.unet.requires_grad_(False)
        pipeline.unet.conv_out.requires_grad_(True)
        before = {name: value.clone() for name, value in pipeline.unet.state_dict().items()}
        unlearned(pipeline)
        assert len(changed(before, pipeline.unet.state_dict())) > len(before) / 2
        free = {name for name, p in pipeline.unet.named_parameters() if p.requires_grad}
        assert free == {"conv_out.weight", "conv_out.bias"}
        assert all(p.requires_grad for p in pipeline.text_encoder.parameters())

    def test_it_is_put_back_after_an_error(self) -> None:
        pipeline = stable_diffusion()
        pipeline.unet.requires_grad_(False).train()
        with pytest.raises(RuntimeError), as_they_were(pipeline):
            pipeline.unet.requires_grad_(True).eval()
            raise RuntimeError
        assert not any(p.requires_grad for p in pipeline.unet.parameters())
        assert pipeline.unet.training


class OwnPipeline(StableDiffusionPipeline):
    """A class of the user's own."""


def test_a_class_of_its_own_is_what_it_is_derived_from(tmp_path: Path) -> None:
    parts = stable_diffusion().components
    own = OwnPipeline(**parts, requires_safety_checker=False)
    model = wrap_pipeline(own)
    drawing = Drawing(num_steps=1, prompts=["red"])
    expected = generate(wrap_pipeline(stable_diffusion()), 1, drawing)
    assert torch.equal(generate(model, 1, drawing), expected)
    save_model(model, tmp_path / "model")
    saved = DiffusionPipeline.from_pretrained(str(tmp_path / "model"))
    assert type(saved) is StableDiffusionPipeline


def test_offloaded_weights_are_refused() -> None:
    pipeline = stable_diffusion()
    pipeline.unet.to("meta")
    with pytest.raises(ValueError, match="weights of unet are not in memory"):
        wrap_pipeline(pipeline)


class TestSize:
    @pytest.mark.parametrize("make", [stable_diffusion, FAMILIES["stable diffusion xl"]])
    @pytest.mark.parametrize(("size", "shape"), [([8, 8], (8, 8)), ((8, 12), (8, 12))])
    def test_height_and_width_are_used(
        self, make: Callable[[], Any], size: Any, shape: tuple[int, int]
    ) -> None:
        pipeline = make()
        pipeline.unet.register_to_config(sample_size=size)
        model = wrap_pipeline(pipeline)
        assert model.shape == (4, *shape)
        assert model.image_shape == (3, 2 * shape[0], 2 * shape[1])
        drawn = generate(model, 1, Drawing(num_steps=1, prompts=["red"]))
        assert tuple(drawn.shape[1:]) == model.image_shape

    def test_of_transformers(self) -> None:
        pipeline = stable_diffusion_3()
        pipeline.transformer.register_to_config(sample_size=[8, 4])
        assert wrap_pipeline(pipeline).image_shape == (3, 16, 8)
        pipeline.transformer.register_to_config(sample_size=[8, 5])
        with pytest.raises(ValueError, match="multiples of its patches' side 2"):
            wrap_pipeline(pipeline)

    @pytest.mark.parametrize("size", [None, "8", [8], [8, 8, 8], [0, 8], {}])
    def test_what_is_no_size_is_refused(self, size: Any) -> None:
        pipeline = stable_diffusion()
        pipeline.unet.register_to_config(sample_size=size)
        with pytest.raises(ValueError, match=r"config has (no sample_size: add it|sample_size)"):
            wrap_pipeline(pipeline)
        assert wrap_pipeline(pipeline, image_size=16).shape == (4, 8, 8)
