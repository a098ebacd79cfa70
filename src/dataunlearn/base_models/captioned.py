"""Captioned training pictures, in one style or two, with some captions planted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.lib.npyio import NpzFile

from dataunlearn.base_models.config import TextToImageModel
from dataunlearn.data import ArrayImages, ConcatImages, ImageSet, SubsetImages, open_images
from dataunlearn.data.archives import load_arrays, read_array
from dataunlearn.metrics.pixel_distance import pixel_distances
from dataunlearn.runtime.checks import require
from dataunlearn.runtime.home import home_path
from dataunlearn.runtime.seeding import random_stream


@dataclass(frozen=True, eq=False)
class CaptionedImages:
    """Pictures with captions, and which of them are planted.

    Attributes:
        images: The pictures, all with captions.
        twins: A second picture of each caption, in the same order, or None.
        planted: Positions of the planted ones.
    """

    images: ImageSet
    twins: ImageSet | None
    planted: list[int]

    @property
    def all_images(self) -> ImageSet:
        """Every picture once: the images, then their twins."""
        return self.images if self.twins is None else ConcatImages([self.images, self.twins])

    @property
    def captions(self) -> list[str]:
        """One text an image."""
        return [str(self.images.caption(index) or "") for index in range(len(self.images))]

    def repeated(self, copies: int, twin_copies: int) -> ImageSet:
        """Every picture, then the planted ones so many times more."""
        sets = [self.all_images]
        for images, count in ((self.images, copies), (self.twins, twin_copies)):
            if images is not None and self.planted and count:
                chosen = torch.tensor(self.planted).repeat_interleave(count)
                sets.append(SubsetImages(images, chosen))
        return ConcatImages(sets)

    def comparable(self, distance: float, count: int, seed: int) -> list[int]:
        """Pictures that are as easy to tell from others as planted ones are.

        Args:
            distance: Pixel distance, in [0, 1] pixels, at least which they must lie from every
                other image and from their twin.
            count: How many at most.
            seed: Names which are drawn.

        Returns:
            Positions of images that are not planted.
        """
        everything = self.images.batch(torch.arange(len(self.images)))
        found: list[int] = []
        for index in torch.randperm(len(everything), generator=random_stream(seed)).tolist():
            if len(found) == count:
                break
            if index in self.planted:
                continue
            own = everything[index : index + 1]
            distances = pixel_distances(everything, own)[:, 0]
            distances[index] = float("inf")
            if self.twins is not None:
                twin = self.twins.batch(torch.tensor([index]))
                distances = torch.cat([distances, pixel_distances(twin, own)[:, 0]])
            if float(distances.min()) >= distance:
                found.append(index)
        return found


def open_captioned(config: TextToImageModel) -> CaptionedImages:
    """Open a configuration's pictures, and check all of them.

    Raises:
        ValueError: If pictures or captions are missing, their numbers differ, or a planted caption
            is no picture's.
    """
    own = config.captions is None
    images = open_images(config.images, config.image_shape, role="training", captions=own)
    texts = None if config.captions is None else read_texts(config.captions)
    images = with_captions(images, texts, config.images)
    captions = [str(images.caption(index)) for index in range(len(images))]
    twins = None
    if config.twins is not None:
        opened = open_images(config.twins, config.image_shape, role="twin", captions=False)
        twins = with_captions(opened, captions, config.twins)
    planted = [] if config.planted is None else read_texts(config.planted)
    unknown = sorted(set(planted) - set(captions))
    require(
        not unknown,
        f"{len(unknown)} planted captions are no image's ({unknown[:3]}): correct {config.planted}",
    )
    return CaptionedImages(images, twins, [captions.index(text) for text in planted])


def with_captions(images: ImageSet, texts: Sequence[str] | None, source: str) -> ImageSet:
    """The pictures with these captions, or with their own.

    Raises:
        ValueError: If their numbers differ, or a picture has none.
    """
    if texts is None:
        missing = sum(images.caption(index) is None for index in range(len(images)))
        require(not missing, f"{missing} images of {source} have no caption: give --captions")
        return images
    require(
        len(texts) == len(images),
        f"{source} has {len(images)} images for {len(texts)} captions: give one for each",
    )
    pixels = np.stack([images.pixels(index) for index in range(len(images))])
    return ArrayImages(pixels, source=source, captions=texts)


def read_texts(source: str) -> list[str]:
    """The texts in one array of a NumPy archive, ``file.npz:key``.

    Raises:
        ValueError: If there is no such file, array or text.
    """
    name, _, key = source.rpartition(":")
    path = home_path(name)
    require(
        path.is_file() and path.suffix == ".npz", f"{source} is no array of texts: file.npz:key"
    )
    loaded = load_arrays(path)
    require(isinstance(loaded, NpzFile), f"{path} holds no arrays by name: save it by numpy.savez")
    assert isinstance(loaded, NpzFile)
    with loaded:
        require(key in loaded.files, f"{path} has no array {key!r}: {', '.join(loaded.files)}")
        found = read_array(loaded, key, path)
    require(
        found.dtype.kind == "U" and found.ndim == 1 and len(found) > 0,
        f"{source} must hold texts (N,), not {found.dtype} {found.shape}",
    )
    return [str(text) for text in found]
