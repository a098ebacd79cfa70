"""Parameters that may not move do not, and anchored ones come back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from dataunlearn.models import DiffusionModel
from dataunlearn.objectives import SISS
from dataunlearn.training.config import Ema, Training
from dataunlearn.training.engine import trainable
from dataunlearn.training.pairs import PairSampler
from dataunlearn.training.parameter_importance import (
    BATCHES,
    forget_gradient,
    prediction_sensitivity,
)
from dataunlearn.training.phase import Phase, StepPart
from dataunlearn.training.restraints import (
    Anchor,
    Restraint,
    SaliencyMask,
    flat,
    most_salient,
)
from dataunlearn.training.trainer import Trainer

CONFIG = Training(
    steps=6,
    batch_pairs=4,
    learning_rate=1e-2,
    weight_decay=0.1,
    ema=Ema(),
    checkpoint_every_steps=3,
)
Runs = Callable[..., tuple[Trainer, torch.Tensor]]


@pytest.fixture
def sampler_of(make_images: Any) -> Callable[[DiffusionModel], PairSampler]:
    """Pairs of few pictures for a model."""
    return lambda model: PairSampler(
        make_images(7), make_images(3, 1), model.process, batch_pairs=4, seed=3
    )


@pytest.fixture
def trained(make_model: Any, sampler_of: Any) -> Runs:
    """``trained(restraint_of, run_dir=None, fail_at=None)``: a trainer that ran, its start.

    ``restraint_of`` gets the weights before the first step; the run breaks off after ``fail_at``.
    """

    def fail(step: int) -> bool:
        raise RuntimeError(f"broken off after step {step}")

    def make(
        restraint_of: Callable[[torch.Tensor], Restraint],
        run_dir: Path | None = None,
        fail_at: int | None = None,
    ) -> tuple[Trainer, torch.Tensor]:
        model = make_model()
        start = flat(trainable(model.denoiser))
        part = StepPart(sampler_of(model), SISS())
        phase = Phase([part], SISS().default_combination, restraint=restraint_of(start))
        trainer = Trainer(
            model,
            [phase],
            CONFIG,
            run_dir=run_dir,
            callbacks=[lambda trainer, done: done == fail_at and fail(done)],
            shown=False,
        )
        trainer.run()
        return trainer, start

    return make


def every_other(start: torch.Tensor) -> torch.Tensor:
    return torch.arange(len(start)) % 2 == 0


def test_masked_parameters_end_as_they_were(trained: Runs) -> None:
    """Bit for bit, although weight decay pulls at them; the others move."""
    trainer, start = trained(lambda start: Restraint(start.clone(), every_other(start)))
    for params in (trainer.params, trainer.ema.shadow_params if trainer.ema else []):
        moved = flat(list(params)) != start
        assert not bool(moved[1::2].any())
        assert float(moved[::2].float().mean()) > 0.9


def test_lengths_count_what_moves_alone(trained: Runs) -> None:
    """With nine tenths of the parameters masked the first step's gradients are shorter."""
    free, _ = trained(lambda start: Restraint())
    few, _ = trained(lambda start: Restraint(start.clone(), torch.arange(len(start)) % 10 == 0))
    for side in ("norm_keep", "norm_forget"):
        assert few.log.records[0][side] < 0.7 * free.log.records[0][side]


def test_an_anchor_adds_its_gradient() -> None:
    """Against automatic differentiation of the penalty."""
    generator = torch.Generator().manual_seed(0)
    params = [nn.Parameter(torch.randn(shape, generator=generator)) for shape in ((2, 3), (4,))]
    centre, pull = torch.randn(10, generator=generator), torch.rand(10, generator=generator)
    penalty = (pull * (torch.cat([p.flatten() for p in params]) - centre).square()).sum()
    wanted = torch.autograd.grad(penalty, params)
    for param in params:
        param.grad = torch.ones_like(param)
    Restraint(centre=centre, pull=pull).draw_back(params)
    for param, gradient in zip(params, wanted, strict=True):
        torch.testing.assert_close(param.grad, 1 + gradient)


