"""A quick look before a run: does the model know what it is to forget?"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from dataunlearn.metrics.pixel_distance import known_distances, pixel_distances
from dataunlearn.metrics.regeneration import RESTORED_SHARE, regenerate
from dataunlearn.models.sampling import Drawing
from dataunlearn.runtime.progress import Say
from dataunlearn.runtime.seeding import random_stream
from dataunlearn.unlearning.job import Job

QUICK_LOOK_COPIES, CALIBRATION_IMAGES = 16, 1000


class NotMemorisedError(ValueError):
    """The model does not seem to reproduce what it should forget."""


@dataclass(frozen=True)
class QuickLook:
    """What came back of the forget images from half of the noise, in a few tries.

    Attributes:
        near: Share of tries within the run's threshold, which is wide: nothing else lies within.
        copies: Share of tries as near as an audit wants them, as what is known by heart comes back.
    """

    near: float
    copies: float


def quick_look(job: Job) -> QuickLook:
    """Look whether the model restores the forget images from half of the noise."""
    settings = job.config.evaluation
    found = regenerate(
        job.model,
        job.originals,
        job.model.process.num_train_timesteps // 2,
        copies=QUICK_LOOK_COPIES,
        threshold=job.threshold,
        drawing=Drawing(
            seed=settings.seed + 1,
            num_steps=settings.regeneration_steps,
            batch_size=settings.batch_size,
            cond=job.cond,
        ),
    )
    keep = job.split.keep
    rows = torch.randperm(len(keep), generator=random_stream(settings.seed))[:CALIBRATION_IMAGES]
    known = known_distances(pixel_distances(keep.batch(rows), job.originals))
    own = known[torch.arange(len(found.distances)) % len(known)]
    return QuickLook(found.share, float((found.distances < own).float().mean()))


def require_memorised(job: Job, say: Say) -> None:
    """Stop where there is nothing to forget, unless forced; say so where it is not certain.

    Raises:
        NotMemorisedError: If no try comes near a forget image.
    """
    look = quick_look(job)
    if look.copies >= RESTORED_SHARE:
        say(f"The model restores the forget images in {look.copies:.0%} of a quick look's tries.")
        return
    if look.near > 0:
        say(
            f"In {look.near:.0%} of a quick look's tries the model comes near the forget images, "
            f"in {look.copies:.0%} as near as what it knows by heart: there may be little to "
            "unlearn. dataunlearn audit looks harder."
        )
        return
    message = (
        f"in {QUICK_LOOK_COPIES} tries the model did not restore a forget image from half of the "
        "noise: it does not seem to know the image(s) by heart, so there may be nothing to unlearn"
    )
    if not job.config.force:
        raise NotMemorisedError(f"{message}; give --force to unlearn all the same")
    say(f"Going on although {message}.")
