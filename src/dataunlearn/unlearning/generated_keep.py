"""Keep images for whoever has no training data left: the model's own samples."""

from __future__ import annotations

import re

from torch import Tensor

from dataunlearn.data.arrays import ArrayImages
from dataunlearn.data.base import ImageSet
from dataunlearn.data.pixels import to_uint8
from dataunlearn.metrics.pixel_distance import distinct_images, pixel_distances
from dataunlearn.models import DiffusionModel
from dataunlearn.models.sampling import Drawing, generate
from dataunlearn.runtime.progress import progress_bar

NEAR_SHARE = 0.75
MOST = 10**6  # samples: nobody waits for more, a slip
_SPEC = re.compile(r"generated:(\d+)")


def generated_count(spec: str) -> int | None:
    """N of ``generated:N``, or None where ``spec`` is something else.

    Raises:
        ValueError: If it begins with ``generated`` but names no number.
    """
    if not spec.startswith("generated"):
        return None
    match = _SPEC.fullmatch(spec)
    count = 0 if match is None or len(match[1]) > len(str(MOST)) else int(match[1])
    if not 1 <= count <= MOST:
        raise ValueError(
            f"write generated:NUMBER with a number from 1 to {MOST:,}, for example "
            f"generated:2048, not {spec!r}"
        )
    return count


def generated_images(
    model: DiffusionModel,
    forget: ImageSet,
    count: int,
    *,
    seed: int = 0,
    shown: bool = True,
) -> ImageSet:
    """Samples of the model, for the forget images' captions, without those near a forget image.

    "Near" is a pixel distance below three quarters of the median distance from the forget images
    to the samples: a model that draws an image by heart draws it far closer than that.

    Args:
        model: The model before unlearning.
        forget: The forget images.
        count: Samples to draw; fewer are left after the near ones are dropped.
        seed: Names the noise.
        shown: Whether to draw progress.

    Raises:
        ValueError: If nothing is left.
    """
    prompts = model.space.asked_for(forget)
    with progress_bar("drawing keep images", count, shown=shown) as advance:
        samples = generate(model, count, Drawing(seed=seed, prompts=prompts, progress=advance))
    pixels = to_uint8(samples).transpose(0, 3, 1, 2)  # (N, C, H, W)
    far = far_from(samples, distinct_images(forget))
    if not bool(far.any()):
        raise ValueError("every generated image is near a forget image: give --keep real images")
    kept = far.nonzero().flatten().numpy()
    classes = None if model.num_classes is None else kept % model.num_classes
    captions = [prompts[index % len(prompts)] for index in kept] if prompts else None
    return ArrayImages(pixels[kept], source="generated", labels=classes, captions=captions)


def far_from(images: Tensor, originals: Tensor) -> Tensor:
    """Which images ``(N, ...)`` are not near any original, ``(N,)`` bool."""
    nearest = pixel_distances(images, originals).min(dim=1).values
    return nearest >= NEAR_SHARE * nearest.median()
