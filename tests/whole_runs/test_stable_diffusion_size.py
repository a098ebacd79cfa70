"""Stable Diffusion 1.4's denoiser at its published size, with random weights, on a small latent."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest
import torch
from diffusers import UNet2DConditionModel

from dataunlearn.combine import NormFix
from dataunlearn.conditioning import TextCond
from dataunlearn.models import DiffusionModel
from dataunlearn.models.families import wrap_pipeline
from dataunlearn.models.lora import Lora, add_lora, network_of
from dataunlearn.objectives import SISS
from dataunlearn.rows import Pair, Rows
from dataunlearn.training.engine import GradientEngine, trainable
from tiny_pipelines import clip_encoder, stable_diffusion

pytestmark = pytest.mark.big

NUM_PARAMETERS = 859_520_964  # of the published weights
PROMPT_WIDTH = 768
NEEDED_GIB = 18


def free_memory_gib() -> float:
    with open("/proc/meminfo") as lines:
        fields = dict(line.split(":") for line in lines)
    return int(fields["MemAvailable"].split()[0]) / 2**20


@pytest.fixture(scope="module")
def model() -> Iterator[DiffusionModel]:
    if free_memory_gib() < NEEDED_GIB:
        pytest.skip(f"needs {NEEDED_GIB} GiB of free memory")
    with torch.device("meta"):
        unet = UNet2DConditionModel(
            sample_size=32, cross_attention_dim=PROMPT_WIDTH, attention_head_dim=8
        )
    unet.to_empty(device="cpu")
    draw = torch.Generator().manual_seed(0)
    for name, param in unet.named_parameters():
        scale = "norm" in name and name.endswith("weight")
        with torch.no_grad():
            param.fill_(1.0) if scale else param.uniform_(-0.02, 0.02, generator=draw)
    assert sum(param.numel() for param in unet.parameters()) == NUM_PARAMETERS
    pipeline = stable_diffusion()
    encoder = clip_encoder(pipeline.tokenizer, width=PROMPT_WIDTH)
    pipeline.register_modules(unet=unet, text_encoder=encoder)
    found = wrap_pipeline(pipeline)
    del pipeline
    yield found
    del found, unet
    gc.collect()


def one_row(model: DiffusionModel) -> Rows:
    """A row at t = 999 of two latents that are close, so that it carries both sides."""
    draw = torch.Generator().manual_seed(1)
    keep = torch.randn(1, 4, 32, 32, generator=draw)
    prompt = TextCond({"prompt": torch.randn(1, 77, PROMPT_WIDTH, generator=draw)})
    pair = Pair(
        keep,
        keep + 0.05 * torch.randn(keep.shape, generator=draw),
        torch.tensor([999]),
        torch.randn(keep.shape, generator=draw),
        prompt,
        prompt,
    )
    return SISS(lam=0.5)(model.process, pair, draw)


def test_both_gradients_and_the_gramian_of_one_row(model: DiffusionModel) -> None:
    model.denoiser.eval()
    rows = one_row(model)
    gradients = GradientEngine()(model.denoiser, rows)
    assert gradients.counts.forward_rows == 1
    assert gradients.counts.backward_rows == 2
    gramian = gradients.gramian()
    assert gramian.kk > 0
    assert gramian.ff > 0
    assert abs(gramian.kf) <= (gramian.kk * gramian.ff) ** 0.5 * (1 + 1e-5)
    u_keep, u_forget = NormFix(norm=750)(gramian)
    assert u_keep == 1
    assert abs(u_forget) * gramian.norm_forget == pytest.approx(750)


def test_a_full_step_with_lora(model: DiffusionModel) -> None:
    """Follows the other test: the network is frozen from here on."""
    add_lora(model, Lora(rank=4), seed=0)
    network_of(model).enable_gradient_checkpointing()
    model.denoiser.train()
    params = trainable(model.denoiser)
    assert sum(param.numel() for param in params) < NUM_PARAMETERS / 500
    optimizer = torch.optim.AdamW(params, lr=1e-3)
    gradients = GradientEngine()(model.denoiser, one_row(model))
    gradients.write(params, *NormFix(ratio=0.1)(gradients.gramian()))
    before = [param.detach().clone() for param in params]
    optimizer.step()
    assert any(not torch.equal(old, new) for old, new in zip(before, params, strict=True))
