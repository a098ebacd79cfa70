"""The networks of a step: the one that is trained, and the frozen one that rows may ask."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from dataunlearn.process import expand_to
from dataunlearn.questions import Question
from dataunlearn.rows import Rows, Term


@dataclass(frozen=True, eq=False)
class Networks:
    """What the engine runs.

    Attributes:
        denoiser: The adapter ``(noisy, t, cond) -> prediction`` that is trained.
        params: Its trainable parameters.
        frozen: The model that questions go to; None where no row asks.
        factors: The two gradients' weights where one backward pass is to give their weighted sum.
    """

    denoiser: nn.Module
    params: Sequence[nn.Parameter]
    frozen: nn.Module | None
    factors: tuple[float, float] | None = None

    @torch.no_grad()
    def answered(self, term: Term, rows: Rows, *, by_all: bool = False) -> Term:
        """A side of ``rows`` with the frozen model's answers as targets where its rows ask.

        Args:
            term: The side.
            rows: The rows.
            by_all: Whether the frozen model runs all rows of a side that may ask: with a network in
                parts all processes have to run it together, whoever asks.
        """
        question = term.question
        if question is None or not (by_all or bool(question.asked.any())):
            return term
        if self.frozen is None:
            raise ValueError(
                "rows ask the frozen model, and there is none: set `asks = True` on the objective, "
                "or give the engine one"
            )
        if bool(question.asked.all()):
            return replace(term, target=self._answer(self.frozen, question, rows, term.target))
        if by_all:
            answer = self._answer(self.frozen, question, rows, term.target)
            asked = expand_to(question.asked.to(answer.device), answer) != 0
            return replace(term, target=torch.where(asked, answer, term.target.float()))
        chosen = question.asked.nonzero().flatten()
        own = term.target[chosen.to(term.target.device)]
        answer = self._answer(self.frozen, question.take(chosen), rows.take(chosen), own)
        target = term.target.float().index_copy(0, chosen.to(answer.device), answer)
        return replace(term, target=target)

    @staticmethod
    def _answer(frozen: nn.Module, question: Question, rows: Rows, targets: Tensor) -> Tensor:
        """What replaces the targets ``(R, *shape)`` of rows that all ask, float32."""
        cond = rows.cond if question.cond is None else question.cond
        found: Tensor = frozen(question.seen(rows.inputs), rows.t, cond).float()
        return question.aims(question.turned_back(found), targets)


@dataclass(frozen=True, eq=False)
class Side:
    """One side of a micro-batch of r rows.

    Attributes:
        losses: What each row loses, weighted, ``(r,)``.
        gradients: The gradient of their sum, one tensor a parameter; empty where the other side's
            hold both.
    """

    losses: Tensor
    gradients: Sequence[Tensor]


GradientsOf = Callable[[Tensor, Sequence[nn.Parameter]], Sequence[Tensor]]
"""The gradient of a loss, one tensor a parameter."""


def gradients_of(loss: Tensor, params: Sequence[nn.Parameter]) -> Sequence[Tensor]:
    """The gradient of a loss, whose graph goes."""
    return torch.autograd.grad(loss, params, materialize_grads=True)


def keeping_the_graph(loss: Tensor, params: Sequence[nn.Parameter]) -> Sequence[Tensor]:
    """The gradient of a loss, whose graph another one still needs."""
    return torch.autograd.grad(loss, params, retain_graph=True, materialize_grads=True)


def num_asking(rows: Rows) -> int:
    """How many rows the frozen model is asked about; a side without weight asks nothing."""
    return sum(
        int(term.question.asked.sum())
        for term in (rows.keep, rows.forget)
        if term.question is not None and bool((term.weight != 0).any())
    )


def row_losses(prediction: Tensor, term: Term) -> Tensor:
    """Weighted squared error of each row, summed over dimensions: ``(r,)``; 0 above its ceiling."""
    squares = (prediction.float() - term.target.float()).square().flatten(1).sum(dim=1)
    if term.ceiling is None:
        return term.weight * squares
    below = squares.detach() < term.ceiling * prediction[0].numel()
    return torch.where(below, term.weight * squares, torch.zeros_like(squares))


def one_side(
    params: Sequence[nn.Parameter],
    prediction: Tensor,
    term: Term | None,
    gradients: GradientsOf = gradients_of,
) -> Side | None:
    """Losses and gradient of one side, or None where it is absent."""
    if term is None:
        return None
    losses = row_losses(prediction, term)
    return Side(losses.detach(), gradients(losses.sum(), params))


def both_sides(
    params: Sequence[nn.Parameter],
    prediction: Tensor,
    terms: tuple[Term | None, Term | None],
    factors: tuple[float, float],
    gradients: GradientsOf = gradients_of,
) -> tuple[Side, Side]:
    """Losses of both sides, and with the first one's the gradient of their weighted sum."""
    nothing = prediction.new_zeros(len(prediction), dtype=torch.float32)
    losses = [nothing if term is None else row_losses(prediction, term) for term in terms]
    total = factors[0] * losses[0].sum() + factors[1] * losses[1].sum()
    return Side(losses[0].detach(), gradients(total, params)), Side(losses[1].detach(), ())
