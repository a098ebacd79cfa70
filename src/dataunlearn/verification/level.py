"""Does the model lose on the images what a model loses that never saw them?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from dataunlearn.metrics.never_seen import losses_at_levels, over_level
from dataunlearn.metrics.pace import Cost
from dataunlearn.unlearning.judging import forget_losses, over_level_numbers
from dataunlearn.unlearning.verdict import MemoryFinding, against_level, against_reference
from dataunlearn.verification.check import Check
from dataunlearn.verification.subject import Subject


class Level(Check):
    """Compares losses with the level, or with those of a model that never saw the images."""

    name = "loss"
    question = "Is its loss that of a model that never saw it?"

    def lacks(self, subject: Subject) -> str | None:
        """A model from before, by which levels are measured."""
        if subject.before is None:
            return "it needs --before, the model before unlearning"
        return None

    def cost(self, subject: Subject) -> Cost:
        """One pass an image, noise level and draw, of every model."""
        levels = subject.job.levels
        draws = 0 if levels is None else levels.level[0].numel()
        return Cost(draws * subject.num_images * (1 + (subject.reference is not None)))

    def look(self, subject: Subject) -> tuple[Sequence[MemoryFinding], dict[str, Any]]:
        """Against the reference where there is one, else against the level."""
        job, levels = subject.job, subject.job.levels
        assert levels is not None
        losses = forget_losses(job, job.model)
        over = over_level(levels, losses)
        numbers = over_level_numbers(over)
        reference = subject.reference
        if reference is None:
            return [against_level(over, (~levels.unfamiliar).tolist())], numbers
        own = losses_at_levels(reference, job.split.forget, levels, job.config.seed)
        found = over_level(replace(levels, level=own), losses)
        numbers["over_reference"] = over_level_numbers(found)["over_level"]
        return [against_reference(found)], numbers
