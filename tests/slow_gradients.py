"""The gradient engine's work by a slow loop over rows, and rows with chosen sides."""

from __future__ import annotations

import copy

import torch

from dataunlearn.rows import Rows, Term
from dataunlearn.training.engine import trainable


def slow_target(term, rows, row, frozen):
    """A row's target in float64: its own, or T^-1 f(T m) written out coordinate by coordinate.

    Coordinate i of a view is sign[i] times coordinate order[i], and the sign is its own inverse, so
    the answer's coordinate i, turned back, is sign[i] times the answer at order[i].
    """
    question = term.question
    if question is None or not question.asked[row]:
        return term.target[row].double()
    flat = rows.inputs[row].double().flatten()
    size = len(flat)
    order, sign = range(size), [1.0] * size
    number = -1 if question.view is None else int(question.view[row])
    if number >= 0:
        view = question.views[number]
        order, sign = view.order.tolist(), view.sign.tolist()
    shown = torch.stack([sign[i] * flat[order[i]] for i in range(size)])
    asked_under = rows.cond if question.cond is None else question.cond
    cond = None if asked_under is None else asked_under[row : row + 1]
    with torch.no_grad():
        answer = frozen(shown.reshape(1, *rows.inputs.shape[1:]), rows.t[row : row + 1], cond)
    back = torch.empty(size, dtype=torch.float64)
    for i, value in enumerate(answer.flatten()):
        back[order[i]] = sign[i] * value
    answer = back.reshape(rows.inputs.shape[1:])
    if question.blend is None:
        return answer
    own, answered = question.blend[row].tolist()
    return own * term.target[row].double() + answered * answer


def slow_gradients(denoiser, rows, frozen=None):
    """Both sides' gradients row by row in float64: sum over rows of w |f(m) - target|^2 / B.

    Where a row asks, ``frozen`` answers; where it has a ceiling, it counts below that alone.
    """
    denoiser, frozen = (copy.deepcopy(net).double() if net else None for net in (denoiser, frozen))
    params = trainable(denoiser)
    sides = [[torch.zeros_like(param) for param in params] for _ in range(2)]
    losses = torch.zeros(2, len(rows), dtype=torch.float64)
    for row in range(len(rows)):
        for number, term in enumerate((rows.keep, rows.forget)):
            cond = None if rows.cond is None else rows.cond[row : row + 1]
            prediction = denoiser(rows.inputs[row : row + 1].double(), rows.t[row : row + 1], cond)
            loss = (prediction[0] - slow_target(term, rows, row, frozen)).square().sum()
            if term.ceiling is not None and loss / prediction.numel() >= term.ceiling[row]:
                continue
            loss = loss * term.weight[row].double() / rows.num_pairs
            losses[number, row] = loss.detach()
            grads = torch.autograd.grad(loss, params, allow_unused=True)
            for total, grad in zip(sides[number], grads, strict=True):
                if grad is not None:
                    total += grad
    return sides[0], sides[1], losses


def assert_same_gradients(actual, expected, tolerance=1e-5):
    """Equal up to ``tolerance`` of the whole gradient's largest entry."""
    for mine, others in ((actual.keep, expected[0]), (actual.forget, expected[1])):
        largest = max(float(other.abs().max()) for other in others)
        for grad, other in zip(mine, others, strict=True):
            assert grad.dtype == torch.float32
            torch.testing.assert_close(
                grad.double(), other.double(), rtol=0, atol=tolerance * (largest + 1e-30)
            )


def sided_rows(sides, seed=0):
    """Rows with the given sides: "k", "f", "b" (both) or "-" (none)."""
    generator = torch.Generator().manual_seed(seed)
    inputs, keep, forget = torch.randn(3, len(sides), 1, 4, 4, generator=generator)
    weights = 0.5 + torch.rand(2, len(sides), generator=generator)
    has_keep = torch.tensor([side in "kb" for side in sides])
    has_forget = torch.tensor([side in "fb" for side in sides])
    return Rows(
        inputs,
        torch.arange(len(sides)) * 10 + 5,
        Term(keep, weights[0] * has_keep),
        Term(forget, weights[1] * has_forget),
    )
