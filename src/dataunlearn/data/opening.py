"""Open pictures from whatever a user has: arrays, files, folders, archives, hub datasets."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from dataunlearn.data.archives import open_array_file
from dataunlearn.data.arrays import (
    ArrayImages,
    from_array,
    from_pillow,
    from_tensor,
)
from dataunlearn.data.base import LOCAL_FORMS, ImageSet
from dataunlearn.data.compose import ConcatImages, SubsetImages
from dataunlearn.data.files import FileImages, check_all, open_file, open_folder
from dataunlearn.data.folders import IMAGE_SUFFIXES, is_picture
from dataunlearn.data.hub import (
    HubImages,
    is_saved_dataset,
    looks_like_hub_id,
    open_hub,
    open_saved,
)
from dataunlearn.runtime.home import home_path

__all__ = [
    "ArrayImages",
    "ConcatImages",
    "FileImages",
    "HubImages",
    "ImageSet",
    "ImageSource",
    "SubsetImages",
    "open_images",
]

ImageSource: TypeAlias = (
    ImageSet | NDArray[Any] | Tensor | Image.Image | Sequence[Image.Image] | str | PathLike[str]
)

_ARRAY_SUFFIXES = (".npy", ".npz")
_ARCHIVE_KEY = re.compile(
    r"(?P<path>.+\.npz):(?P<key>[^:\[\]]+)(\[(?P<index>\d+)\])?", re.IGNORECASE
)


def open_images(
    source: ImageSource,
    shape: tuple[int, int, int],
    *,
    resize: bool = False,
    role: str = "keep",
    captions: bool = True,
) -> ImageSet:
    """Open pictures and check every one of them.

    Args:
        source: An :class:`ImageSet`; an array or tensor (``(N, H, W)``, ``(N, H, W, C)``,
            ``(N, C, H, W)`` or one picture; uint8, or floats in [0, 1]); a pillow image or a list
            of them; or a path: a folder of images (searched recursively, sorted; sub-folders named
            by integers are classes; captions in the forms of :mod:`dataunlearn.data.captions`),
            one image file, ``.npy``, ``.npz`` (``digits.npz:key`` chooses the array,
            ``digits.npz:key[3]`` one picture of it), a folder written by ``Dataset.save_to_disk``
            (``folder#split``), or, where nothing of that name exists, a Hugging Face dataset
            ``owner/name`` (``owner/name#split``).
        shape: ``(C, H, W)`` of the model.
        resize: Centre-crop to the model's aspect ratio and resize (Lanczos) pictures of another
            size; without it, another size is an error.
        role: Which side this is, for messages; for ``"forget"`` a file that may be a picture and
            cannot be read is an error, for others it is left out.
        captions: Whether texts are read; a model that takes none has no use for them.

    Returns:
        A non-empty set of pictures of exactly ``shape``; its ``remarks`` say where captions come
        from and what was left out. Text files of which none was usable are warned of, too.

    Raises:
        ValueError: If the source is missing or empty, or a picture is damaged, of another size,
            in colour for a grey model, or holds values that are no pixels; the message names the
            role, the picture and what to do.
    """
    try:
        if isinstance(source, str | PathLike):
            images = _Opening(shape, resize, role, captions).path(str(source))
        else:
            images = _open_object(source, shape, resize=resize)
        if len(images) == 0:
            raise ValueError(f"{_describe(source)} has no images")
        check_all(images, role=role)
    except ValueError as error:
        raise ValueError(f"{role} images: {error}") from error
    return images


def _open_object(source: object, shape: tuple[int, int, int], *, resize: bool) -> ImageSet:
    if isinstance(source, ImageSet):
        if source.shape != shape:
            raise ValueError(
                f"the given set has images of shape {source.shape}, the model takes {shape}; open "
                "the original source with the model's shape"
            )
        return source
    if isinstance(source, np.ndarray):
        return from_array(source, shape, resize=resize, source="array")
    if isinstance(source, Tensor):
        return from_tensor(source, shape, resize=resize)
    if isinstance(source, Image.Image):
        return from_pillow([source], shape, resize=resize)
    if isinstance(source, list | tuple) and all(isinstance(item, Image.Image) for item in source):
        return from_pillow(source, shape, resize=resize)
    raise ValueError(
        f"cannot open {_describe(source)}; give an ImageSet, an array, a tensor, pillow images, or "
        f"the path of {LOCAL_FORMS}"
    )


@dataclass(frozen=True)
class _Opening:
    """How paths are opened; the fields are arguments of :func:`open_images`."""

    shape: tuple[int, int, int]
    resize: bool
    role: str
    captions: bool

    def path(self, name: str) -> ImageSet:
        """Pictures of a path, a part of an archive or of a dataset, or a dataset of the hub."""
        path = home_path(name)
        if path.exists():
            return self.existing(path)
        in_archive = _ARCHIVE_KEY.fullmatch(name)
        if in_archive is not None:
            archive = home_path(in_archive["path"])
            if archive.is_file():
                images = self.array_file(archive, in_archive["key"])
                index = in_archive["index"]
                return images if index is None else _pick(images, int(index), name)
        stem, _, split = name.partition("#")
        folder = home_path(stem)
        if split and folder.exists():
            if not is_saved_dataset(folder):
                raise ValueError(
                    f"{folder} is no saved dataset, so it has no splits; drop #{split}"
                )
            return self.saved(folder, split)
        is_file_name = folder.suffix.lower() in (*IMAGE_SUFFIXES, *_ARRAY_SUFFIXES)
        if looks_like_hub_id(stem) and not is_file_name:
            return open_hub(
                stem, split or None, self.shape, resize=self.resize, captions=self.captions
            )
        raise ValueError(
            f"there is no file or folder {name}; give {LOCAL_FORMS}, or a Hugging Face dataset as "
            "owner/name"
        )

    def existing(self, path: Path) -> ImageSet:
        """Pictures of a file or folder."""
        if path.is_dir():
            if is_saved_dataset(path):
                return self.saved(path, None)
            return open_folder(
                path, self.shape, resize=self.resize, role=self.role, captions=self.captions
            )
        suffix = path.suffix.lower()
        if suffix in _ARRAY_SUFFIXES:
            return self.array_file(path, None)
        if suffix in IMAGE_SUFFIXES or is_picture(path):
            return open_file(path, self.shape, resize=self.resize, captions=self.captions)
        raise ValueError(f"{path} is of no known kind; give {LOCAL_FORMS}")

    def saved(self, folder: Path, split: str | None) -> ImageSet:
        """Pictures of a saved dataset."""
        return open_saved(folder, split, self.shape, resize=self.resize, captions=self.captions)

    def array_file(self, path: Path, key: str | None) -> ImageSet:
        """Pictures of an array file."""
        return open_array_file(
            path, self.shape, resize=self.resize, key=key, captions=self.captions
        )


def _pick(images: ImageSet, index: int, name: str) -> ImageSet:
    if index >= len(images):
        raise ValueError(f"{name} does not exist: the array has {len(images)} pictures, from [0]")
    return SubsetImages(images, [index])


def _describe(source: object) -> str:
    return source if isinstance(source, str) else f"an object of type {type(source).__name__}"
