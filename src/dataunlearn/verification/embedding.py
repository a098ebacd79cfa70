"""Is there an embedding for which a text-to-image model draws the images?"""

from __future__ import annotations

from typing import Any

import torch

from dataunlearn.attacks.embedding import EmbeddingSearch, recall
from dataunlearn.conditioning import TextCond
from dataunlearn.metrics.pace import Cost
from dataunlearn.metrics.pixel_distance import are_copies
from dataunlearn.models.latents import TextSpace
from dataunlearn.runtime.progress import progress_bar
from dataunlearn.verification.led import MOST_IMAGES, LedCheck, Tried
from dataunlearn.verification.subject import Subject


class EmbeddingCheck(LedCheck):
    """Seeks an embedding for each image, and counts copies among samples for it."""

    name = "embedding"
    question = "Is there an embedding for which the model draws it?"
    made_for_it = "samples for embeddings made to call it up"
    lead = "an embedding"

    def lacks(self, subject: Subject) -> str | None:
        """Prompts, and something to compare with."""
        if not isinstance(subject.model.space, TextSpace):
            return "the model takes no prompts"
        return super().lacks(subject)

    def cost(self, subject: Subject) -> Cost:
        """Search and samples, of both models or both kinds of pictures."""
        how = search_of(subject)
        searches = 2 * min(subject.num_images, MOST_IMAGES)
        return Cost(searches * how.samples * how.sampling_steps, searches * how.trained)

    def copies_for(self, subject: Subject, tried: Tried) -> dict[str, Any]:
        """Among the samples for the embeddings that were found."""
        model, images = tried.model, tried.images
        how, space = search_of(subject), model.space
        total = len(images) * (how.trained + how.samples)
        copies = []
        with progress_bar(f"embeddings of {tried.who}", total, shown=subject.shown) as advance:
            for row in range(len(images)):
                at = torch.tensor([row])
                start = space.conditions(images, at)
                assert isinstance(start, TextCond)
                image = images.batch(at)
                found = recall(model, image, start, how, progress=advance)
                copies.append(int(are_copies(found.samples, image, tried.threshold).sum()))
        return {"copies": copies, "samples": how.samples, "threshold": tried.threshold}


def search_of(subject: Subject) -> EmbeddingSearch:
    """How an embedding is sought in this verification."""
    settings = subject.settings
    return EmbeddingSearch(
        sampling_steps=settings.sampling_steps,
        batch_size=settings.batch_size,
        seed=settings.seed,
    )
