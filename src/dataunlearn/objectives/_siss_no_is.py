"""SISS without importance sampling: an ablation with two forward passes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from dataunlearn.combine import DEFAULT_RATIO, Combination, Direction, NormFix
from dataunlearn.objectives._base import Objective, plain, two_pass
from dataunlearn.objectives._ceiling import under_ceilings
from dataunlearn.objectives._context import Context
from dataunlearn.process import ForwardProcess
from dataunlearn.rows import Pair, Rows


@dataclass(frozen=True)
class SISSNoIS(Objective):
    """Descend the keep samples' denoising loss, ascend the forget samples', rows kept apart.

    The "No IS" ablation of Alberti et al. 2025: no mixture and no weights, so it costs two forward
    passes where SISS pays one. Both sides share timestep and noise.

    Args:
        ceiling: Whether a forget row counts for nothing once it loses more than its image's level,
            what a model that never saw the image is predicted to lose; the ascent then has an end.
    """

    default_combination: ClassVar[Combination] = NormFix(ratio=DEFAULT_RATIO)
    keep_direction: ClassVar[Direction] = Direction.DESCENDED
    forget_direction: ClassVar[Direction] = Direction.ASCENDED
    keeps_predictions: ClassVar[bool] = True

    ceiling: bool = False

    @property
    def arrives(self) -> bool:
        """With ceilings it does."""
        return self.ceiling

    def prepare(self, context: Context) -> Objective:
        """With ceilings, the objective with those of the forget images; else as it is."""
        return under_ceilings(self, context) if self.ceiling else self

    def __call__(self, process: ForwardProcess, pair: Pair, generator: torch.Generator) -> Rows:
        """2B rows: keep rows first, then forget rows."""
        return two_pass(pair, plain(process, pair.keep, pair), plain(process, pair.forget, pair))
