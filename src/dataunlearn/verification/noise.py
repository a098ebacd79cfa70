"""Is there noise, as likely as any other, that the model draws the images from?"""

from __future__ import annotations

from typing import Any

import torch

from dataunlearn.attacks.noise import NoiseSearch, draw_out
from dataunlearn.metrics.pace import Cost
from dataunlearn.metrics.pixel_distance import are_copies, pixel_distances
from dataunlearn.runtime.progress import progress_bar
from dataunlearn.verification.led import MOST_IMAGES, LedCheck, Tried
from dataunlearn.verification.subject import Subject


class NoiseCheck(LedCheck):
    """Seeks noises for each image, and counts copies among what is drawn from them."""

    name = "initial noise"
    question = "Is there likely noise that the model draws it from?"
    made_for_it = "pictures drawn from noise made to bring it up"
    lead = "noise made for a picture"

    def cost(self, subject: Subject) -> Cost:
        """The search, of both models or both kinds of pictures; a pass more each, for memory."""
        trained = 2 * min(subject.num_images, MOST_IMAGES) * search_of(subject).trained
        return Cost(trained, trained)

    def copies_for(self, subject: Subject, tried: Tried) -> dict[str, Any]:
        """Among the pictures that are drawn from the noises that were found."""
        model, images = tried.model, tried.images
        how = search_of(subject)
        copies, nearest = [], []
        total = len(images) * how.trained
        with progress_bar(f"noise for {tried.who}", total, shown=subject.shown) as advance:
            for row in range(len(images)):
                at = torch.tensor([row])
                image, cond = images.batch(at), model.space.conditions(images, at)
                found = draw_out(model, image, cond, how, progress=advance).pictures
                copies.append(int(are_copies(found, image, tried.threshold).sum()))
                nearest.append(float(pixel_distances(found, image).min()))
        numbers = {"copies": copies, "samples": how.tries, "threshold": tried.threshold}
        return numbers | {"nearest": nearest}


def search_of(subject: Subject) -> NoiseSearch:
    """How noise is sought in this verification."""
    return NoiseSearch(seed=subject.settings.seed)
