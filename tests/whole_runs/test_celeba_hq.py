"""The CelebA-HQ recipe, offline: google/ddpm-celebahq-256's architecture at random weights."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel

from dataunlearn.models import DiffusionModel
from dataunlearn.models.families import wrap_pipeline
from dataunlearn.recipes import celeba_hq, celeba_hq_ours
from dataunlearn.unlearning.job import prepare_with
from dataunlearn.unlearning.run import make_trainer
from toy_levels import levels_by_hand

pytestmark = pytest.mark.big

NUM_PARAMETERS = 113_673_219  # of the published weights


@pytest.fixture(scope="module")
def model() -> DiffusionModel:
    torch.manual_seed(0)
    unet = UNet2DModel(
        sample_size=256,
        block_out_channels=(128, 128, 256, 256, 512, 512),
        down_block_types=("DownBlock2D",) * 4 + ("AttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "AttnUpBlock2D") + ("UpBlock2D",) * 4,
        downsample_padding=0,
        flip_sin_to_cos=False,
        freq_shift=1,
        norm_eps=1e-6,
        attention_head_dim=None,
    )
    assert sum(p.numel() for p in unet.parameters()) == NUM_PARAMETERS
    return wrap_pipeline(DDPMPipeline(unet, DDPMScheduler()))


@pytest.mark.parametrize(("recipe", "steps"), [(celeba_hq, 2), (celeba_hq_ours, 1)])
def test_first_steps_of_the_recipe(recipe, steps: int, model: DiffusionModel) -> None:
    """One pair instead of 64, and levels by hand; everything else is the recipe's."""
    faces = np.random.default_rng(0).integers(0, 256, (4, 256, 256, 3), dtype=np.uint8)
    config = replace(recipe(), batch_pairs=1, steps=steps)
    job = prepare_with(model, config, faces[:1], faces[1:], shown=False)
    job = replace(job, levels=levels_by_hand([[0.9, 0.5]], (3, 256, 256), (100, 500)))
    trainer = make_trainer(job, out=None, accelerator=None, shown=False)
    before = [param.detach().clone() for param in trainer.params[:4]]
    log = trainer.run()
    rows_of_a_pair = 1 if recipe is celeba_hq else 2
    assert [record["rows"] for record in log] == [rows_of_a_pair] * steps
    assert any(not torch.equal(a, b) for a, b in zip(before, trainer.params, strict=False))
    if recipe is celeba_hq:
        assert trainer.rows(0).t.tolist() == [999]
        forgetting = [r for r in log if r["norm_forget"] > 0]
        assert forgetting, "neither step drew the face to forget"
        for record in forgetting:
            assert abs(record["u_forget"]) * record["norm_forget"] == pytest.approx(500)
    else:
        assert trainer.phase.asks and trainer.frozen is not None
        assert trainer.rows(0).forget.question is not None
