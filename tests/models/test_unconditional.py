from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers import (
    DDIMPipeline,
    DDIMScheduler,
    DDPMPipeline,
    DDPMScheduler,
    LDMPipeline,
    UNet2DConditionModel,
    UNet2DModel,
    VQModel,
)

from dataunlearn.models.families import wrap_pipeline
from dataunlearn.models.schedulers import SamplingRule

MakeUnet = Callable[..., UNet2DModel]


def test_the_adapter_is_the_network(make_unet: MakeUnet) -> None:
    unet = make_unet()
    model = wrap_pipeline(DDPMPipeline(unet, DDPMScheduler()), "here")
    noisy, t = torch.randn(3, 1, 8, 8), torch.tensor([0, 500, 999])
    with torch.no_grad():
        assert torch.equal(model.denoiser(noisy, t), unet(noisy, t).sample)
    assert model.shape == (1, 8, 8)
    assert model.num_classes is None
    assert model.source == "here"
    assert model.num_parameters == sum(p.numel() for p in unet.parameters())
    assert model.device == torch.device("cpu")


def test_labels_reach_the_network(make_unet: MakeUnet) -> None:
    unet = make_unet(num_class_embeds=3)
    model = wrap_pipeline(DDPMPipeline(unet, DDPMScheduler()))
    assert model.num_classes == 3
    noisy, t = torch.randn(2, 1, 8, 8), torch.tensor([5, 5])
    with torch.no_grad():
        first, second = (
            model.denoiser(noisy, t, torch.tensor(labels)) for labels in ([0, 1], [2, 1])
        )
        expected = unet(noisy, t, class_labels=torch.tensor([0, 1])).sample
    assert torch.equal(first, expected)
    assert not torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])


def test_pictures_need_not_be_square(make_unet: MakeUnet) -> None:
    unet = make_unet(sample_size=(8, 16), in_channels=3, out_channels=3)
    assert wrap_pipeline(DDPMPipeline(unet, DDPMScheduler())).shape == (3, 8, 16)


@pytest.mark.parametrize("clips", [True, False])
def test_clipping_is_read_from_the_scheduler(make_unet: MakeUnet, clips: bool) -> None:
    pipeline = DDIMPipeline(make_unet(), DDIMScheduler(clip_sample=clips))
    rule = SamplingRule.of(wrap_pipeline(pipeline).pipeline.scheduler)
    assert rule.clip == (1.0 if clips else None)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"out_channels": 2}, "learned variance"),
        ({"sample_size": None}, "no sample_size"),
        ({"class_embed_type": "timestep"}, "class_embed_type='timestep'"),
    ],
)
def test_unsupported_networks_are_refused(
    make_unet: MakeUnet, changes: dict[str, Any], message: str
) -> None:
    pipeline = DDPMPipeline(make_unet(**changes), DDPMScheduler())
    with pytest.raises(ValueError, match=f"over there: .*{message}"):
        wrap_pipeline(pipeline, "over there")


def test_other_classes_are_refused(make_unet: MakeUnet) -> None:
    conditional = UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(8,),
        norm_num_groups=4,
        cross_attention_dim=8,
        attention_head_dim=4,
        down_block_types=("DownBlock2D",),
        up_block_types=("UpBlock2D",),
    )
    codes = VQModel(block_out_channels=(8,), norm_num_groups=4, num_vq_embeddings=4)
    unsupported = {
        "DDPMPipeline with UNet2DConditionModel": DDPMPipeline(conditional, DDPMScheduler()),
        "LDMPipeline with a vqvae": LDMPipeline(codes, make_unet(), DDIMScheduler()),
        "SimpleNamespace with no unet": SimpleNamespace(transformer=1),
    }
    for message, pipeline in unsupported.items():
        with pytest.raises(ValueError, match=message):
            wrap_pipeline(pipeline)
