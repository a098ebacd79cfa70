"""The pictures of requests: named by their content, found again, copied if asked."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection
from pathlib import Path

from PIL import Image

from dataunlearn.data import ConcatImages, ImageSet, SubsetImages
from dataunlearn.data.folders import some
from dataunlearn.metrics.pixel_distance import distinct_indices
from dataunlearn.models import DiffusionModel
from dataunlearn.models.pictures import open_for
from dataunlearn.requests.records import OWN, NamedPicture, Project, Request
from dataunlearn.requests.schema import LedgerError
from dataunlearn.runtime.files import file_hash, make_readable, replace_folder, temporary_folder
from dataunlearn.runtime.places import named_file

COPIES = "pictures"


def lasting_source(source: str) -> str:
    """A source of pictures or a model as it is called from any folder: paths made absolute."""
    path = named_file(source)
    if path is None:
        return source
    given = str(Path(os.path.expanduser(source)))
    return os.path.abspath(path) + given[len(str(path)) :]


def named_pictures(images: ImageSet) -> tuple[NamedPicture, ...]:
    """Every different picture of a set, with its hashes.

    Raises:
        LedgerError: If one has a name that a table cannot show.
    """
    rows = distinct_indices(images)
    for index in rows:
        if not images.name(index).isprintable():
            raise LedgerError(
                f"the name {images.name(index)!a} is no plain text (UTF-8, one line): rename it"
            )
    return tuple(
        NamedPicture(images.name(index), images.digest(index), _hash_of_file(images.name(index)))
        for index in rows
    )


def found_again(model: DiffusionModel, project: Project, request: Request) -> ImageSet:
    """A request's pictures, copies among them included, as the model takes them.

    Raises:
        LedgerError: If one is not where it was, with its name.
    """
    images = open_for(model, request.source, resize=project.resize, role="forget")
    wanted = {picture.digest: picture.name for picture in request.pictures}
    lacking = set(wanted) - set(images.digests())
    if lacking:
        raise LedgerError(
            f"request {request.id} ({request.reference}): "
            f"{some(sorted(wanted[digest] for digest in lacking))} of {request.source} cannot be "
            "found there any more, or is another picture now: put it back (request add --copy "
            "keeps copies)"
        )
    return those_with(images, wanted)


def those_with(images: ImageSet, digests: Collection[str]) -> ImageSet:
    """The pictures of a set that have these digests, copies included."""
    rows = [row for row, digest in enumerate(images.digests()) if digest in digests]
    return SubsetImages(images, rows)


def joined(parts: list[ImageSet]) -> ImageSet:
    """Several sets as one."""
    return parts[0] if len(parts) == 1 else ConcatImages(parts)


def copied(images: ImageSet, folder: Path) -> str:
    """Copy a set's different pictures into a project, with their classes and captions.

    Args:
        images: The pictures.
        folder: The project's folder.

    Returns:
        Where they are, from the project's folder on: a folder named by their content.

    Raises:
        ValueError: If a picture's prompt is an embedding, which no file of captions holds.
    """
    rows = distinct_indices(images)
    content = hashlib.sha256("".join(images.digest(row) for row in rows).encode())
    target = folder / COPIES / content.hexdigest()[:16]
    with temporary_folder(target) as place:
        for number, row in enumerate(rows):
            _copy(images, row, place, f"{number:05d}")
        make_readable(place)
        replace_folder(place, target)
    return f"{OWN}{COPIES}/{target.name}"


def _copy(images: ImageSet, row: int, place: Path, name: str) -> None:
    label, caption = images.label(row), images.caption(row)
    where = place if label is None else place / str(label)
    where.mkdir(exist_ok=True)
    pixels = images.pixels(row).transpose(1, 2, 0)  # (H, W, C)
    Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels).save(where / f"{name}.png")
    if isinstance(caption, str):
        (where / f"{name}.txt").write_text(caption, encoding="utf-8")
    elif caption is not None:
        raise LedgerError("the prompt of a picture is an embedding: leave out --copy")


def _hash_of_file(name: str) -> str | None:
    path = Path(name)
    return file_hash(path) if path.is_file() else None
