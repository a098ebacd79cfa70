"""Pictures opened as a model takes them."""

from __future__ import annotations

from dataunlearn.data import ImageSet, open_images
from dataunlearn.data.opening import ImageSource
from dataunlearn.models.base import DiffusionModel

NO_CAPTIONS = "no captions: the empty prompt stands for them"


def open_for(
    model: DiffusionModel,
    source: ImageSource,
    *,
    resize: bool = False,
    role: str = "keep",
    captions: bool = True,
) -> ImageSet:
    """Open pictures of a model's shape, with captions where it takes prompts, unless told not to.

    Raises:
        ValueError: As :func:`dataunlearn.data.open_images`; or if a class-conditional model has no
            such class.
    """
    wanted = captions and model.takes_prompts
    images = open_images(source, model.image_shape, resize=resize, role=role, captions=wanted)
    if not model.takes_prompts:
        model.space.check(images, role)
    elif wanted and images is not source and not images.different_captions():
        images.remarks = (*images.remarks, NO_CAPTIONS)
    return images
