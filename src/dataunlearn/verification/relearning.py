"""Does it come back when a copy of the model is trained a little more?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dataunlearn.attacks.config import On, Relearning
from dataunlearn.attacks.courses import Course, Relearned, pooled
from dataunlearn.attacks.relearning import relearn
from dataunlearn.attacks.run import NAMES, WORDS
from dataunlearn.metrics.pace import Cost
from dataunlearn.unlearning.verdict import Memory, MemoryFinding, beside
from dataunlearn.verification.check import Check
from dataunlearn.verification.subject import Subject

# Pairs of trainings that must all be won: by chance alone in 3 %.
PAIRS_THAT_TELL = 5


class RelearningCheck(Check):
    """Trains copies on something, and restores the images now and then.

    Args:
        on: What they are trained on.
    """

    def __init__(self, on: On) -> None:
        self.on: On = on
        self.name = f"relearning on {on}"  # type: ignore[misc]
        self.question = f"Does it come back by {WORDS[on]}?"  # type: ignore[misc]

    def lacks(self, subject: Subject) -> str | None:
        """Something to compare with: any model may come to restore a picture by training."""
        if not subject.has_comparison:
            return "it needs --reference or --held-out: steps alone say nothing"
        return None

    def cost(self, subject: Subject) -> Cost:
        """Training and looks, of all models and seeds."""
        how = self._settings(subject)
        looks = 2 + (how.num_steps - 1) // how.steps_between_looks
        trainings = 2 * len(how.seeds)  # of the model, and beside it
        tries = looks * how.tries * how.regeneration_steps
        return Cost(trainings * tries, trainings * how.num_steps * how.batch_images)

    def look(self, subject: Subject) -> tuple[Sequence[MemoryFinding], dict[str, Any]]:
        """Beside the reference, or beside unseen pictures that the model learns."""
        found = relearn(
            subject.model,
            subject.job.split.forget,
            subject.job.split.keep,
            self._settings(subject),
            reference=subject.reference,
            unseen=subject.held_out,
            shown=subject.shown,
        )
        judge = came_back if self.on == "keep" else in_their_time
        findings, says = judge(found)
        return findings, found.as_json() | {"says": says}

    def _settings(self, subject: Subject) -> Relearning:
        settings = subject.settings
        seeds = range(subject.extent.relearned.get(self.on, 1))
        return Relearning(
            on=self.on,
            steps=settings.relearning_steps if self.on == "keep" else None,
            regeneration_steps=settings.regeneration_steps,
            threshold=settings.threshold,
            until_returned=self.on != "keep",
            seeds=tuple(settings.seed + seed for seed in seeds),
            micro_batch_rows=settings.batch_size,
        )


def came_back(found: Relearned) -> tuple[list[MemoryFinding], str]:
    """Whether the images came back by training on other pictures alone.

    They did if at the end certainly more than 5 % of the tries restore them, and than certainly do
    beside it.
    """
    own, other = last_looks(found.model), last_looks(found.beside) if found.beside else None
    said = (
        f"after {found.settings.num_steps} steps on keep images it is restored in {own[0]} of "
        f"{own[1]} tries"
    )
    if other is not None:
        said += f"; {NAMES[found.beside_is]}: {other[0]} of {other[1]}"
    return [MemoryFinding(beside(own, other), said)], ""


def in_their_time(found: Relearned) -> tuple[list[MemoryFinding], str]:
    """Whether the images were learnt again sooner or much later than where they never were known.

    Later is a mark, too: a model that was driven away from them learns them against resistance.
    """
    own, other = (
        ", ".join("never" if step is None else str(step) for step in steps)
        for steps in (found.returned_after, found.beside_returned_after)
    )
    said = (
        f"trained on {'them' if found.settings.on == 'image' else 'a view of them'} it restores "
        f"them after {own} steps by seed, {NAMES[found.beside_is]} after {other}"
    )
    pairs = len(found.model)
    if pairs < PAIRS_THAT_TELL or found.beside_is != "reference":
        return [], said
    if found.sooner == pairs:
        return [MemoryFinding(Memory.STILL_KNOWN, said)], ""
    memory = Memory.PUSHED_PAST if found.much_later == pairs else Memory.NEVER_SEEN
    return [MemoryFinding(memory, said)], ""


def last_looks(courses: Sequence[Course]) -> tuple[int, int]:
    """How many tries of all seeds' last looks were restored, and how many there were."""
    look = pooled(courses)[-1][0]
    return look.restored, look.tries
