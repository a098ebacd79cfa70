"""Counterfactual targets: teach the model what it would say had it never seen the image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from dataunlearn.combine import BalancedDescent, Combination, Direction
from dataunlearn.conditioning import Cond
from dataunlearn.objectives._base import Objective, plain, two_pass
from dataunlearn.objectives._context import Context
from dataunlearn.process import ForwardProcess, expand_to
from dataunlearn.questions import Question
from dataunlearn.recognition.empirical import empirical_prediction, noise_share
from dataunlearn.recognition.levels import Levels
from dataunlearn.rows import Pair, Rows, Term
from dataunlearn.timesteps import TimestepPolicy, Uniform


@dataclass(frozen=True)
class Counterfactual(Objective):
    """Descend towards what the frozen model says of a view of the image that it does not recognise.

    A forget row is a noisy forget image a_t, its target T⁻¹ f(T a_t): the frozen model f is shown
    the same noisy picture through a view T (turned, mirrored, recoloured), and its answer is turned
    back. It is a prediction of the same noise by a model that does not recognise the picture. Each
    row draws one of its image's views, so that the regression aims at their mean, and both sides
    are descended: the loss is bounded, and the model arrives. Which views, and how far the model
    recognises the image at which noise level, is measured before training
    (:mod:`dataunlearn.recognition`); rows are weighed by it, so that noise levels at which nothing
    is recognised are left alone. The method is this project's own: docs/methods.md.

    The keep side, held to a model that knows the image, pulls back what is left of it, so that
    training on the answers themselves ends short of them. So a row's target lies past the answer,
    by ``overshoot`` times the noise's share of the row's variance, on the line from the true noise,
    which is what a model predicts that knows the image by heart. Where views tell too little, what
    pictures to keep say is mixed in first (:mod:`dataunlearn.recognition.empirical`).

    Args:
        forget_share: Forget rows in a step, as a share of its keep rows.
        arrived_weight: What counts of an image's rows once it has arrived at its level, as a share.
        overshoot: How far past the answers the targets lie where nearly all is noise; 0 for the
            answers themselves.
    """

    forget_share: float = 0.5
    arrived_weight: float = 0.5
    overshoot: float = 0.6

    default_combination: ClassVar[Combination] = BalancedDescent(ratio=0.5)
    keep_direction: ClassVar[Direction] = Direction.DESCENDED
    forget_direction: ClassVar[Direction] = Direction.DESCENDED
    asks: ClassVar[bool] = True
    keeps_predictions: ClassVar[bool] = True
    default_timesteps: ClassVar[TimestepPolicy] = Uniform()

    def __post_init__(self) -> None:
        """Check ranges."""
        if not 0 < self.forget_share <= 1:
            raise ValueError(f"forget_share must lie in (0, 1], not {self.forget_share}")
        if not 0 <= self.arrived_weight <= 1:
            raise ValueError(f"arrived_weight must lie in [0, 1], not {self.arrived_weight}")
        if not 0 <= self.overshoot <= 1:
            raise ValueError(f"overshoot must lie in [0, 1], not {self.overshoot}")

    @property
    def arrives(self) -> bool:
        """It does."""
        return True

    def prepare(self, context: Context) -> Objective:
        """The objective with each image's views and weights."""
        levels = context.levels()
        other = context.forget.other if levels.asks_other else None
        strength = torch.ones(len(levels.chosen), dtype=torch.float64)
        tables = Tables(levels, context.timesteps, other, strength)
        own = (self.forget_share, self.arrived_weight, self.overshoot)
        return _PreparedCounterfactual(*own, tables)

    def __call__(self, process: ForwardProcess, pair: Pair, generator: torch.Generator) -> Rows:
        """Nothing: the views are not known yet.

        Raises:
            ValueError: Always.
        """
        raise ValueError("Counterfactual must be prepared before it makes rows: call prepare")


