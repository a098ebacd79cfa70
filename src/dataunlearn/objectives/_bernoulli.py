"""Bernoulli subscore: an ablation that gives each row to one side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from dataunlearn.combine import DEFAULT_RATIO, Combination, Direction, NormFix
from dataunlearn.objectives._base import Objective, choose_rows, one_conditioning, plain
from dataunlearn.objectives._ceiling import under_ceilings
from dataunlearn.objectives._checks import Conditioning, check_conditioning, check_lam
from dataunlearn.objectives._context import Context
from dataunlearn.process import ForwardProcess
from dataunlearn.rows import Pair, Rows, Term


@dataclass(frozen=True)
class BernoulliSubscore(Objective):
    """One row per pair, a keep row with probability 1 - lam, else a forget row.

    The ablation that the reviewers of Alberti et al. 2025 asked for: SISS with its weights replaced
    by their limits 1/(1-lam) and 1/lam for well separated samples. A batch may hold no row of one
    side; its gradient is then zero.

    Args:
        lam: Probability of a forget row, in [0, 1].
        conditioning: What a conditional model is given when the two sides differ.
        ceiling: Whether a forget row counts for nothing once it loses more than its image's level,
            what a model that never saw the image is predicted to lose; the ascent then has an end.
    """

    default_combination: ClassVar[Combination] = NormFix(ratio=DEFAULT_RATIO)
    keep_direction: ClassVar[Direction] = Direction.DESCENDED
    forget_direction: ClassVar[Direction] = Direction.ASCENDED
    keeps_predictions: ClassVar[bool] = True

    lam: float = 0.5
    conditioning: Conditioning = "equal"
    ceiling: bool = False

    def __post_init__(self) -> None:
        """Check lam and the choice of conditioning."""
        check_lam(self.lam)
        check_conditioning(self.conditioning)

    @property
    def arrives(self) -> bool:
        """With ceilings it does."""
        return self.ceiling

    def prepare(self, context: Context) -> Objective:
        """With ceilings, the objective with those of the forget images; else as it is."""
        return under_ceilings(self, context) if self.ceiling else self

    def __call__(self, process: ForwardProcess, pair: Pair, generator: torch.Generator) -> Rows:
        """B rows, each with one side."""
        cond = one_conditioning(pair, self.conditioning)
        draw = torch.rand(len(pair), generator=generator, device=pair.t.device)
        is_forget = draw < self.lam
        inputs, term = plain(process, choose_rows(is_forget, pair.keep, pair.forget), pair)
        # Where lam is 0 or 1 one side never occurs, and its weight is never used.
        keep_weight = term.weight / max(1 - self.lam, torch.finfo(torch.float32).tiny)
        forget_weight = term.weight / max(self.lam, torch.finfo(torch.float32).tiny)
        return Rows(
            inputs,
            pair.t,
            Term(term.target, torch.where(is_forget, 0.0, keep_weight)),
            Term(term.target, torch.where(is_forget, forget_weight, 0.0)),
            cond,
        )