def test_anchored_weights_end_nearer(trained: Runs) -> None:
    """Adam takes steps of one size, so that only their direction can change."""
    drifts = []
    for strength in (0.0, 1e3):
        trainer, start = trained(
            lambda start, s=strength: Restraint(centre=start, pull=torch.full_like(start, s))
        )
        drifts.append(float((flat(trainer.params) - start).norm()))
    assert drifts[1] < 0.9 * drifts[0]


def test_a_resumed_run_is_held_alike(trained: Runs, tmp_path: Path) -> None:
    """Mask and anchor are found anew, so that a run in two parts equals one in a piece."""

    def restraint(start: torch.Tensor) -> Restraint:
        movable = every_other(start)
        return Restraint(start.clone(), movable, start.clone(), 10.0 * movable)

    whole, _ = trained(restraint)
    with pytest.raises(RuntimeError, match="after step 4"):
        trained(restraint, tmp_path, fail_at=4)
    resumed, _ = trained(restraint, tmp_path)
    assert torch.equal(flat(whole.params), flat(resumed.params))


def test_the_most_salient_are_the_largest() -> None:
    gradient = torch.tensor([0.0, -5.0, 0.1, 3.0, 0.0, -0.2, 0.0, 0.0])
    assert most_salient(gradient, 0.25).nonzero().flatten().tolist() == [1, 3]
    assert most_salient(gradient, 0.75).nonzero().flatten().tolist() == [1, 2, 3, 5]


def test_forget_gradient_is_that_of_the_denoising_loss(make_model: Any, sampler_of: Any) -> None:
    """Against one backward pass over all pictures of all batches."""
    model = make_model()
    sampler, params = sampler_of(model), trainable(model.denoiser)
    total = torch.zeros(())
    for number in range(BATCHES):
        pair = sampler(number)
        noisy = model.process.add_noise(pair.forget, pair.noise, pair.t)
        total = total + (model.denoiser(noisy, pair.t, None) - pair.noise).square().sum() / 4
    wanted = flat(torch.autograd.grad(total / BATCHES, params))
    found = forget_gradient(model, sampler, 3, shown=False)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5 * float(wanted.abs().max()))


class Linear(nn.Module):
    """A prediction that is linear in its only parameters: their Jacobian is known."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(8, 8))

    def forward(self, noisy: torch.Tensor, t: torch.Tensor, cond: Any) -> torch.Tensor:
        del t, cond
        return noisy * self.scale


def test_sensitivity_is_the_diagonal_of_the_jacobian_squared(
    make_model: Any, sampler_of: Any
) -> None:
    """Of x * p it is the mean of x^2, whatever the signs that are drawn."""
    model = replace(make_model(), denoiser=Linear())
    sampler = sampler_of(model)
    squares = [
        model.process.add_noise(pair.keep, pair.noise, pair.t).square().mean(dim=(0, 1))
        for pair in map(sampler, range(BATCHES))
    ]
    wanted = torch.stack(squares).mean(0).flatten()
    for rows in (1, 64):  # one row at a time it is exact, since signs square to 1
        found = prediction_sensitivity(model, sampler, rows, shown=False)
        assert (found / wanted).log().abs().max() < (1e-4 if rows == 1 else 1.5)
    assert abs(float(found.mean() / wanted.mean()) - 1) < 0.2


@pytest.mark.parametrize("share", [0.0, 1.0, -1.0])
def test_a_share_of_all_or_none_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match=r"saliency\.share"):
        SaliencyMask(share)


@pytest.mark.parametrize("weight", [0.0, -1.0, float("nan"), float("inf")])
def test_an_anchor_needs_weight(weight: float) -> None:
    with pytest.raises(ValueError, match=r"anchor\.weight"):
        Anchor(weight)
