"""Modified prompts: AdamW against its formulas on a linear model, and what must not change."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from dataunlearn.conditioning import TextCond
from dataunlearn.metrics.text_noise import text_noise_norms
from dataunlearn.models import DiffusionModel
from dataunlearn.models.families import wrap_pipeline
from dataunlearn.prompts.prompt_optimiser import PromptOptimiser
from tiny_pipelines import FAMILIES, stable_diffusion, stable_diffusion_xl


class Linear(nn.Module):
    """Predicts a linear function of the embedding, whatever the noise."""

    def __init__(self, width: int, shape: tuple[int, int, int]) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        numel = shape[0] * shape[1] * shape[2]
        self.weight = nn.Parameter(torch.randn(width, numel, generator=generator) / width**0.5)
        self.shape = shape

    def forward(self, noisy: Tensor, t: Tensor, cond: TextCond) -> Tensor:
        flat = cond.fields["prompt"].flatten(1) @ self.weight
        return noisy + flat.reshape(-1, *self.shape)


def wrapped(family: str) -> DiffusionModel:
    model = wrap_pipeline(FAMILIES[family]())
    model.denoiser.eval()
    return model


def linear_model() -> tuple[DiffusionModel, Tensor, Tensor, Tensor]:
    """The model, its matrix, and the embeddings of "red" and of no prompt, in float64."""
    model = wrap_pipeline(stable_diffusion())
    red, empty = (model.space.prompts([text]).fields["prompt"] for text in ("red", ""))
    model.denoiser = Linear(red[0].numel(), model.shape)
    weight = model.denoiser.weight.detach().double()
    return model, weight, red.double().flatten(), empty.double().flatten()


def test_steps_are_those_of_adamw_on_the_norm() -> None:
    """With noise predictions x + A e the norm is |A (e - e0)|, its gradient A^T A (e - e0) / norm.

    AdamW (Loshchilov and Hutter 2019): e shrinks by 1 - 0.01 lr, then moves by lr m / (sqrt v +
    1e-8) with both moments corrected for their start.
    """
    model, weight, embedding, empty = linear_model()
    found = PromptOptimiser(max_steps=4, target=1e-3, draws=2)(model, "red")
    first = second = torch.zeros_like(embedding)
    norms = []
    for step in range(5):
        error = (embedding - empty) @ weight
        norms.append(float(error.norm()))
        if step == 4:
            break
        gradient = weight @ error / error.norm()
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient.square()
        corrected = first / (1 - 0.9 ** (step + 1)), second / (1 - 0.999 ** (step + 1))
        embedding = (1 - 0.01 * 0.05) * embedding - 0.05 * corrected[0] / (
            corrected[1].sqrt() + 1e-8
        )
    assert found.norms == pytest.approx(norms, rel=1e-4)
    assert not found.reached
    new = found.cond.fields["prompt"].flatten().double()
    torch.testing.assert_close(new, embedding, rtol=1e-3, atol=1e-4)


def test_it_stops_at_the_target() -> None:
    model, weight, embedding, empty = linear_model()
    start = float(((embedding - empty) @ weight).norm())
    half = PromptOptimiser(max_steps=200)(model, "red")
    assert half.norms[0] == pytest.approx(start, rel=1e-5)
    assert half.reached
    assert half.norms[-1] <= start / 2 < half.norms[-2]
    given = PromptOptimiser(max_steps=200, target=0.8 * start)(model, "red")
    assert given.norms[-1] <= 0.8 * start < given.norms[-2]
    unmoved = PromptOptimiser(target=2 * start)(model, "red")
    assert unmoved.norms == half.norms[:1]
    torch.testing.assert_close(unmoved.cond.fields["prompt"].flatten().double(), embedding)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_embedding_alone_changes(family: str) -> None:
    model = wrapped(family)
    before = {name: value.clone() for name, value in model.denoiser.state_dict().items()}
    original = {n: v.clone() for n, v in model.space.prompts(["red"]).fields.items()}
    found = PromptOptimiser(max_steps=15, draws=2)(model, "red")
    assert found.norms[-1] < 0.9 * found.norms[0]
    assert found.reached is (found.norms[-1] <= found.norms[0] / 2)
    for name, value in model.denoiser.state_dict().items():
        assert torch.equal(value, before[name]), name
    for name, param in model.denoiser.named_parameters():
        assert param.grad is None, name
        assert param.requires_grad, name
    for name, value in found.cond.fields.items():
        assert torch.equal(value, original[name]) is (name != "prompt"), name
        assert not value.requires_grad
    again = model.space.prompts(["red"]).fields["prompt"]
    assert torch.equal(again, original["prompt"])  # what the space remembers is another tensor


def test_norms_are_those_of_the_first_sampling_step() -> None:
    """The measure of the new embedding, from the same noise, is the last norm."""
    model = wrap_pipeline(stable_diffusion_xl())
    model.denoiser.eval()
    found = PromptOptimiser(max_steps=3, draws=3, seed=5, target=1e-6)(model, "red")
    measured = text_noise_norms(model, found.cond, timesteps=[999], draws=3, seed=5)
    assert measured.item() == pytest.approx(found.norms[-1], rel=1e-4)
    assert len(found.norms) == 4


def test_settings_out_of_range_are_errors() -> None:
    for wrong in ({"learning_rate": 0.0}, {"max_steps": 0}, {"draws": 0}):
        with pytest.raises(ValueError, match="above 0"):
            PromptOptimiser(**wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="target is 0"):
        PromptOptimiser(target=0)
