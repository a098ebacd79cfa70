"""Noise that an image is drawn from: found where the model knows the image, and not elsewhere."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dataunlearn.attacks.noise import NoiseSearch, draw_out
from dataunlearn.data import open_images
from dataunlearn.models import DiffusionModel
from dataunlearn.process import ForwardProcess, expand_to
from dataunlearn.unlearning.verdict import Memory
from dataunlearn.verification.battery import checks_of
from dataunlearn.verification.config import Verifying
from dataunlearn.verification.noise import NoiseCheck
from dataunlearn.verification.subject import Pictures, make_subject

QUICK = NoiseSearch(steps=15, learning_rate=0.1, tries=4, sampling_steps=3)


class Mixture(nn.Module):
    """The ideal denoiser of pictures that are all known: nearest in the sense of Gaussians."""

    def __init__(self, process: ForwardProcess, known: Tensor) -> None:
        super().__init__()
        self.process, self.known = process, nn.Parameter(known)

    def forward(self, noisy: Tensor, t: Tensor, cond: Tensor | None) -> Tensor:
        gamma, sigma = self.process.gamma(t), self.process.sigma(t)
        apart = (noisy[:, None] - expand_to(gamma, noisy)[:, None] * self.known).flatten(2)
        logits = -apart.square().sum(2) / (2 * sigma.square()[:, None])
        guess = torch.einsum("bk,kchw->bchw", logits.softmax(1).to(noisy), self.known)
        return self.process.target(noisy, guess, t)


def pixels(count: int, seed: int) -> Any:
    return np.random.default_rng(seed).integers(0, 256, (count, 8, 8), dtype=np.uint8)


def images(count: int, seed: int) -> Tensor:
    return open_images(pixels(count, seed), (1, 8, 8)).batch(torch.arange(count))


@pytest.fixture
def knowing(make_model: Any) -> Any:
    """``knowing(pictures)``: a model that draws these alone."""

    def make(known: Tensor) -> DiffusionModel:
        model = make_model()
        return replace(model, denoiser=Mixture(model.process, known))

    return make


def test_a_picture_that_is_rarely_drawn_is_brought_up(knowing: Any) -> None:
    """One of 24: chance gives it in a twenty-fourth of the tries, made noise in nearly all."""
    known = images(24, 0)
    model, image = knowing(known), known[:1]
    begun = draw_out(model, image, None, replace(QUICK, steps=1, learning_rate=1e-9))
    found = draw_out(model, image, None, QUICK)
    far, near = ((each.pictures - image).flatten(1).norm(dim=1) / 2 for each in (begun, found))
    assert int((near < 0.5).sum()) > int((far < 0.5).sum())
    assert int((near < 0.5).sum()) >= 3
    assert found.errors.shape == (15, 4)
    assert found.errors[-1].mean() < found.errors[0].mean()


def test_a_picture_that_the_model_does_not_know_stays_away(knowing: Any) -> None:
    model, image = knowing(images(24, 0)), images(1, 5)
    found = draw_out(model, image, None, QUICK)
    assert float((found.pictures - image).flatten(1).norm(dim=1).min()) / 2 > 0.5


def test_noise_stays_as_long_as_likely_noise(knowing: Any) -> None:
    known = images(24, 0)
    found = draw_out(knowing(known), known[:1], None, QUICK)
    lengths = found.noise.flatten(1).norm(dim=1)
    torch.testing.assert_close(lengths, torch.full((4,), math.sqrt(64)))


def test_weights_get_no_gradient_and_the_same_seed_finds_the_same(knowing: Any) -> None:
    known = images(24, 0)
    model = knowing(known)
    first, second = (draw_out(model, known[:1], None, QUICK) for _ in range(2))
    assert torch.equal(first.noise, second.noise)
    assert all(parameter.grad is None for parameter in model.denoiser.parameters())
    other = draw_out(model, known[:1], None, replace(QUICK, seed=1))
    assert not torch.equal(first.noise, other.noise)


def test_progress_counts_what_is_announced(knowing: Any) -> None:
    made: list[int] = []
    known = images(4, 0)
    draw_out(knowing(known), known[:1], None, QUICK, progress=made.append)
    assert sum(made) == QUICK.trained


@pytest.mark.parametrize(
    "wrong", [{"steps": 0}, {"tries": 0}, {"learning_rate": 0.0}, {"seed": -1}]
)
def test_settings_are_checked(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        NoiseSearch(**wrong)


@pytest.mark.parametrize("knows", [True, False])
def test_the_check_stands_beside_a_reference(
    knows: bool, knowing: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dataunlearn.verification.noise.search_of", lambda _: QUICK)
    forget, keep = (open_images(pixels(*each), (1, 8, 8)) for each in ((2, 7), (24, 1)))
    others = keep.batch(torch.arange(24))
    without = knowing(others)
    both = torch.cat([forget.batch(torch.arange(2)), others])
    model = knowing(both) if knows else without
    settings = Verifying(effort="thorough", threshold=0.5)
    found = make_subject(model, Pictures(forget, keep), settings, reference=without, shown=False)
    (check,) = (each for each in checks_of(found) if isinstance(each, NoiseCheck))
    assert check.lacks(found) is None
    checked = check(found)
    assert checked.memory is (Memory.STILL_KNOWN if knows else Memory.NEVER_SEEN)
    assert len(checked.numbers["model"]["copies"]) == 2
