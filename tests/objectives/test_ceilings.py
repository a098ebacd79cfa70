"""Ceilings: which number each row gets, what the engine makes of it, and nothing without them."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from dataunlearn.combine import Direction, Fixed
from dataunlearn.objectives import (
    OBJECTIVES,
    SISS,
    BernoulliSubscore,
    Context,
    NegGrad,
    Objective,
    SISSNoIS,
)
from dataunlearn.recognition.levels import Levels
from dataunlearn.recognition.witness import Pictures
from dataunlearn.training.engine import GradientEngine, trainable
from dataunlearn.unlearning.config import Settings
from dataunlearn.unlearning.parsing import CommandParser

METHODS = [SISS, SISSNoIS, BernoulliSubscore, NegGrad]
EXACT = {"rtol": 0, "atol": 0}
TIMESTEPS = (100, 300, 700)
# Three images at three timesteps, two draws of noise each, whose means are these:
LEVEL = torch.tensor([[0.4, 0.1, 0.02], [0.8, 0.2, 0.1], [0.5, 0.5, 0.25]], dtype=torch.float64)


def stream(seed=0):
    return torch.Generator().manual_seed(seed)


def levels():
    draws = torch.stack([0.5 * LEVEL, 1.5 * LEVEL], dim=2)
    chosen, familiar = ((), (), ()), torch.ones(3, dtype=torch.bool)
    return Levels(TIMESTEPS, {}, chosen, familiar, False, 0.1 * draws, draws, torch.zeros(3))


def context(process):
    def neighbours(count):
        raise AssertionError("ceilings need no neighbours")

    return Context(process, Pictures(torch.zeros(3, 1, 4, 4)), (1, 999), levels, neighbours)


def slow_ceiling(image, t):
    """Log-linear between the measured timesteps, by a search for the two neighbours of t."""
    row = LEVEL[image].tolist()
    if t <= TIMESTEPS[0]:
        return row[0]
    for (low, high), (first, last) in zip(pairwise(TIMESTEPS), pairwise(row), strict=True):
        if low <= t <= high:
            share = (t - low) / (high - low)
            return first ** (1 - share) * last**share
    return row[-1]


def numbered(pair):
    return replace(pair, forget_index=torch.randint(3, (len(pair),), generator=stream(9)))


@pytest.mark.parametrize("name", ["epsilon", "flow_prediction"])
@pytest.mark.parametrize("method", METHODS)
def test_each_row_has_its_images_level_at_its_timestep(method, name, make_process, make_pair):
    process, pair = make_process(name), numbered(make_pair(40))
    pair = replace(pair, t=torch.cat([pair.t[:-5], torch.tensor([1, 100, 300, 700, 999])]))
    rows = method(ceiling=True).prepare(context(process))(process, pair, stream(1))
    expected = [
        slow_ceiling(image, t)
        for image, t in zip(pair.forget_index.tolist(), pair.t.tolist(), strict=True)
    ] * (len(rows) // 40)
    assert rows.forget.ceiling.shape == (len(rows),)
    torch.testing.assert_close(rows.forget.ceiling, torch.tensor(expected), rtol=1e-5, atol=0)
    assert rows.keep.ceiling is None


@pytest.mark.parametrize("method", METHODS)
def test_the_rest_of_the_rows_is_the_methods_own_to_the_bit(method, make_process, make_pair):
    process, pair = make_process("v_prediction"), numbered(make_pair(30, classes=3))
    own = method()(process, pair, stream(4))
    rows = method(ceiling=True).prepare(context(process))(process, pair, stream(4))
    unprepared = method(ceiling=True)(process, pair, stream(4))
    for other in (rows, unprepared):
        torch.testing.assert_close(other.inputs, own.inputs, **EXACT)
        torch.testing.assert_close(other.t, own.t, **EXACT)
        torch.testing.assert_close(other.cond, own.cond, **EXACT)
        for side in ("keep", "forget"):
            term, same = getattr(other, side), getattr(own, side)
            torch.testing.assert_close(term.target, same.target, **EXACT)
            torch.testing.assert_close(term.weight, same.weight, **EXACT)
    assert own.forget.ceiling is None and unprepared.forget.ceiling is None


@pytest.mark.parametrize("method", METHODS)
def test_without_ceilings_nothing_is_prepared(method, make_process):
    def never(*_):
        raise AssertionError("nothing is to be measured")

    objective = method()
    blank = Context(make_process(), Pictures(torch.zeros(1, 1, 4, 4)), (1, 999), never, never)
    assert objective.prepare(blank) is objective
    assert not objective.arrives
    assert method(ceiling=True).arrives


@pytest.mark.parametrize("method", METHODS)
def test_the_prepared_method_says_of_itself_what_the_method_says(method, make_process):
    objective = method(ceiling=True).prepare(context(make_process()))
    assert objective.arrives and objective.easing([True, False, True]) is objective
    assert objective.forget_direction is method.forget_direction is Direction.ASCENDED
    for name in ("default_combination", "keep_direction", "mixes_sides", "asks"):
        assert getattr(objective, name) == getattr(method, name)
    assert objective.keeps_predictions == method.keeps_predictions
    assert objective.default_timesteps == method.default_timesteps
    objective.check_combination(method.default_combination)
    with pytest.raises(ValueError, match=f"does not fit {method.__name__}"):
        objective.check_combination(Fixed(1, 1))


def test_it_takes_pairs_that_name_their_image(make_process, make_pair):
    process = make_process()
    objective = SISSNoIS(ceiling=True).prepare(context(process))
    with pytest.raises(ValueError, match="give the pair a forget_index"):
        objective(process, replace(make_pair(3), forget_index=None), stream())


@pytest.mark.parametrize("method", METHODS)
def test_the_engine_ascends_the_rows_below_alone(method, make_process, make_pair, make_toy):
    """The forget gradient against a slow loop over rows, which leaves out those whose mean squared
    error is above the ceiling; every timestep's ceiling is put near the model's loss on it."""
    process, pair = make_process(), numbered(make_pair(24, low=300))
    denoiser = make_toy()
    objective = method(ceiling=True).prepare(context(process))
    scale = 8.0  # an untrained denoiser loses more than a trained one's level
    objective = replace(objective, ceilings=objective.ceilings * scale)
    rows = objective(process, pair, stream(6))
    found = GradientEngine(micro_batch_rows=7)(denoiser, rows)
    params, losses, below = trainable(denoiser), [], 0
    for row in range(len(rows)):
        prediction = denoiser(rows.inputs[row : row + 1], rows.t[row : row + 1])[0]
        error = (prediction - rows.forget.target[row]).square()
        image, t = pair.forget_index[row % 24], rows.t[row]
        if rows.forget.weight[row] > 0 and error.mean().item() < scale * slow_ceiling(image, t):
            losses.append(rows.forget.weight[row] * error.sum() / rows.num_pairs)
            below += 1
    carrying = int((rows.forget.weight > 1e-6 * rows.forget.weight.max()).sum())
    assert 0 < below < carrying
    expected = torch.autograd.grad(sum(losses), params, materialize_grads=True)
    for gradient, right in zip(found.forget, expected, strict=True):
        torch.testing.assert_close(gradient, right, rtol=1e-4, atol=1e-5)


def test_where_all_are_above_no_gradient_and_no_weight_is_left(make_process, make_pair, make_toy):
    process, pair = make_process(), numbered(make_pair(6))
    objective = SISSNoIS(ceiling=True).prepare(context(process))
    objective = replace(objective, ceilings=0 * objective.ceilings)
    gradients = GradientEngine()(make_toy(), objective(process, pair, stream()))
    gramian = gradients.gramian()
    assert gramian.kk > 0 and gramian.ff == 0
    assert SISSNoIS().default_combination(gramian) == (1.0, 0.0)
    assert math.isfinite(float(gradients.forget_losses.sum()))


def test_the_command_offers_the_setting_and_not_the_prepared_class():
    parser = CommandParser(exit_on_error=False)
    choices = parser.choices_of("objective")
    assert set(OBJECTIVES) <= set(choices)
    assert not [name for name in choices if name.startswith("_")]
    prepared = [kind for kind in Objective.__subclasses__() if kind.__name__.startswith("_")]
    assert prepared and not set(prepared) & set(OBJECTIVES.values())
    assert Settings(objective=SISS(ceiling=True)).stops_at_level
    assert not Settings(objective=SISS()).stops_at_level
