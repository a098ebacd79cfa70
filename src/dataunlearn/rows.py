"""The types that cross rooms: a batch of clean pairs, and the rows to regress on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from dataunlearn.conditioning import Cond, join_conds
from dataunlearn.questions import Question, join_questions


@dataclass(frozen=True, eq=False)
class Pair:
    """B pairs of clean samples in the model's own space (pixels or latents).

    Attributes:
        keep: Samples x to keep, ``(B, *shape)``.
        forget: Samples a to forget, ``(B, *shape)``.
        t: Timesteps shared by both sides, ``(B,)``.
        noise: Standard normal noise shared by both sides, ``(B, *shape)``.
        keep_cond: Conditioning of the keep samples, ``(B, ...)``, or None.
        forget_cond: Conditioning of the forget samples, ``(B, ...)``, or None.
        forget_index: Which of the different forget images each forget sample is, ``(B,)`` int64;
            None where nothing is to be forgotten.
    """

    keep: Tensor
    forget: Tensor
    t: Tensor
    noise: Tensor
    keep_cond: Cond | None = None
    forget_cond: Cond | None = None
    forget_index: Tensor | None = None

    def __post_init__(self) -> None:
        """Check that the two sides fit each other."""
        if not self.keep.shape == self.forget.shape == self.noise.shape:
            raise ValueError(
                "keep, forget and noise must have one shape, not "
                f"{tuple(self.keep.shape)}, {tuple(self.forget.shape)}, {tuple(self.noise.shape)}"
            )
        if self.t.shape != self.keep.shape[:1]:
            raise ValueError(f"t must have shape ({len(self.keep)},), not {tuple(self.t.shape)}")
        if (self.keep_cond is None) != (self.forget_cond is None):
            raise ValueError("give conditioning for both sides or for neither")
        if self.forget_index is not None and self.forget_index.shape != self.t.shape:
            raise ValueError("forget_index must have one entry a pair")

    def __len__(self) -> int:
        return len(self.keep)


@dataclass(frozen=True, eq=False)
class Term:
    """One side of the regression.

    Attributes:
        target: What the model should predict, ``(R, *shape)``.
        weight: Importance of each row, ``(R,)`` float32, at least 0; 0 where the side is absent.
        question: What the frozen model is asked instead, row by row; None asks nothing. Its answer
            then takes the target's place: the engine asks.
        ceiling: Mean squared error a dimension from which on a row counts for nothing any more,
            ``(R,)`` float32, infinite for none; None where no row has any.
    """

    target: Tensor
    weight: Tensor
    question: Question | None = None
    ceiling: Tensor | None = None

    def take(self, indices: Tensor) -> Term:
        """The rows at ``indices``."""
        question = None if self.question is None else self.question.take(indices)
        ceiling = None if self.ceiling is None else self.ceiling[indices]
        return Term(self.target[indices], self.weight[indices], question, ceiling)

    def to(self, device: torch.device) -> Term:
        """The same rows on another device."""
        question = None if self.question is None else self.question.to(device)
        ceiling = None if self.ceiling is None else self.ceiling.to(device)
        return Term(self.target.to(device), self.weight.to(device), question, ceiling)

    def scaled(self, factor: float) -> Term:
        """The same rows with their weights multiplied by ``factor``."""
        return replace(self, weight=self.weight * factor)

    def asking(self, chosen: Tensor | None = None) -> Term:
        """The same rows, each asking the frozen model for its prediction of the row as it is.

        A row without weight asks nothing: nobody would look at the answer.

        Args:
            chosen: Which rows ask, ``(R,)`` bool; None for all. The others keep their targets.
        """
        asked = self.weight != 0
        return replace(self, question=Question(asked if chosen is None else asked & chosen))


@dataclass(frozen=True, eq=False)
class Rows:
    """R noisy inputs with a keep and a forget target each.

    A side's loss is the sum over rows of weight * |prediction - target|^2, over ``num_pairs``.

    Attributes:
        inputs: Noisy samples ``(R, *shape)``.
        t: Timesteps ``(R,)``.
        keep: The side to descend on.
        forget: The side to move away from (or, for EraseDiff, to overwrite).
        cond: Conditioning ``(R, ...)``, or None.
        num_pairs: B, the global number of pairs the rows were made from; R when not given.
    """

    inputs: Tensor
    t: Tensor
    keep: Term
    forget: Term
    cond: Cond | None = None
    num_pairs: int = 0

    def __post_init__(self) -> None:
        """Fill in the number of pairs and check shapes."""
        if self.num_pairs == 0:
            object.__setattr__(self, "num_pairs", len(self.inputs))
        for term in (self.keep, self.forget):
            if term.target.shape != self.inputs.shape or term.weight.shape != self.t.shape:
                raise ValueError("each target needs the inputs' shape, each weight the timesteps'")
            if term.question is not None and len(term.question) != len(self.t):
                raise ValueError("a question needs one entry for each row")
            if term.ceiling is not None and term.ceiling.shape != self.t.shape:
                raise ValueError("a ceiling needs one entry for each row")

    def __len__(self) -> int:
        return len(self.inputs)

    def kinds(self, *, mixed: bool = False) -> tuple[Tensor, ...]:
        """Which rows are of each kind, ``(R,)`` bool: keep alone, both sides, forget alone.

        Args:
            mixed: Whether all rows with any weight are one kind.
        """
        keep, forget = self.keep.weight != 0, self.forget.weight != 0
        return (keep | forget,) if mixed else (keep & ~forget, keep & forget, forget & ~keep)

    def take(self, indices: Tensor) -> Rows:
        """The rows at ``indices``, with ``num_pairs`` unchanged."""
        return Rows(
            self.inputs[indices],
            self.t[indices],
            self.keep.take(indices),
            self.forget.take(indices),
            None if self.cond is None else self.cond[indices],
            self.num_pairs,
        )

    def to(self, device: torch.device) -> Rows:
        """The same rows on another device."""
        return Rows(
            self.inputs.to(device),
            self.t.to(device),
            self.keep.to(device),
            self.forget.to(device),
            None if self.cond is None else self.cond.to(device),
            self.num_pairs,
        )

    def scaled(self, factor: float) -> Rows:
        """The same rows with both sides' weights multiplied by ``factor``."""
        return replace(self, keep=self.keep.scaled(factor), forget=self.forget.scaled(factor))

    def over_pairs(self, factor: float = 1.0) -> Rows:
        """The rows with B in their weights: ``factor`` over ``num_pairs``, which is 1 from then on.

        Nothing else divides by B.
        """
        if self.num_pairs == 1 and factor == 1:
            return self
        return replace(self.scaled(factor / self.num_pairs), num_pairs=1)


