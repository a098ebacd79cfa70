"""Lengths of the two gradients, measured every few steps and estimated in between.

A rule that looks at nothing but these lengths could have all rows of a step in one backward pass,
which gives the weighted sum, if it knew them beforehand. So both gradients are taken apart every
few steps alone, and in between a side's length is taken to be

    scale * sqrt(sum_i w_i^2) * sqrt(e),

the length of a sum of row gradients that point anywhere: w_i are the rows' weights, known before
the model runs, so that a row with a large importance weight is reckoned with; e is the side's mean
squared error a row, which every step tells and which is followed from step to step; the scale is
what a measured length comes to over the rest.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from dataunlearn.combine import Combination
from dataunlearn.gramian import Gramian
from dataunlearn.rows import Rows
from dataunlearn.training.two_gradients import TwoGradients

Factors = tuple[float, float]
SIDES = ("keep", "forget")
EXACT_AT_FIRST = 10  # steps: the keep gradient towards the model's own predictions begins at 0
OLD_SCALE, OLD_ERROR, OLD_DRIFT = 0.5, 0.8, 0.8  # what is kept of a smoothed number at each step
JUMP = math.log(4)  # of an error against what it was followed to be
BOUND = math.log(2)  # of the drift


@dataclass(eq=False)
class LaggedNorms:
    """Remembers what both gradients' lengths follow from.

    Attributes:
        scales: The logarithm of each side's scale; none before it was measured.
        errors: The logarithm of each side's smoothed error; likewise.
        drift: By how much, smoothed, estimated factors are larger than those that measured lengths
            give, as a logarithm: rows drawn by chance cancel out, a wrong scale does not.
        since: Steps since both gradients were last taken apart.
        measured: Steps in which they were.
        jumped: Whether an error was not where it was expected in the last step.
    """

    scales: dict[str, float] = field(default_factory=dict)
    errors: dict[str, float] = field(default_factory=dict)
    drift: float = 0.0
    since: int = 0
    measured: int = 0
    jumped: bool = False

    def factors(self, rule: Combination, rows: Rows, every_steps: int) -> Factors | None:
        """What a rule makes of the estimated lengths; None where they are to be measured.

        Args:
            rule: The combination rule.
            rows: The step's rows.
            every_steps: Steps from one measurement to the next; 1 measures always.
        """
        wanted = every_steps > 1 and rule.sees_lengths_alone and not self.jumped
        early = self.measured < EXACT_AT_FIRST or self.since + 1 >= every_steps
        if not wanted or early or abs(self.drift) > BOUND:
            return None
        expected = self.expected(rows)
        return None if expected is None else rule(expected)

    def expected(self, rows: Rows) -> Gramian | None:
        """Both lengths as they are expected to be; None while a side's scale is unknown."""
        squares = []
        for side, (_, spread) in weights_of(rows).items():
            if spread > 0 and side not in self.scales:
                return None
            log = self.scales[side] + self.errors[side] / 2 if spread > 0 else 0.0
            squares.append(math.exp(2 * log) * spread**2)
        return Gramian(squares[0], 0.0, squares[1])

    def saw(self, rule: Combination, rows: Rows, gradients: TwoGradients, found: Gramian) -> None:
        """Take in a step: its losses, and its gradients' lengths if they were taken apart.

        Args:
            rule: The combination rule.
            rows: The step's rows.
            gradients: What the engine returned.
            found: Their Gramian.
        """
        apart = not gradients.in_one_pass and rule.sees_lengths_alone
        if not apart and self.measured == 0:
            return  # nothing is estimated yet, as in base training it never is
        self.since, self.jumped = 0 if apart else self.since + 1, False
        if apart:
            self.measured += 1
            self._weigh(rule, rows, found)
        lengths = {"keep": found.norm_keep, "forget": found.norm_forget}
        losses = {"keep": gradients.keep_losses, "forget": gradients.forget_losses}
        for side, (total, spread) in weights_of(rows).items():
            loss = float(losses[side].sum())
            if total <= 0 or loss <= 0:
                continue
            self._follow(side, math.log(loss / total))
            if apart and lengths[side] > 0:
                scale = math.log(lengths[side] / spread) - self.errors[side] / 2
                self.scales[side] = _smoothed(self.scales.get(side), scale, OLD_SCALE)

    def _weigh(self, rule: Combination, rows: Rows, found: Gramian) -> None:
        """Compare what would have been estimated with what was found."""
        expected = self.expected(rows)
        if expected is None or 0 in (expected.ff, found.ff, expected.kk, found.kk):
            return
        ratio = rule(expected)[1] / rule(found)[1]
        self.drift = OLD_DRIFT * self.drift + (1 - OLD_DRIFT) * math.log(ratio)

    def _follow(self, side: str, error: float) -> None:
        known = self.errors.get(side)
        self.jumped |= known is not None and abs(error - known) > JUMP
        self.errors[side] = _smoothed(known, error, OLD_ERROR)

    @property
    def state(self) -> dict[str, Any]:
        """Everything, as JSON values."""
        return asdict(self)

    @classmethod
    def of(cls, state: Mapping[str, Any]) -> LaggedNorms:
        """What :attr:`state` gave."""
        return cls(**state)


def weights_of(rows: Rows) -> dict[str, tuple[float, float]]:
    """Of each side the sum of its weights, and the root of the sum of their squares."""
    found = {}
    for side, term in zip(SIDES, (rows.keep, rows.forget), strict=True):
        weight = term.weight.double() / rows.num_pairs
        found[side] = (float(weight.sum()), float(weight.square().sum().sqrt()))
    return found


def _smoothed(known: float | None, new: float, share: float) -> float:
    return new if known is None else share * known + (1 - share) * new
