"""ReTrack: lead the denoising of a forget image to its nearest neighbours."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from dataunlearn.combine import Combination, Direction, Fixed
from dataunlearn.objectives._base import Objective, image_numbers, plain, two_pass
from dataunlearn.objectives._context import Context
from dataunlearn.process import ForwardProcess
from dataunlearn.recognition.empirical import posterior_mean
from dataunlearn.rows import Pair, Rows, Term
from dataunlearn.timesteps import TimestepPolicy, Uniform

# The forget side's share lambda of the loss on MNIST and CelebA-HQ (Stable Diffusion: 0.5).
PUBLISHED_LAM = 0.005


@dataclass(frozen=True)
class ReTrack(Objective):
    """Descend towards the forget image's nearest keep images, where it was.

    Shi et al., "ReTrack: Data Unlearning in Diffusion Models through Redirecting the Denoising
    Trajectory", arXiv 2509.13007. With x_j the k keep images nearest to a forget image a (Euclidean
    distance in the model's own space, from the whole keep set, once before training), a_t a noisy
    version of it and v_j, p as in :func:`posterior_mean`, the paper's loss is

        lam sum_j p_j |e(a_t) - v_j|^2 + (1 - lam) |e(x_t) - eps|^2

    Since the p_j sum to 1, its first term is |e(a_t) - sum_j p_j v_j|^2 plus a constant: one row
    with one target, that of the clean sample sum_j p_j x_j, whatever the model predicts. As
    published, the two sides draw their timesteps apart; here they share the noise.

    lambda belongs to the combination: ``Fixed(keep=1 - lam, forget=lam)``.

    Args:
        k: Nearest keep images of each forget image.
    """

    default_combination: ClassVar[Combination] = Fixed(1 - PUBLISHED_LAM, PUBLISHED_LAM)
    keep_direction: ClassVar[Direction] = Direction.DESCENDED
    forget_direction: ClassVar[Direction] = Direction.DESCENDED
    default_timesteps: ClassVar[TimestepPolicy] = Uniform()

    k: int = 10

    def __post_init__(self) -> None:
        """Check the number of neighbours."""
        if self.k < 1:
            raise ValueError(f"k must be at least 1, not {self.k}")

    def prepare(self, context: Context) -> Objective:
        """The objective with each image's neighbours.

        Raises:
            ValueError: If there are fewer keep images than ``k``.
        """
        neighbours = context.neighbours(self.k)
        return PreparedReTrack(self.k, neighbours=neighbours, bounds=context.timesteps)

    def __call__(self, process: ForwardProcess, pair: Pair, generator: torch.Generator) -> Rows:
        """Nothing: the neighbours are not known yet.

        Raises:
            ValueError: Always.
        """
        raise ValueError("ReTrack must be prepared before it makes rows: call prepare")


@dataclass(frozen=True, eq=False)
class PreparedReTrack(ReTrack):
    """:class:`ReTrack` for one run.

    Args:
        k: As there.
        neighbours: The keep images nearest to each forget image, ``(K, k, *shape)``.
        bounds: The lowest and the highest timestep that rows may have.
    """

    neighbours: Tensor = field(kw_only=True, repr=False)
    bounds: tuple[int, int] = field(kw_only=True, repr=False)

    def __call__(self, process: ForwardProcess, pair: Pair, generator: torch.Generator) -> Rows:
        """2B rows: keep rows first, then forget rows at timesteps of their own."""
        low, high = self.bounds
        device = pair.t.device
        t = torch.randint(low, high + 1, (len(pair),), generator=generator, device=device)
        inputs = process.add_noise(pair.forget, pair.noise, t)  # a_t, (B, *shape)
        image = image_numbers(pair).to(self.neighbours.device)
        near = self.neighbours[image].to(inputs)  # (B, k, *shape)
        target = process.target(inputs, posterior_mean(process, inputs, near, t), t)
        weight = inputs.new_ones(len(inputs), dtype=torch.float32)
        keep = plain(process, pair.keep, pair)
        return two_pass(pair, keep, (inputs, Term(target, weight)), t)
