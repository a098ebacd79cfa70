"""Naive deletion: go on training without the forget set."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from dataunlearn.combine import Combination, Direction, Fixed
from dataunlearn.objectives._base import Objective, absent, plain
from dataunlearn.process import ForwardProcess
from dataunlearn.rows import Pair, Rows


@dataclass(frozen=True)
class NaiveDeletion(Objective):
    """Fine-tune on the keep set alone: the ordinary denoising loss (Ho et al. 2020).

    As a baseline it shows what forgetting costs nothing: catastrophic forgetting alone. It is also
    the objective of base training.
    """

    @property
    def default_combination(self) -> Combination:
        """The keep gradient as it is."""
        return Fixed(keep=1, forget=0)

    @property
    def keep_direction(self) -> Direction:
        """The keep loss is descended."""
        return Direction.DESCENDED

    @property
    def forget_direction(self) -> Direction:
        """The forget loss is absent."""
        return Direction.ABSENT

    def __call__(self, process: ForwardProcess, pair: Pair, generator: torch.Generator) -> Rows:
        """B keep rows."""
        inputs, term = plain(process, pair.keep, pair)
        return Rows(inputs, pair.t, term, absent(inputs), pair.keep_cond)
