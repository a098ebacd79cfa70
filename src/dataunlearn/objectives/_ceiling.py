"""Ceilings: ascend a forget image's loss up to its level, and no further."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from dataunlearn.combine import Combination, Direction
from dataunlearn.objectives._base import Objective, image_numbers
from dataunlearn.objectives._context import Context
from dataunlearn.process import ForwardProcess
from dataunlearn.rows import Pair, Rows

LEAST_LEVEL = 1e-12
# What a method says of itself beside its rows.
SAID = (
    "default_combination",
    "keep_direction",
    "mixes_sides",
    "asks",
    "keeps_predictions",
    "default_timesteps",
)


def under_ceilings(method: Objective, context: Context) -> Objective:
    """A method that ascends, its forget rows dropped once they are above their image's level."""
    return _UnderCeilings(method, ceilings=ceilings(context))


def ceilings(context: Context) -> Tensor:
    """The forget images' levels at every timestep of the process, ``(K, T)`` float32.

    They are measured at some timesteps, as a mean squared error a dimension. Between these their
    logarithm is interpolated, since they fall by factors; beyond, they are constant.
    """
    levels, process = context.levels(), context.process
    steps = np.arange(process.first_timestep, process.last_timestep + 1)
    logs = levels.level.mean(2).clamp(min=LEAST_LEVEL).log().numpy()  # (K, measured timesteps)
    rows = [np.interp(steps, levels.timesteps, row) for row in logs]
    return torch.from_numpy(np.exp(np.stack(rows))).float()


@dataclass(frozen=True, eq=False)
class _UnderCeilings(Objective):
    """A method that ascends, for one run; made by :func:`under_ceilings`.

    Args:
        method: The method whose rows these are: row i, or with two rows a pair rows i and B + i,
            are about pair i.
        ceilings: See :func:`ceilings`.
    """

    forget_direction: ClassVar[Direction] = Direction.ASCENDED

    method: Objective
    ceilings: Tensor = field(kw_only=True, repr=False)

    def __post_init__(self) -> None:
        """Say what the method says."""
        for name in SAID:
            object.__setattr__(self, name, getattr(self.method, name))

    @property
    def arrives(self) -> bool:
        """It does."""
        return True

    def check_combination(self, combination: Combination) -> None:
        """Refuse what the method refuses."""
        self.method.check_combination(combination)

    def __call__(self, process: ForwardProcess, pair: Pair, generator: torch.Generator) -> Rows:
        """The method's rows, the forget side with ceilings."""
        rows = self.method(process, pair, generator)
        image = image_numbers(pair).repeat(len(rows) // len(pair)).to(rows.t.device)
        column = rows.t.long() - process.first_timestep
        ceiling = self.ceilings.to(rows.t.device)[image, column]  # (R,)
        return replace(rows, forget=replace(rows.forget, ceiling=ceiling))
