"""WithoutPrompt: rows at a prompt's pictures ask the frozen model without the prompt."""

from __future__ import annotations

import copy

import pytest
import torch

from dataunlearn.combine import Fixed, NormFix
from dataunlearn.objectives import WithoutPrompt
from dataunlearn.recognition.witness import Pictures
from dataunlearn.training.engine import GradientEngine, trainable
from toy_levels import context_by_hand, levels_by_hand

SHAPE = (1, 4, 4)
TYPES = ["epsilon", "sample", "v_prediction", "flow_prediction"]
EXACT = {"rtol": 0, "atol": 0}


def prepared(process, other):
    """The objective for two forget images with these conditionings in place of a prompt."""
    images = Pictures(torch.zeros(2, *SHAPE), None, other)
    levels = levels_by_hand([[0.5]] * 2, SHAPE, [300])
    return WithoutPrompt().prepare(context_by_hand(process, images, levels))


@pytest.mark.parametrize("name", TYPES)
def test_rows_are_two_a_pair_and_the_forget_rows_ask(name, make_process, make_pair):
    """Keep rows as in training; forget rows at the same timesteps, with weight 1 and without the
    prompt that they have."""
    process, pair = make_process(name), make_pair(5, SHAPE, classes=4, low=100)
    nothing = torch.tensor([9, 9])
    rows = prepared(process, nothing)(process, pair, torch.Generator())
    assert len(rows) == 10 and rows.num_pairs == 5
    noisy = [process.add_noise(clean, pair.noise, pair.t) for clean in (pair.keep, pair.forget)]
    torch.testing.assert_close(rows.inputs, torch.cat(noisy), **EXACT)
    torch.testing.assert_close(rows.t, torch.cat([pair.t, pair.t]), **EXACT)
    torch.testing.assert_close(rows.cond, torch.cat([pair.keep_cond, pair.forget_cond]), **EXACT)
    assert rows.keep.weight.tolist() == [1] * 5 + [0] * 5
    assert rows.forget.weight.tolist() == [0] * 5 + [1] * 5
    assert rows.keep.question is None
    question = rows.forget.question
    assert question.asked.tolist() == [False] * 5 + [True] * 5
    assert question.view is None and not question.views
    assert question.cond.tolist() == [*pair.keep_cond.tolist(), *[9] * 5]


def test_embeddings_stand_for_no_prompt_as_labels_do(make_process, make_pair):
    process, pair = make_process(), make_pair(3, SHAPE)
    words = torch.randn(3, 7, 2)
    pair = type(pair)(pair.keep, pair.forget, pair.t, pair.noise, words, words, pair.forget_index)
    nothing = torch.randn(1, 7, 2).expand(2, 7, 2)
    rows = prepared(process, nothing)(process, pair, torch.Generator())
    expected = torch.cat([words, nothing[:1].expand(3, 7, 2)])
    torch.testing.assert_close(rows.forget.question.cond, expected, **EXACT)


@pytest.mark.parametrize("name", TYPES)
@pytest.mark.parametrize("in_one_pass", [False, True])
def test_gradients_are_those_of_a_slow_loop(name, in_one_pass, make_process, make_pair, make_toy):
    """Row by row in float64: the keep row's own target, and for a forget row (noisy, t, class) what
    the frozen network says of (noisy, t, class 0), which stands for no prompt."""
    process, pair = make_process(name), make_pair(5, SHAPE, classes=4, low=100)
    rows = prepared(process, torch.tensor([0, 0]))(process, pair, torch.Generator())
    denoiser, frozen = make_toy(classes=4), make_toy(classes=4, seed=1)
    keep, forget = make_sides(denoiser, frozen, process, pair)
    factors = (1.0, 1.0) if in_one_pass else None
    found = GradientEngine(micro_batch_rows=3)(denoiser, rows, 0, frozen, factors)
    sums = [keep + forget] if in_one_pass else [keep, forget]
    actual = [found.flat_keep] if in_one_pass else [found.flat_keep, found.flat_forget]
    for mine, expected in zip(actual, sums, strict=True):
        bound = 1e-5 * float(expected.abs().max())
        torch.testing.assert_close(mine.double(), expected, rtol=0, atol=bound)


def make_sides(denoiser, frozen, process, pair):
    """Flat gradients ``(D,)`` of both sides: the sum over pairs of |f(m) - target|^2 / B."""
    denoiser, frozen = (copy.deepcopy(net).double() for net in (denoiser, frozen))
    params, nothing = trainable(denoiser), torch.zeros(1, dtype=torch.int64)
    totals = [torch.zeros(sum(p.numel() for p in params), dtype=torch.float64) for _ in range(2)]
    for i in range(len(pair)):
        row, t = slice(i, i + 1), pair.t[i : i + 1]
        noisy = [process.add_noise(c[row], pair.noise[row], t) for c in (pair.keep, pair.forget)]
        with torch.no_grad():
            targets = [
                process.target(noisy[0], pair.keep[row], t).double(),
                frozen(noisy[1].double(), t, nothing),
            ]
        conds = (pair.keep_cond[row], pair.forget_cond[row])
        for total, m, target, cond in zip(totals, noisy, targets, conds, strict=True):
            loss = (denoiser(m.double(), t, cond) - target).square().sum() / len(pair)
            grads = torch.autograd.grad(loss, params, materialize_grads=True)
            total += torch.cat([grad.flatten() for grad in grads])
    return totals


def test_bad_use_is_told(make_process, make_pair):
    with pytest.raises(ValueError, match="call prepare"):
        WithoutPrompt()(make_process(), make_pair(3, SHAPE), torch.Generator())
    with pytest.raises(ValueError, match="for models that take prompts: try Counterfactual"):
        prepared(make_process(), None)


def test_what_it_says_of_itself():
    assert WithoutPrompt.asks and not WithoutPrompt().arrives
    assert WithoutPrompt().default_combination == Fixed(keep=1, forget=1)
    with pytest.raises(ValueError, match="does not fit WithoutPrompt"):
        WithoutPrompt().check_combination(NormFix(ratio=0.1))
