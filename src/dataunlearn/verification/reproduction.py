"""Does it come back from noise, and does the model draw it?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dataunlearn.metrics.pace import Cost
from dataunlearn.metrics.regeneration import quarter_timesteps
from dataunlearn.models import DiffusionModel
from dataunlearn.unlearning.judging import control_shares, drawn_as_before
from dataunlearn.unlearning.measuring import Asked, Measurement, measure
from dataunlearn.unlearning.verdict import MemoryFinding, NoMemory, reproduction
from dataunlearn.verification.check import Check
from dataunlearn.verification.subject import Subject


class Reproduction(Check):
    """Restores the images from noise, and searches samples for copies of them."""

    name = "reproduction"
    question = "Does the model restore it from noise, or draw it?"

    def lacks(self, subject: Subject) -> str | None:
        """Nothing."""
        return None

    def cost(self, subject: Subject) -> Cost:
        """Tries and samples, of every model that is compared."""
        settings = subject.settings
        levels = len(quarter_timesteps(subject.model.process))
        tries = subject.extent.tries * levels * settings.regeneration_steps
        samples = subject.extent.samples * settings.sampling_steps
        with_before = subject.before is not None and bool(subject.job.prompts)
        models = 1 + (subject.reference is not None) + with_before
        return Cost(models * (tries + samples))

    def look(self, subject: Subject) -> tuple[Sequence[MemoryFinding], dict[str, Any]]:
        """Compared with the reference, or with the images as the model never saw them."""
        job, middle = subject.job, subject.middle
        after = measured(subject, subject.model, "restoring and drawing")
        numbers: dict[str, Any] = {"model": after.numbers}
        shares: dict[int, float] = {}
        if subject.reference is not None:
            other = measured(subject, subject.reference, "the same with the reference")
            numbers["reference"] = other.numbers
            shares = {each.timestep: each.share for each in other.regenerations}
        control = control_shares(job, after, middle, shares)
        numbers["control"] = {str(timestep): share for timestep, share in control.items()}
        as_before = None
        if job.prompts:
            as_before = 0
            if subject.before is not None:
                before = measured(subject, subject.before, "the same with the model before")
                as_before = drawn_as_before(job, before, after)
        return [reproduction(after, middle, NoMemory(shares, control, as_before))], numbers


def measured(subject: Subject, model: DiffusionModel, label: str) -> Measurement:
    """A model's tries and samples, from the same noise as every other's."""
    job = subject.job
    return measure(
        model,
        job.originals,
        job.threshold,
        job.config.evaluation,
        cond=job.conditions_for(model),
        asked=Asked(job.prompts),
        label=label,
        shown=subject.shown,
    )
