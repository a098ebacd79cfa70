"""NegGrad: gradient ascent on the forget set."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from dataunlearn.combine import Combination, Direction, Fixed
from dataunlearn.objectives._base import Objective, absent, plain
from dataunlearn.objectives._ceiling import under_ceilings
from dataunlearn.objectives._context import Context
from dataunlearn.process import ForwardProcess
from dataunlearn.rows import Pair, Rows


@dataclass(frozen=True)
class NegGrad(Objective):
    """Ascend the denoising loss of the forget samples, with nothing to hold the rest in place.

    Golatkar et al. 2020; a baseline of Alberti et al. 2025. It forgets fast and destroys the model.

    Args:
        ceiling: Whether a forget row counts for nothing once it loses more than its image's level,
            what a model that never saw the image is predicted to lose; the ascent then has an end.
    """

    default_combination: ClassVar[Combination] = Fixed(keep=0, forget=-1)
    keep_direction: ClassVar[Direction] = Direction.ABSENT
    forget_direction: ClassVar[Direction] = Direction.ASCENDED

    ceiling: bool = False

    @property
    def arrives(self) -> bool:
        """With ceilings it does."""
        return self.ceiling

    def prepare(self, context: Context) -> Objective:
        """With ceilings, the objective with those of the forget images; else as it is."""
        return under_ceilings(self, context) if self.ceiling else self

    def __call__(self, process: ForwardProcess, pair: Pair, generator: torch.Generator) -> Rows:
        """B forget rows."""
        inputs, term = plain(process, pair.forget, pair)
        return Rows(inputs, pair.t, absent(inputs), term, pair.forget_cond)