def stack_terms(first: Term, second: Term, conds: Sequence[Cond] = ()) -> Term:
    """Two terms' rows one after the other; ``conds`` are the rows' own conditionings, if any."""
    return Term(
        torch.cat([first.target, second.target]),
        torch.cat([first.weight, second.weight]),
        join_questions(
            first.question, second.question, (len(first.weight), len(second.weight)), conds
        ),
        _joined_ceiling(first, second),
    )


def _joined_ceiling(first: Term, second: Term) -> Tensor | None:
    if first.ceiling is None and second.ceiling is None:
        return None
    none = (torch.full_like(term.weight, torch.inf) for term in (first, second))
    parts = zip((first, second), none, strict=True)
    return torch.cat([high if term.ceiling is None else term.ceiling for term, high in parts])


def concatenate(parts: Sequence[tuple[Rows, float]]) -> Rows:
    """Join several objectives' rows into one step.

    Args:
        parts: (rows, factor) pairs; each part's loss counts ``factor`` times.

    Returns:
        Rows with ``num_pairs`` 1: every part's weights are already divided by its own number.
    """
    scaled = [rows.over_pairs(factor) for rows, factor in parts]
    joined = scaled[0]
    for rows in scaled[1:]:
        if (joined.cond is None) != (rows.cond is None):
            raise ValueError("all parts of a step need conditioning, or none")
        conds = [each for each in (joined.cond, rows.cond) if each is not None]
        joined = Rows(
            torch.cat([joined.inputs, rows.inputs]),
            torch.cat([joined.t, rows.t]),
            stack_terms(joined.keep, rows.keep, conds),
            stack_terms(joined.forget, rows.forget, conds),
            join_conds(conds) if conds else None,
            num_pairs=1,
        )
    return joined
