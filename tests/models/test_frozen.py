"""The copy that is asked: as the model was, and rounded where that changes nothing."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from diffusers import UNet2DConditionModel

from dataunlearn.conditioning import TextCond
from dataunlearn.models import DiffusionModel
from dataunlearn.models.frozen import frozen_copy, frozen_model
from dataunlearn.models.stable_diffusion import StableDiffusionDenoiser


def test_a_copy_stays_when_the_model_changes(make_model: Callable[..., DiffusionModel]) -> None:
    model = make_model()
    noisy, t = torch.randn(2, *model.shape), torch.tensor([3, 700])
    frozen = frozen_model(model)
    before = frozen(noisy, t, None)
    with torch.no_grad():
        for param in model.denoiser.parameters():
            param.add_(1)
    assert torch.equal(frozen(noisy, t, None), before)
    assert not any(param.requires_grad for param in frozen.parameters())
    assert not frozen.training


@pytest.mark.parametrize("prompts", [False, True])
def test_a_rounded_copy_answers_the_same_under_autocast_in_half_the_memory(
    make_model: Callable[..., DiffusionModel], prompts: bool
) -> None:
    torch.manual_seed(0)
    if prompts:
        unet = UNet2DConditionModel(
            sample_size=8,
            block_out_channels=(32, 32),
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
            layers_per_block=1,
            cross_attention_dim=16,
            attention_head_dim=4,
        )
        denoiser = StableDiffusionDenoiser(unet).eval()
        asked = (torch.randn(2, 4, 8, 8), torch.tensor([3, 700]))
        cond = TextCond({"prompt": torch.randn(2, 5, 16)})
    else:
        model = make_model()
        denoiser, cond = model.denoiser.eval(), None
        asked = (torch.randn(2, *model.shape), torch.tensor([3, 700]))
    exact, rounded = frozen_copy(denoiser), frozen_copy(denoiser, rounded=True)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(exact(*asked, cond), rounded(*asked, cond))
    size = [
        sum(p.numel() * p.element_size() for p in copy.parameters()) for copy in (exact, rounded)
    ]
    assert size[1] < 0.55 * size[0]
