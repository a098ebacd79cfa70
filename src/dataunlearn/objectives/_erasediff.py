"""EraseDiff: overwrite the forget set's denoising with noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from dataunlearn.combine import BoundedDescent, Combination, Direction
from dataunlearn.objectives._base import Objective, plain, two_pass
from dataunlearn.process import ForwardProcess
from dataunlearn.rows import Pair, Rows, Term


@dataclass(frozen=True)
class EraseDiff(Objective):
    """Keep denoising the keep samples; at noisy forget samples predict fresh uniform noise.

    Wu et al. 2024, in the form that the SISS and ReTrack programs run: one step on both sides, the
    forget target drawn from U[0, 1) anew in every row, and *descended*. The original program
    differs: it takes K inner steps on the forget side before each outer step, with a random label's
    prediction as pseudo target.
    """

    default_combination: ClassVar[Combination] = BoundedDescent(eta=1e-3)
    keep_direction: ClassVar[Direction] = Direction.DESCENDED
    forget_direction: ClassVar[Direction] = Direction.DESCENDED

    def __call__(self, process: ForwardProcess, pair: Pair, generator: torch.Generator) -> Rows:
        """2B rows: keep rows first, then forget rows."""
        forget_inputs, own = plain(process, pair.forget, pair)
        uniform = torch.rand(own.target.shape, generator=generator, device=pair.t.device)
        forget = Term(uniform.to(own.target.dtype), own.weight)
        return two_pass(pair, plain(process, pair.keep, pair), (forget_inputs, forget))
