"""Naive deletion: go on training without the forget set."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

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

    default_combination: ClassVar[Combination] = Fixed(keep=1, forget=0)
    keep_direction: ClassVar[Direction] = Direction.DESCENDED
    forget_direction: ClassVar[Direction] = Direction.ABSENT

    def __call__(self, process: ForwardProcess, pair: Pair, generator: torch.Generator) -> Rows:
        """B keep rows."""
        inputs, term = plain(process, pair.keep, pair)
        return Rows(inputs, pair.t, term, absent(inputs), pair.keep_cond)
