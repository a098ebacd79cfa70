"""What a stretch of training steps trains on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from dataunlearn.combine import Combination, Direction
from dataunlearn.objectives import Objective
from dataunlearn.training.pairs import PairSampler


@dataclass(frozen=True, eq=False)
class StepPart:
    """One source of rows: where pairs come from, what is made of them, and how much they count."""

    sampler: PairSampler
    objective: Objective
    factor: float = 1.0

    def __post_init__(self) -> None:
        """Check the factor: directions belong to the combination rule."""
        if not self.factor > 0:
            raise ValueError(f"a step part's factor must be above 0, not {self.factor}")


@dataclass(frozen=True, eq=False)
class Phase:
    """What a stretch of steps trains on, and how it weighs the two gradients.

    Attributes:
        parts: Where the rows come from.
        combination: How the two gradients are weighed.
        teacher: A frozen denoiser whose predictions are the keep side's targets; None for the
            targets that the objectives give.
    """

    parts: Sequence[StepPart]
    combination: Combination
    teacher: torch.nn.Module | None = None

    def __post_init__(self) -> None:
        """Refuse a rule that does not fit an objective; one side may come from some parts alone."""
        objectives = [part.objective for part in self.parts]
        forgetting = [o for o in objectives if o.forget_direction is not Direction.ABSENT]
        for objective in forgetting or objectives:
            objective.check_combination(self.combination)
