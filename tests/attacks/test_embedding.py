"""An embedding that calls up an image: found where the model holds one, the weights as they are."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dataunlearn.attacks.embedding import EmbeddingSearch, recall
from dataunlearn.conditioning import TextCond
from dataunlearn.models import DiffusionModel
from dataunlearn.models.families import wrap_pipeline
from dataunlearn.models.latents import text_space
from tiny_pipelines import stable_diffusion

QUICK = EmbeddingSearch(steps=12, draws=2, samples=3, sampling_steps=2)


@pytest.fixture
def model() -> DiffusionModel:
    found = wrap_pipeline(stable_diffusion())
    found.denoiser.eval()
    return found


def image_of(model: DiffusionModel) -> Tensor:
    shape = (1, *model.image_shape)
    return torch.rand(shape, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_the_loss_falls_and_weights_stay(model: DiffusionModel) -> None:
    before = {name: value.clone() for name, value in model.denoiser.state_dict().items()}
    start = text_space(model).prompts(["red"])
    found = recall(model, image_of(model), start, replace(QUICK, steps=30, draws=8))
    assert found.losses[-8:].mean() < found.losses[:8].mean()
    assert not torch.equal(found.cond.fields["prompt"], start.fields["prompt"])
    for name, value in model.denoiser.state_dict().items():
        assert torch.equal(value, before[name])
    assert all(parameter.grad is None for parameter in model.denoiser.parameters())
    assert found.samples.shape == (3, *model.image_shape)


def test_the_same_seed_finds_the_same(model: DiffusionModel) -> None:
    start = text_space(model).prompts(["red"])
    first, second = (recall(model, image_of(model), start, QUICK) for _ in range(2))
    torch.testing.assert_close(first.cond.fields["prompt"], second.cond.fields["prompt"])
    torch.testing.assert_close(first.samples, second.samples)
    other = recall(model, image_of(model), start, replace(QUICK, seed=1))
    assert not torch.equal(first.samples, other.samples)


class Shelf(nn.Module):
    """Draws what its prompt points at: the clean latents are shelf . mean embedding."""

    def __init__(self, model: DiffusionModel, shelf: Tensor) -> None:
        super().__init__()
        self.process, self.shelf = model.process, nn.Parameter(shelf)

    def forward(self, noisy: Tensor, t: Tensor, cond: TextCond) -> Tensor:
        weights = cond.fields["prompt"].mean(1)  # (B, D)
        clean = torch.einsum("bd,dchw->bchw", weights, self.shelf)
        return self.process.target(noisy, clean, t)


def test_what_is_on_the_shelf_is_found(model: DiffusionModel) -> None:
    """A model that can draw the image for some embedding is led to it; no prompt in words does."""
    space = text_space(model)
    image = image_of(model)
    start = space.prompts(["red"])
    clean = space.encode(image)
    width = start.fields["prompt"].shape[2]
    generator = torch.Generator().manual_seed(1)
    shelf = torch.randn((width, *clean.shape[1:]), generator=generator) / 3
    shelf[0] = clean[0]
    able = replace(model, denoiser=Shelf(model, shelf))
    settings = EmbeddingSearch(steps=200, draws=4, samples=2, sampling_steps=2, learning_rate=0.1)
    found = recall(able, image, start, settings)

    def drawn(cond: TextCond) -> Tensor:
        return torch.einsum("bd,dchw->bchw", cond.fields["prompt"].mean(1), shelf)

    before, after = ((drawn(cond) - clean).norm() for cond in (start, found.cond))
    assert after < 0.1 * before


def test_progress_counts_what_is_announced(model: DiffusionModel) -> None:
    made = []
    start = text_space(model).prompts(["red"])
    recall(model, image_of(model), start, QUICK, progress=made.append)
    assert sum(made) == QUICK.trained + QUICK.samples


@pytest.mark.parametrize(
    "wrong", [{"steps": 0}, {"draws": 0}, {"learning_rate": 0.0}, {"seed": -1}]
)
def test_settings_are_checked(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        EmbeddingSearch(**wrong)
