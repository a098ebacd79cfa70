"""Is there an embedding for which a text-to-image model draws the images?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from dataunlearn.attacks.embedding import EmbeddingSearch, recall
from dataunlearn.conditioning import TextCond
from dataunlearn.data import ImageSet, SubsetImages
from dataunlearn.metrics.pixel_distance import are_copies, copy_threshold, distinct_indices
from dataunlearn.models import DiffusionModel
from dataunlearn.models.latents import TextSpace
from dataunlearn.runtime.progress import progress_bar
from dataunlearn.unlearning.verdict import MemoryFinding, beside
from dataunlearn.verification.check import Check, Cost
from dataunlearn.verification.subject import Subject

# Images that an embedding is sought for, each one on its own.
MOST_IMAGES = 8


class EmbeddingCheck(Check):
    """Seeks an embedding for each image, and counts copies among samples for it."""

    name = "embedding"
    question = "Is there an embedding for which the model draws it?"

    def lacks(self, subject: Subject) -> str | None:
        """Prompts, and something to compare with."""
        if not isinstance(subject.model.space, TextSpace):
            return "the model takes no prompts"
        if not subject.has_comparison:
            return "it needs --reference or --held-out: an embedding leads a model to much"
        return None

    def cost(self, subject: Subject) -> Cost:
        """Search and samples, of both models or both kinds of pictures."""
        how = search_of(subject)
        searches = 2 * min(subject.num_images, MOST_IMAGES)
        return Cost(searches * how.samples * how.sampling_steps, searches * how.trained)

    def look(self, subject: Subject) -> tuple[Sequence[MemoryFinding], dict[str, Any]]:
        """Beside the reference, or beside unseen pictures that this model is led to."""
        job = subject.job
        images = first_of(job.split.forget)
        own = copies_for(subject, subject.model, images, job.threshold, "the model")
        if subject.reference is not None:
            other = copies_for(subject, subject.reference, images, job.threshold, "the reference")
            whose = "a model that never saw it"
        else:
            assert subject.held_out is not None
            strange = first_of(subject.held_out, len(images))
            limit = subject.settings.threshold or copy_threshold(strange, job.split.keep)
            other = copies_for(subject, subject.model, strange, limit, "unseen pictures")
            whose = "pictures that it never saw"
        return [judged(own, other, whose)], {"model": own, "beside": other}


def search_of(subject: Subject) -> EmbeddingSearch:
    """How an embedding is sought in this verification."""
    settings = subject.settings
    return EmbeddingSearch(
        sampling_steps=settings.sampling_steps,
        batch_size=settings.batch_size,
        seed=settings.seed,
    )


def first_of(images: ImageSet, count: int = MOST_IMAGES) -> ImageSet:
    """The first different pictures of a set."""
    return SubsetImages(images, distinct_indices(images, count))


def copies_for(
    subject: Subject, model: DiffusionModel, images: ImageSet, threshold: float, who: str
) -> dict[str, Any]:
    """Copies among the samples for the embeddings that were found, image by image."""
    how, space = search_of(subject), model.space
    total = len(images) * (how.trained + how.samples)
    copies = []
    with progress_bar(f"embeddings of {who}", total, shown=subject.shown) as advance:
        for row in range(len(images)):
            at = torch.tensor([row])
            start = space.conditions(images, at)
            assert isinstance(start, TextCond)
            image = images.batch(at)
            found = recall(model, image, start, how, progress=advance)
            copies.append(int(are_copies(found.samples, image, threshold).sum()))
    return {"copies": copies, "samples": how.samples, "threshold": threshold}


def judged(own: dict[str, Any], other: dict[str, Any], whose: str) -> MemoryFinding:
    """Still known if certainly more samples are copies than 5 %, and than are beside it."""
    shares = [(sum(side["copies"]), side["samples"] * len(side["copies"])) for side in (own, other)]
    words = (
        f"{shares[0][0]} of {shares[0][1]} samples for embeddings made to call it up are copies, "
        f"of {whose} {shares[1][0]} of {shares[1][1]}"
    )
    return MemoryFinding(beside(*shares), words)
