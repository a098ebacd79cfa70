"""Settings of how images are forgotten: objective, combination, strength, when to stop."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Literal

from dataunlearn.combine import DEFAULT_RATIO, BalancedDescent, Combination, Direction, NormFix
from dataunlearn.models.lora import Lora
from dataunlearn.objectives import Counterfactual, Objective
from dataunlearn.runtime.checks import require
from dataunlearn.timesteps import TimestepPolicy
from dataunlearn.training.config import default_learning_rate
from dataunlearn.training.restraints import Anchor, SaliencyMask

# Of how many steps one is for the warm-up; and of methods with an aim.
WARMUP, AIMED_WARMUP = 4, 10
Strength = Literal["gentle", "default", "strong"]


@dataclass(frozen=True)
class Dial:
    """What one strength means.

    Attributes:
        steps: Optimizer steps of a method that ascends.
        ratio: Its forget gradient's length, as a share of the keep gradient's.
        rate_factor: Times the default learning rate.
        aimed_steps: Optimizer steps of a method with an aim for one image, and for each time that
            their number doubles.
        pull: Times its forget gradient's most length.
    """

    steps: int
    ratio: float
    rate_factor: float
    aimed_steps: tuple[int, int]
    pull: float


DIALS: dict[Strength, Dial] = {
    "gentle": Dial(100, 0.2, 1.0, aimed_steps=(80, 15), pull=0.5),
    "default": Dial(180, DEFAULT_RATIO, 1.0, aimed_steps=(120, 23), pull=1.0),
    "strong": Dial(400, 0.6, 1.5, aimed_steps=(200, 50), pull=2.0),
}

MOST_PULL = 8

# An adapter takes a higher rate: at 1e-3 it forgets as the whole emoji_sd network does at 5e-5.
LORA_RATE_FACTOR = 20


@dataclass(frozen=True)
class StopRule:
    """Stop forgetting once it is done.

    Going on would only harm the rest. What happens then is up to ``then``: "settle" spends the
    remaining steps on mending what forgetting broke, with the rate falling to 0: on the keep images
    alone, or, with a method that has an aim, on both sides with a gentler pull; "end" ends the run.
    The looks go on while the model settles: should an image come back, the model forgets again, and
    then settles once more.

    Args:
        every_steps: Steps between looks, three times that while settling; 0 never looks.
        then: "settle" or "end".
        once: "level": what the model loses on the forget images has come near the level that a
            model which never saw them is predicted to have, and it no longer restores them;
            "restored": it no longer restores them. None takes "level" for methods that aim at it,
            else "restored".
        arrived_from: Share of their level at which images count as arrived.
        regeneration_below: Share of regenerations at which the images count as no longer restored;
            None for 0, and for 1/8 where the level decides, since a model that never saw them
            restores some, too.
        timestep: Noise level of the look at regenerations; None for 45 % of the noise, a little
            below the half that the verdict is about.
        copies: Tries per look.
        settle_by: Share of the steps after which a method with an aim settles in any case: images
            whose level is too high to be reached would be pulled at to the end.
    """

    every_steps: int = 10
    then: Literal["settle", "end"] = "settle"
    once: Literal["level", "restored"] | None = None
    arrived_from: float = 0.8
    regeneration_below: float | None = None
    timestep: int | None = None
    copies: int = 16
    settle_by: float = 0.75

    def __post_init__(self) -> None:
        """Check ranges."""
        require(0 < self.settle_by <= 1, "settle_by must lie in (0, 1]")
        require(self.every_steps >= 0, "every_steps must be at least 0")
        require(0 < self.arrived_from <= 1, "arrived_from must lie in (0, 1]")
        below = self.regeneration_below
        require(below is None or 0 <= below < 1, "regeneration_below must lie in [0, 1)")
        require(self.copies >= 1, "copies must be at least 1")

    @property
    def settles(self) -> bool:
        """Whether a run can come to settle."""
        return self.every_steps > 0 and self.then == "settle"


@dataclass(frozen=True)
class QualityBudget:
    """End the run once it does more harm than this, so that methods compare at equal damage.

    The model is then that of the last look within the budget. Harm often comes and goes within a
    dozen steps, so a run ends only if it lasts.

    Args:
        loss_increase: Allowed rise of the keep images' denoising loss, as a share of what it was.
        every_steps: Steps between looks.
        patience: Steps that the run may stay above the budget.
        num_images: Keep images looked at.
    """

    loss_increase: float
    every_steps: int = 5
    patience: int = 25
    num_images: int = 128

    def __post_init__(self) -> None:
        """Check ranges."""
        require(self.loss_increase > 0, f"loss_increase must be above 0, not {self.loss_increase}")
        require(self.every_steps >= 1, "every_steps must be at least 1")
        require(self.patience >= 0, "patience must be at least 0")
        require(self.num_images >= 1, "num_images must be at least 1")


@dataclass(frozen=True, kw_only=True)
class Method:
    """How images are forgotten.

    Args:
        objective: The method: Counterfactual, or for example ``SISS`` with ``--objective.lam 0.5``.
        combination: How the two gradients are weighed; None takes the objective's own rule.
        strength: One dial over steps, how hard the forget side pulls, and rate.
        steps: Optimizer steps; None takes the dial's, more for more images to forget.
        learning_rate: None takes one that fits the method and the model's size, 20 times as high
            for an adapter.
        batch_pairs: Keep/forget pairs per step.
        timesteps: Noise levels to train on: ``Above`` a share of them, ``Uniform``, ``Last``, or
            ``Window`` with lo and hi; None takes those that the method works best on.
        keep_towards: What the keep side is regressed on: "data" is the method as published,
            "predictions" is what the model predicted for the same noisy pictures before the run,
            which keeps more of it with few steps and few keep images, and costs a forward pass
            more per row and a copy of the model. None takes predictions for Counterfactual, SISS
            and its ablations, else data.
        stop: When to stop forgetting, and what to do with the steps that are left.
        budget: End the run at this much harm to the keep images; None for no such limit.
        warmup_steps: Steps of linear warm-up; None takes a quarter of the steps, a tenth of those
            of a method with an aim.
        lora: Train a low-rank adapter instead of the network; the run's folder then holds it beside
            the model that it is merged into. None trains the network itself.
        saliency: Let those parameters alone move that the forget images' loss depends on most
            (SalUn's mask); None lets all.
        anchor: Draw parameters back to where they were, the more the more the other pictures depend
            on them (Selective Amnesia's penalty); None does not.
        norms_every_steps: Steps from one measurement of both gradients' lengths to the next, where
            the combination rule looks at nothing else (NormFix, BalancedDescent): the steps in
            between estimate them, and run all rows in one backward pass. 1 measures in every step.
        prompt_dropout: Share of pairs that a text-to-image model sees without their prompts, for
            classifier-free guidance.
    """

    objective: Objective = field(default_factory=Counterfactual)
    combination: Combination | None = None
    strength: Strength = "default"
    steps: int | None = None
    learning_rate: float | None = None
    batch_pairs: int = 24
    timesteps: TimestepPolicy | None = None
    keep_towards: Literal["data", "predictions"] | None = None
    stop: StopRule = field(default_factory=StopRule)
    budget: QualityBudget | None = None
    warmup_steps: int | None = None
    lora: Lora | None = None
    saliency: SaliencyMask | None = None
    anchor: Anchor | None = None
    norms_every_steps: int = 10
    prompt_dropout: float = 0.0

    @property
    def rule(self) -> Combination:
        """The combination rule: the given one, or the objective's own at the dial's strength."""
        rule = self.combination or self.objective.default_combination
        if self.combination is None and isinstance(rule, NormFix):
            return NormFix(ratio=DIALS[self.strength].ratio)
        if self.combination is None and isinstance(rule, BalancedDescent):
            return replace(rule, ratio=rule.ratio * DIALS[self.strength].pull)
        return rule

    def rule_for(self, num_images: int) -> Combination:
        """The combination rule for so many different forget images.

        A step's rows, and with them a balanced pull, are shared among the images: it grows with
        their number, up to ``MOST_PULL`` times.
        """
        rule = self.rule
        if self.combination is None and isinstance(rule, BalancedDescent):
            return replace(rule, ratio=rule.ratio * min(num_images, MOST_PULL))
        return rule

    @property
    def is_aimed(self) -> bool:
        """Whether the method descends to where it should end."""
        objective = self.objective
        return objective.arrives and objective.forget_direction is Direction.DESCENDED

    @property
    def keeps_predictions(self) -> bool:
        """Whether the keep side is regressed on the model's own earlier predictions."""
        if self.keep_towards is None:
            return self.objective.keeps_predictions
        return self.keep_towards == "predictions"

    @property
    def noise_levels(self) -> TimestepPolicy:
        """Which noise levels steps train on: the given ones, or the objective's own."""
        return self.objective.default_timesteps if self.timesteps is None else self.timesteps

    @property
    def stops_at_level(self) -> bool:
        """Whether forgetting ends once the images are at their levels."""
        if self.stop.once is None:
            return self.objective.arrives
        return self.stop.once == "level"

    def steps_for(self, num_images: int) -> int:
        """Optimizer steps for so many different forget images: the given number, or the dial's."""
        if self.steps is not None:
            return self.steps
        dial = DIALS[self.strength]
        if not self.is_aimed:
            return dial.steps
        once, doubled = dial.aimed_steps
        return once + round(doubled * math.log2(num_images))

    def warmup_steps_for(self, num_images: int) -> int:
        """Steps of linear warm-up: the given number, or a quarter of all; a tenth with an aim."""
        if self.warmup_steps is not None:
            return self.warmup_steps
        return self.steps_for(num_images) // (AIMED_WARMUP if self.is_aimed else WARMUP)

    def decay_after_for(self, num_images: int) -> int:
        """Steps after which the rate falls: at once, or where a method with an aim settles.

        Keep images recover while the model settles, and that takes a rate that is not spent yet.
        """
        if not (self.is_aimed and self.stop.settles):
            return 0
        steps = self.steps_for(num_images)
        return min(steps - 1, round(self.stop.settle_by * steps))

    def rate_for(self, num_parameters: int) -> float:
        """The learning rate for a network of this size: the given one, or the dial's."""
        if self.learning_rate is not None:
            return self.learning_rate
        rate = default_learning_rate(num_parameters) * DIALS[self.strength].rate_factor
        rate *= self.objective.rate_factor
        return rate * (1 if self.lora is None else LORA_RATE_FACTOR)
