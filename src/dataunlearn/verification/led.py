"""Checks that lead a model to the images by an input made for them, and count copies."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from dataunlearn.data import ImageSet, SubsetImages
from dataunlearn.metrics.pixel_distance import copy_threshold, distinct_indices
from dataunlearn.models import DiffusionModel
from dataunlearn.unlearning.verdict import MemoryFinding, beside
from dataunlearn.verification.check import Check
from dataunlearn.verification.subject import Subject

# Images that an input is made for, each one on its own.
MOST_IMAGES = 8


@dataclass(frozen=True, eq=False)
class Tried:
    """What is led, and to what.

    Attributes:
        model: The model.
        images: The pictures.
        threshold: Pixel distance below which one that it draws is a copy.
        who: What progress is called.
    """

    model: DiffusionModel
    images: ImageSet
    threshold: float
    who: str


class LedCheck(Check):
    """Makes an input for each image, and counts copies among what the model draws for it.

    An input made for a picture leads a model to much, so that copies alone say nothing: they stand
    beside those of the reference, or of unseen pictures that this model is led to.

    Attributes:
        made_for_it: What is counted, in words.
        lead: The same in a word, for what is lacking.
    """

    made_for_it: ClassVar[str]
    lead: ClassVar[str]

    def lacks(self, subject: Subject) -> str | None:
        """Something to compare with."""
        if not subject.has_comparison:
            return f"it needs --reference or --held-out: {self.lead} leads a model to much"
        return None

    @abstractmethod
    def copies_for(self, subject: Subject, tried: Tried) -> dict[str, Any]:
        """Copies among a model's pictures: "copies" image by image, "samples" of each image."""

    def look(self, subject: Subject) -> tuple[Sequence[MemoryFinding], dict[str, Any]]:
        """Beside the reference, or beside unseen pictures that this model is led to."""
        job, model = subject.job, subject.model
        tried = Tried(model, first_of(job.split.forget), job.threshold, "the model")
        own = self.copies_for(subject, tried)
        if subject.reference is not None:
            beside = replace(tried, model=subject.reference, who="the reference")
            whose = "a model that never saw it"
        else:
            assert subject.held_out is not None
            strange = first_of(subject.held_out, len(tried.images))
            limit = subject.settings.threshold or copy_threshold(strange, job.split.keep)
            beside = Tried(model, strange, limit, "unseen pictures")
            whose = "pictures that it never saw"
        other = self.copies_for(subject, beside)
        return [self.judged(own, other, whose)], {"model": own, "beside": other}

    @classmethod
    def judged(cls, own: dict[str, Any], other: dict[str, Any], whose: str) -> MemoryFinding:
        """Still known if certainly more are copies than 5 %, and than are beside it."""
        first, second = (
            (sum(side["copies"]), side["samples"] * len(side["copies"])) for side in (own, other)
        )
        words = (
            f"{first[0]} of {first[1]} {cls.made_for_it} are copies, of {whose} {second[0]} of "
            f"{second[1]}"
        )
        return MemoryFinding(beside(first, second), words)


def first_of(images: ImageSet, count: int = MOST_IMAGES) -> ImageSet:
    """The first different pictures of a set."""
    return SubsetImages(images, distinct_indices(images, count))
