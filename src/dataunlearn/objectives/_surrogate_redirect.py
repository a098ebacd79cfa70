"""Surrogate redirect: at a noisy forget image, predict what leads to another image."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from dataunlearn.combine import Combination, Direction, ProjectedDescent
from dataunlearn.objectives._base import Objective, image_numbers, plain, two_pass
from dataunlearn.objectives._context import Context
from dataunlearn.process import ForwardProcess
from dataunlearn.rows import Pair, Rows, Term
from dataunlearn.timesteps import TimestepPolicy, Uniform


@dataclass(frozen=True)
class SurrogateRedirect(Objective):
    """Descend towards a surrogate of the forget image, without harm to the keep side.

    After Lee et al., "Unlearning the Unpromptable: Prompt-free Instance Unlearning in Diffusion
    Models", arXiv 2603.10445: a surrogate image from image editing, a weight by timestep, and the
    part of the forget gradient that opposes the keep gradient projected off
    (:class:`~dataunlearn.combine.ProjectedDescent`). No program of the authors was found, so this
    is a reconstruction, and two things are ours. The surrogate a' is not an edited picture, which
    would take another model, but the keep image nearest to a (in the model's own space), or a blend
    of the two. The weight is sigma_t^2: in terms of the noise, the target (a_t - gamma a')/sigma
    lies gamma |a - a'|/sigma away from the true one, a hundred times |a - a'| where there is least
    noise; with the weight every noise level pulls by no more than |a - a'|.

    Args:
        blend: The nearest keep image's share of the surrogate, above 0 and at most 1; the rest is
            the forget image itself.
    """

    default_combination: ClassVar[Combination] = ProjectedDescent()
    keep_direction: ClassVar[Direction] = Direction.DESCENDED
    forget_direction: ClassVar[Direction] = Direction.DESCENDED
    default_timesteps: ClassVar[TimestepPolicy] = Uniform()

    blend: float = 1.0

    def __post_init__(self) -> None:
        """Check the range of the share."""
        if not 0 < self.blend <= 1:
            raise ValueError(f"blend must lie in (0, 1], not {self.blend}")

    def prepare(self, context: Context) -> Objective:
        """The objective with each image's surrogate."""
        nearest = context.neighbours(1)[:, 0]
        surrogates = torch.lerp(context.forget.clean.to(nearest), nearest, self.blend)
        return PreparedSurrogateRedirect(self.blend, surrogates=surrogates)

    def __call__(self, process: ForwardProcess, pair: Pair, generator: torch.Generator) -> Rows:
        """Nothing: the surrogates are not known yet.

        Raises:
            ValueError: Always.
        """
        raise ValueError("SurrogateRedirect must be prepared before it makes rows: call prepare")


@dataclass(frozen=True, eq=False)
class PreparedSurrogateRedirect(SurrogateRedirect):
    """:class:`SurrogateRedirect` for one run.

    Args:
        blend: As there.
        surrogates: Each forget image's surrogate, ``(K, *shape)``.
    """

    surrogates: Tensor = field(kw_only=True, repr=False)

    def __call__(self, process: ForwardProcess, pair: Pair, generator: torch.Generator) -> Rows:
        """2B rows: keep rows first, then forget rows."""
        inputs = process.add_noise(pair.forget, pair.noise, pair.t)  # a_t, (B, *shape)
        image = image_numbers(pair).to(self.surrogates.device)
        target = process.target(inputs, self.surrogates[image].to(inputs), pair.t)
        forget = Term(target, process.sigma(pair.t).square().float())
        return two_pass(pair, plain(process, pair.keep, pair), (inputs, forget))
