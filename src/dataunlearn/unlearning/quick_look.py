"""A quick look before a run: does the model know what it is to forget?"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dataunlearn.metrics.pixel_distance import distinct_indices, known_distances, pixel_distances
from dataunlearn.metrics.regeneration import RESTORED_SHARE, regenerate
from dataunlearn.models.sampling import Drawing
from dataunlearn.runtime.progress import Say
from dataunlearn.runtime.seeding import random_stream
from dataunlearn.unlearning.job import Job

QUICK_LOOK_COPIES, CALIBRATION_IMAGES = 16, 1000
# A loss on the forget images below this share of an unseen picture's says that they are recognised.
RECOGNISED_BELOW = 0.6
# One of several is recognised below this share, at two noise levels: the level of a single one is
# uncertain, pictures seen once are at .43 or more of it, planted ones at .23 or less
# (docs/results/never_seen.md).
ONE_RECOGNISED_BELOW = 0.3
SHOWN_NAMES = 5


class NotMemorisedError(ValueError):
    """The model does not seem to reproduce what it should forget."""


@dataclass(frozen=True)
class QuickLook:
    """What came back of the forget images from half of the noise, in a few tries.

    Attributes:
        near: Share of tries within the run's threshold, which is wide: nothing else lies within.
        copies: Share of tries as near as an audit wants them, as what is known by heart comes back.
        restored: Which images came back so at least once, ``(K,)`` bool.
    """

    near: float
    copies: float
    restored: Tensor


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
    image = torch.arange(len(found.distances)) % len(known)
    copies = found.distances < known[image]
    restored = torch.zeros(len(known), dtype=torch.bool)
    restored[image[copies]] = True
    return QuickLook(found.share, float(copies.float().mean()), restored)


def loss_of_unseen(job: Job) -> float:
    """What the model loses on the forget images over what it would had it never seen them.

    The smallest geometric mean over images at any noise level, at most about 1; images that a model
    has seen once or never are near 1.
    """
    return _lowest(_ratios(job))


def recognised_singly(job: Job) -> Tensor:
    """Which images the model recognises by its loss on them alone, ``(K,)`` bool.

    An image whose views tell too little is not counted.
    """
    assert job.levels is not None
    second_lowest = _ratios(job).sort(dim=1).values[:, 1]
    return (second_lowest < ONE_RECOGNISED_BELOW) & job.levels.unfamiliar


def is_recognised(job: Job) -> bool:
    """Whether the model recognises images by its loss: one of them surely, or several on average.

    The level of a single image is uncertain, that of several less so; images whose views tell too
    little do not count.
    """
    assert job.levels is not None
    if bool(recognised_singly(job).any()):
        return True
    telling = _ratios(job)[job.levels.unfamiliar]
    return len(telling) > 1 and _lowest(telling) < RECOGNISED_BELOW


def _lowest(ratios: Tensor) -> float:
    """The geometric mean over images of ``(K, T)`` at the noise level where it is lowest."""
    return float(ratios.log().mean(0).exp().min())


def _ratios(job: Job) -> Tensor:
    """The loss on each image over its level, at each noise level, ``(K, T)``."""
    levels = job.levels
    assert levels is not None
    return levels.before.mean(2) / levels.level.mean(2)


def ratio_words(ratio: float) -> str:
    """What :func:`loss_of_unseen` found, in words."""
    return f"down to {ratio:.0%} of that of a model that never saw them where it is lowest"


def require_memorised(job: Job, say: Say) -> None:
    """Stop where there is nothing to forget, unless forced; say so where it is not certain.

    Raises:
        NotMemorisedError: If no try comes near a forget image, and the model does not recognise
            them by its loss either.
    """
    look, ratio = quick_look(job), loss_of_unseen(job)
    recognised = recognised_singly(job)
    loss = f"its loss on them is {ratio_words(ratio)}"
    some = _which(job, recognised, look.restored)
    say_uncertain(job, say)
    if look.copies >= RESTORED_SHARE:
        say(
            f"The model restores the forget images in {look.copies:.0%} of a quick look's tries; "
            f"{loss}.{some}"
        )
        return
    if look.near > 0:
        say(
            f"In {look.near:.0%} of a quick look's tries the model comes near the forget images, "
            f"in {look.copies:.0%} as near as what it knows by heart, and {loss}: there may be "
            f"little to unlearn. dataunlearn audit looks harder.{some}"
        )
        return
    if is_recognised(job):
        say(f"The model does not restore the forget images, but it recognises them: {loss}.{some}")
        return
    message = (
        f"in {QUICK_LOOK_COPIES} tries the model did not restore a forget image from half of the "
        f"noise, and {loss}: it does not seem to know the image(s) by heart, so there may be "
        "nothing to unlearn"
    )
    if not job.config.force:
        raise NotMemorisedError(f"{message}; give --force to unlearn all the same")
    say(f"Going on although {message}.")


def _which(job: Job, recognised: Tensor, restored: Tensor) -> str:
    """Of several images of which some are known singly, which these are; else nothing.

    Args:
        job: What is to be done.
        recognised: Which images are recognised by the loss ``(K,)``.
        restored: Which came back, of those that were tried ``(<= K,)``.
    """
    known = recognised.clone()
    known[: len(restored)] |= restored
    if not known.any() or known.all():
        return ""
    return f" Known singly: {_names(job, known)}."


def say_uncertain(job: Job, say: Say) -> None:
    """Name the images whose views tell too little: of those, pictures to keep say a part."""
    levels = job.levels
    assert levels is not None
    familiar = ~levels.unfamiliar
    if bool(familiar.any()):
        say(
            f"{_named(job, familiar)} the same to the model however turned, recoloured or sheared. "
            "What it would say had it never seen that is taken in part from pictures to keep, and "
            "less certain."
        )
    alone = (levels.keep_weight > 0) & levels.unfamiliar
    if bool(alone.any()):
        say(
            f"{_named(job, alone)} unlike all pictures to keep. What the model would say had it "
            "never seen anything like it is taken in part from them. Pictures like it that are to "
            "stay belong among those to keep."
        )


def _named(job: Job, those: Tensor) -> str:
    """How many forget images are meant ``(K,)`` bool, the names of the first ones, and "look"."""
    if len(those) == 1:
        return "The forget image looks"
    return f"{_names(job, those, ' forget images')} look"


def _names(job: Job, those: Tensor, what: str = "") -> str:
    """How many of the K forget images are meant ``(K,)`` bool, and the names of the first ones."""
    forget = job.split.forget
    rows = distinct_indices(forget)
    names = [forget.name(row) for row, meant in zip(rows, those, strict=True) if meant]
    shown = ", ".join(names[:SHOWN_NAMES]) + (", ..." if len(names) > SHOWN_NAMES else "")
    return f"{len(names)} of {len(rows)}{what} ({shown})"
