"""What relearning found: the restored share over steps, and when an image came back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from dataunlearn.attacks.config import Relearning
from dataunlearn.metrics.intervals import wilson
from dataunlearn.runtime.settings import describe

Beside = Literal["reference", "unseen"]
# Later by this factor is later by more than what two trainings differ by.
MUCH_LATER = 2


@dataclass(frozen=True)
class Look:
    """What was restored after some steps.

    Attributes:
        step: Steps done.
        restored: How many tries came within the threshold of their image.
        tries: How many there were.
    """

    step: int
    restored: int
    tries: int

    @property
    def share(self) -> float:
        """The restored share, in [0, 1]."""
        return self.restored / self.tries


@dataclass(frozen=True)
class Course:
    """One training.

    Attributes:
        seed: Names its pictures, noise levels and noise.
        looks: From before the first step to after the last one, or to the images' return.
    """

    seed: int
    looks: tuple[Look, ...]

    def returned_after(self, share: float) -> int | None:
        """Steps at the first look that restored at least this share; None if none did."""
        return next((look.step for look in self.looks if look.share >= share), None)

    def at(self, step: int) -> Look:
        """The last look until a step."""
        return [look for look in self.looks if look.step <= step][-1]


@dataclass(frozen=True)
class Relearned:
    """What relearning found.

    Attributes:
        settings: How it was done; threshold, timestep and rate as they came out.
        model: The attacked model's trainings, one a seed.
        beside: Trainings with the same seeds to compare with, empty without any: the reference's
            on the same images, or the model's own on pictures that it never saw.
        beside_is: Which of the two.
        beside_threshold: Pixel distance below which a try of these counts; of the reference it is
            the model's own.
    """

    settings: Relearning
    model: tuple[Course, ...]
    beside: tuple[Course, ...] = ()
    beside_is: Beside | None = None
    beside_threshold: float | None = None

    @property
    def returned_after(self) -> list[int | None]:
        """The model's steps to return, for each seed; None for never."""
        return self._returned(self.model)

    @property
    def beside_returned_after(self) -> list[int | None]:
        """The same of what is beside it; empty without any."""
        return self._returned(self.beside)

    @property
    def sooner(self) -> int | None:
        """In how many seeds the model was sooner than what is beside it; None without any."""
        if not self.beside:
            return None
        return sum(own is not None and (other is None or own < other) for own, other in self._pairs)

    @property
    def much_later(self) -> int | None:
        """In how many seeds the model took at least twice the steps of what is beside it.

        Where it never returned, its steps are all there were. None without anything beside it.
        """
        if not self.beside:
            return None
        steps = self.settings.num_steps
        return sum(
            other is not None and (steps if own is None else own) >= MUCH_LATER * max(other, 1)
            for own, other in self._pairs
        )

    @property
    def _pairs(self) -> list[tuple[int | None, int | None]]:
        """Both steps to return, for each seed."""
        return list(zip(self.returned_after, self.beside_returned_after, strict=True))

    def _returned(self, courses: Sequence[Course]) -> list[int | None]:
        return [course.returned_after(self.settings.returned_from) for course in courses]

    def as_json(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "settings": describe(self.settings),
            "model": [asdict(course) for course in self.model],
            "beside": [asdict(course) for course in self.beside],
            "beside_is": self.beside_is,
            "beside_threshold": self.beside_threshold,
            "returned_after": self.returned_after,
            "beside_returned_after": self.beside_returned_after,
            "sooner": self.sooner,
            "much_later": self.much_later,
        }


def pooled(courses: Sequence[Course]) -> list[tuple[Look, tuple[float, float]]]:
    """The looks of all seeds together, each with the 95 % Wilson interval of its share.

    A training that ended when the images had returned counts on as it ended.
    """
    found = []
    for step in sorted({look.step for course in courses for look in course.looks}):
        looks = [course.at(step) for course in courses]
        restored, tries = sum(look.restored for look in looks), sum(look.tries for look in looks)
        found.append((Look(step, restored, tries), wilson(restored, tries)))
    return found
