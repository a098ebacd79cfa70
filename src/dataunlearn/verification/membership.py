"""Do membership scores tell the images from pictures that the model never saw?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from scipy.stats import binom

from dataunlearn.metrics.inputs import Inputs
from dataunlearn.metrics.membership import Membership, result_prefix
from dataunlearn.metrics.membership_names import Attack
from dataunlearn.metrics.membership_statistics import TAIL
from dataunlearn.metrics.pace import Cost
from dataunlearn.metrics.result import Result
from dataunlearn.models import DiffusionModel
from dataunlearn.unlearning.verdict import Memory, MemoryFinding
from dataunlearn.verification.check import Check
from dataunlearn.verification.subject import Subject

# A count of images outside the others' scores proves something if chance gives as many this rarely,
# in any of the scores and tails together.
CHANCE = 0.01


class MembershipCheck(Check):
    """Compares the images' scores with those of unseen pictures, on both sides."""

    name = "membership"
    question = "Can its scores be told from those of pictures that the model never saw?"

    def lacks(self, subject: Subject) -> str | None:
        """Unseen pictures."""
        if subject.held_out is None:
            return "it needs --held-out, pictures that no model was trained on"
        return None

    def cost(self, subject: Subject) -> Cost:
        """At most: as many others and draws as the intervals need."""
        assert subject.held_out is not None
        measure = measure_for(subject)
        images = subject.num_images + min(len(subject.held_out), measure.num_images)
        passes = sum(
            measure.passes(attack, subject.model) * (measure.num_draws if attack == "loss" else 1)
            for attack in measure.attacks
        )
        return Cost(images * passes * (1 + (subject.reference is not None)))

    def look(self, subject: Subject) -> tuple[Sequence[MemoryFinding], dict[str, Any]]:
        """Images outside the others' scores, beside those of the reference."""
        measure = measure_for(subject)
        own = scored(subject, subject.model, measure)
        numbers: dict[str, Any] = {"model": [each.as_json() for each in own.values()]}
        beside: Mapping[str, Result] = {}
        if subject.reference is not None:
            beside = scored(subject, subject.reference, measure)
            numbers["reference"] = [each.as_json() for each in beside.values()]
        findings, says = judged(own, beside, measure.attacks)
        return findings, numbers | {"says": says}


def measure_for(subject: Subject) -> Membership:
    """The measure with the scores of this effort."""
    return Membership(attacks=subject.extent.membership)


def scored(subject: Subject, model: DiffusionModel, measure: Membership) -> dict[str, Result]:
    """A model's results by their names."""
    inputs = Inputs(
        model,
        forget=subject.job.split.forget,
        held_out=subject.held_out,
        batch_size=subject.settings.batch_size,
        seed=subject.settings.seed,
        shown=subject.shown,
    )
    return {result.name: result for result in measure(inputs)}


def judged(
    own: Mapping[str, Result], beside: Mapping[str, Result], attacks: Sequence[Attack]
) -> tuple[list[MemoryFinding], str]:
    """What the counts outside the others' scores say.

    Were the images among the others, each would lie outside on either side with a chance of 2.5 %
    at most, so that counts are at most binomial. A count that a model which never saw the images
    has, too, proves nothing.

    Args:
        own: The model's results.
        beside: The reference's; empty without one.
        attacks: The scores.

    Returns:
        Findings, none where so few images can show nothing; and the areas under the ROC curves.
    """
    limit = CHANCE / (2 * len(attacks))
    findings, areas = [], []
    resolves = False
    for attack in attacks:
        prefix = result_prefix(attack)
        areas.append(f"{attack} {own[f'{prefix}_auc_held_out'].value:.2f}")
        for tail in ("below", "above"):
            name = f"{prefix}_{tail}_held_out"
            count, images = outside(own[name])
            resolves = resolves or chance_of(images, images) <= limit
            never = name in beside and chance_of(*outside(beside[name])) <= limit
            if chance_of(count, images) > limit or never:
                continue
            words = f"{count} of {images} lie {tail} what is usual of unseen pictures by {attack}"
            pushed = tail == "above" or attack == "inversion"
            findings.append(
                MemoryFinding(Memory.PUSHED_PAST if pushed else Memory.STILL_KNOWN, words)
            )
    says = f"area under the ROC curve: {', '.join(areas)}"
    if not findings and resolves:
        words = "no more of its scores lie outside those of unseen pictures than by chance"
        findings = [MemoryFinding(Memory.NEVER_SEEN, words)]
    if not resolves:
        says += "; so few images cannot show more"
    return findings, says


def outside(result: Result) -> tuple[int, int]:
    """How many images lie outside, of how many."""
    assert result.per_item is not None
    return int(result.per_item.sum()), len(result.per_item)


def chance_of(count: int, images: int) -> float:
    """The chance that so many or more lie outside of images that are like the others."""
    return float(binom.sf(count - 1, images, TAIL))