@dataclass(frozen=True, eq=False)
class Tables:
    """What is known of the forget images before training.

    Attributes:
        levels: Their views, and what the model recognises at which noise level.
        bounds: The lowest and the highest timestep that rows may have.
        other: The conditioning to ask under, ``(K, ...)``; None for the rows' own.
        strength: How much each image's rows count, 1 until it has arrived, ``(K,)``.
    """

    levels: Levels
    bounds: tuple[int, int]
    other: Cond | None
    strength: Tensor

    @cached_property
    def recognition(self) -> Tensor:
        """How far each image is recognised at every timestep between the bounds, ``(K, S)``.

        Between the noise levels that were measured it is interpolated, beyond them constant.
        """
        low, high = self.bounds
        steps = np.arange(low, high + 1)
        rows = [np.interp(steps, self.levels.timesteps, row) for row in self.levels.recognition]
        return torch.from_numpy(np.stack(rows))

    def draw(self, image: Tensor, draws: Tensor) -> tuple[Tensor, Tensor]:
        """Timesteps for rows about ``image (B,)``, by ``draws (B,)`` from [0, 1), and weights.

        A timestep is the likelier the more the image is recognised there, so that no row is spent
        where there is nothing to forget; the weight is the image's mean recognition times its
        strength. In expectation that is a uniform timestep weighed by recognition.
        """
        table = self.recognition[image]
        mean = table.mean(1)
        share = torch.where(mean[:, None] > 0, table, 1.0).cumsum(1)
        share, draws = share / share[:, -1:], draws.double()[:, None]
        chosen = torch.searchsorted(share, draws, right=True)[:, 0]
        timesteps = (chosen + self.bounds[0]).clamp(max=self.bounds[1])
        return timesteps, (mean * self.strength[image]).float()

    def views_of(self, image: Tensor, draws: Tensor) -> Tensor:
        """A view of each image ``(B,)``, by ``draws (B,)`` from [0, 1)."""
        own = [self.levels.chosen[number] for number in image.tolist()]
        picks = zip(own, draws.tolist(), strict=True)
        return torch.tensor([views[int(draw * len(views))] for views, draw in picks])


@dataclass(frozen=True, eq=False)
class _PreparedCounterfactual(Counterfactual):
    """:class:`Counterfactual` for one run.

    Args:
        forget_share: As there.
        arrived_weight: As there.
        overshoot: As there.
        tables: What is known of its forget images.
    """

    tables: Tables | None = field(default=None, repr=False)

    def easing(self, arrived: Sequence[bool]) -> Objective:
        """The same, with arrived images at ``arrived_weight``."""
        assert self.tables is not None
        done = torch.tensor(arrived)
        strength = torch.where(done, self.arrived_weight, 1.0).double()
        return replace(self, tables=replace(self.tables, strength=strength))

    def __call__(self, process: ForwardProcess, pair: Pair, generator: torch.Generator) -> Rows:
        """B keep rows, then a share of B forget rows, which ask."""
        if self.tables is None:
            return super().__call__(process, pair, generator)
        if pair.forget_index is None:
            raise ValueError("Counterfactual needs to know which forget image each row is about")
        count = max(1, round(self.forget_share * len(pair)))
        image = pair.forget_index[:count]
        draws = torch.rand(2, count, generator=generator)
        t, weight = self.tables.draw(image, draws[0])
        clean = pair.forget[:count]
        inputs = process.add_noise(clean, pair.noise[:count], t)
        target, blend = self._aims(process, image, (inputs, clean, t))
        question = Question(
            torch.ones(count, dtype=torch.bool),
            None if self.tables.other is None else self.tables.other[image],
            list(self.tables.levels.views.values()),
            self.tables.views_of(image, draws[1]),
            blend,
        )
        forget = Term(target, weight * (len(pair) / count), question)
        return two_pass(pair, plain(process, pair.keep, pair), (inputs, forget), t)

    def _aims(
        self, process: ForwardProcess, image: Tensor, at: tuple[Tensor, Tensor, Tensor]
    ) -> tuple[Tensor, Tensor | None]:
        """What rows at (noisy, clean, timestep) aim at but for the answers, and how much of these.

        With m = (1 - w s) answer + w s e, where e is what a model says that knows pictures to keep
        alone, rows aim past m as seen from the truth: (1 + kappa s) m - kappa s truth.

        Returns:
            Targets ``(B, *shape)``, and the question's blend ``(B, 2)``; None for the answers.
        """
        assert self.tables is not None
        levels, (noisy, clean, t) = self.tables.levels, at
        share, weight = noise_share(process, t), levels.keep_weight[image]
        truth = process.target(noisy, clean, t)
        rows = weight.nonzero().flatten()
        if not self.overshoot and not len(rows):
            return truth, None
        past, mixed = self.overshoot * share, weight * share
        target = truth * expand_to(-past, truth)
        if len(rows) and levels.keep is not None:
            said = empirical_prediction(process, noisy[rows], levels.keep, t[rows])
            target[rows] += said * expand_to(((1 + past) * mixed)[rows], said)
        answered = (1 + past) * (1 - mixed)
        return target, torch.stack([torch.ones_like(answered), answered], 1)
