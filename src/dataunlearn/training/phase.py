"""What a stretch of training steps trains on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from dataunlearn.combine import Combination, Direction
from dataunlearn.objectives import Objective
from dataunlearn.process import ForwardProcess
from dataunlearn.rows import Rows, concatenate
from dataunlearn.training.pairs import PairSampler
from dataunlearn.training.restraints import Restraint


@dataclass(frozen=True, eq=False)
class StepPart:
    """One source of rows: where pairs come from, what is made of them, and how much they count.

    Attributes:
        sampler: Gives the pairs of a step.
        objective: Makes rows of them.
        factor: How much they count beside those of other parts.
        keep_predictions: Whether the keep side is regressed on what the frozen model predicts for
            the same rows, in place of the objective's own targets. A question that the
            objective asks itself comes first.
        predictions_below: The timestep from which keep rows have the objective's own targets after
            all; None for none.
    """

    sampler: PairSampler
    objective: Objective
    factor: float = 1.0
    keep_predictions: bool = False
    predictions_below: int | None = None

    def __post_init__(self) -> None:
        """Check the factor: directions belong to the combination rule."""
        if not self.factor > 0:
            raise ValueError(f"a step part's factor must be above 0, not {self.factor}")

    @property
    def asks(self) -> bool:
        """Whether its rows may ask the frozen model."""
        return self.keep_predictions or self.objective.asks

    def rows(self, process: ForwardProcess, number: int) -> Rows:
        """The global rows of step ``number``, from 0, the same on every process.

        Before the first step the model is the frozen one: a keep gradient towards its own
        predictions would be rounding noise, and a forget gradient scaled to it a share of that. So
        the first step keeps towards the objective's targets.
        """
        pair, generator = self.sampler(number), self.sampler.objective_stream(number)
        rows = self.objective(process, pair, generator)
        if self.keep_predictions and number > 0 and rows.keep.question is None:
            below = self.predictions_below
            return replace(rows, keep=rows.keep.asking(None if below is None else rows.t < below))
        return rows


@dataclass(frozen=True, eq=False)
class Phase:
    """What a stretch of steps trains on, and how it weighs the two gradients.

    Attributes:
        parts: Where the rows come from.
        combination: How the two gradients are weighed.
        norms_every_steps: Steps from one measurement of their lengths to the next, where the rule
            looks at nothing else; in between they are estimated. 1 measures in every step.
        restraint: What holds parameters back.
    """

    parts: Sequence[StepPart]
    combination: Combination
    norms_every_steps: int = 1
    restraint: Restraint = field(default_factory=Restraint)

    def __post_init__(self) -> None:
        """Refuse a rule that does not fit an objective; one side may come from some parts alone."""
        if not self.parts:
            raise ValueError("a phase needs at least one part")
        objectives = [part.objective for part in self.parts]
        forgetting = [o for o in objectives if o.forget_direction is not Direction.ABSENT]
        for objective in forgetting or objectives:
            objective.check_combination(self.combination)

    def eased(self, arrived: Sequence[bool]) -> Phase:
        """The phase once some forget images have arrived; as it is where nobody looked."""
        if not any(arrived):
            return self
        parts = [replace(part, objective=part.objective.easing(arrived)) for part in self.parts]
        return replace(self, parts=parts)

    @property
    def forgets(self) -> bool:
        """Whether any rows are about forget images."""
        directions = (part.objective.forget_direction for part in self.parts)
        return any(direction is not Direction.ABSENT for direction in directions)

    @property
    def asks(self) -> bool:
        """Whether rows may ask the frozen model."""
        return any(part.asks for part in self.parts)

    def rows(self, process: ForwardProcess, number: int) -> Rows:
        """The global rows of step ``number``, from 0; every part's are divided by its pairs."""
        return concatenate([(part.rows(process, number), part.factor) for part in self.parts])
