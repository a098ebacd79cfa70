"""How near a picture must come to an image to be a copy of it: a share of how far others are."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from dataunlearn.metrics.audit.config import AuditSettings
from dataunlearn.metrics.inputs import Inputs
from dataunlearn.metrics.pixel_distance import (
    distinct_indices,
    known_distances,
    pixel_distances,
)
from dataunlearn.runtime.checks import require

# What a text-to-image model is asked for when its samples are to have nothing to do with an image.
NEUTRAL_PROMPTS = (
    "",
    "a photo",
    "a drawing",
    "a person",
    "an animal",
    "a landscape",
    "a building",
    "food on a table",
)
MOST_NEUTRAL_SAMPLES = 64
# Samples nearer to an image than this share of its own contrast are hardly others. Of the shipped
# models the median sample is at least 0.7 of it away, a copy a tenth to a quarter.
LEAST_OTHER = 1 / 3


def copy_thresholds(
    inputs: Inputs, originals: Tensor, distances: Tensor, settings: AuditSettings
) -> Tensor:
    """Pixel distance ``(K,)`` under which a picture is a copy of each original.

    Args:
        inputs: The model, the images in question as its forget side, keep images or none.
        originals: The images ``(K, C, H, W)``.
        distances: Pixel distances of the model's samples to them ``(N, K)``.
        settings: May give the threshold.

    Raises:
        ValueError: If there is nothing to calibrate on.
    """
    if settings.threshold is not None:
        return torch.full((len(originals),), settings.threshold)
    if inputs.keep is not None:  # the images in question are left out of it by content
        return known_distances(pixel_distances(inputs.keep_images, originals))
    require(len(distances) > 0, "without samples the audit needs --keep or --threshold")
    if inputs.model.takes_prompts:
        distances = pixel_distances(neutral_samples(inputs), originals)
    _require_others(inputs, originals, distances)
    return known_distances(distances)


def neutral_samples(inputs: Inputs) -> Tensor:
    """Samples ``(N, C, H, W)`` of prompts that no image in question has.

    Those of an image's own prompt would be copies of it, if the model knows it by heart.
    """
    forget = inputs.forget
    assert forget is not None
    own = {plain(str(forget.caption(row) or "")) for row in range(len(forget))}
    prompts = [prompt for prompt in NEUTRAL_PROMPTS if plain(prompt) not in own]
    require(
        len(prompts) > 0,
        "the images in question have every prompt that the audit would draw others for: give "
        "--keep or --threshold",
    )
    count = max(len(prompts), min(inputs.num_samples, MOST_NEUTRAL_SAMPLES))
    return inputs.samples_of(prompts, count, "samples_of_other_prompts")


def plain(prompt: str) -> str:
    """A prompt without what makes no other prompt of it."""
    return " ".join(prompt.casefold().split())


def _require_others(inputs: Inputs, originals: Tensor, distances: Tensor) -> None:
    """Refuse samples most of which are, or nearly are, the image that they are compared with."""
    flat = originals.flatten(2) / 2
    contrast = (flat - flat.mean(2, keepdim=True)).flatten(1).norm(dim=1)
    near = distances.median(dim=0).values < LEAST_OTHER * contrast
    names = _names(inputs, near.nonzero().flatten().tolist())
    require(
        not names,
        f"most of the model's samples are nearly {', '.join(names)}: from these alone the audit "
        "cannot tell what counts as a copy. Give --keep, other pictures of the same kind, or "
        "--threshold",
    )


def _names(inputs: Inputs, positions: Iterable[int]) -> list[str]:
    assert inputs.forget is not None
    rows = distinct_indices(inputs.forget)
    return [inputs.forget.name(rows[position]) for position in positions]
