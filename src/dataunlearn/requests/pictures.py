"""The pictures of requests: named by their content, found again, copied if asked."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from PIL import Image

from dataunlearn.data import ConcatImages, ImageSet, SubsetImages
from dataunlearn.models import DiffusionModel
from dataunlearn.models.pictures import open_for
from dataunlearn.requests.records import NamedPicture, Project, Request
from dataunlearn.requests.schema import LedgerError
from dataunlearn.runtime.files import file_hash, make_readable, replace_folder, temporary_folder
from dataunlearn.runtime.places import named_file

COPIES = "pictures"
OWN = "./"  # begins a source that lies in the project, wherever that is
_MOST_NAMED = 3


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
    first: dict[str, int] = {}
    for index in range(len(images)):
        first.setdefault(images.digest(index), index)
    for index in first.values():
        if not images.name(index).isprintable():
            raise LedgerError(
                f"the name {images.name(index)!a} is no plain text (UTF-8, one line): rename it"
            )
    return tuple(
        NamedPicture(images.name(index), digest, _hash_of_file(images.name(index)))
        for digest, index in first.items()
    )


def found_again(model: DiffusionModel, project: Project, request: Request) -> ImageSet:
    """A request's pictures, copies among them included, as the model takes them.

    Raises:
        LedgerError: If one is not where it was, with its name.
    """
    images = open_for(model, request.source, resize=project.resize, role="forget")
    wanted = {picture.digest: picture.name for picture in request.pictures}
    rows = [row for row in range(len(images)) if images.digest(row) in wanted]
    lacking = set(wanted) - {images.digest(row) for row in rows}
    if lacking:
        names = sorted(wanted[digest] for digest in lacking)
        more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
        raise LedgerError(
            f"request {request.id} ({request.reference}): {', '.join(names[:_MOST_NAMED])}{more} "
            f"of {request.source} cannot be found there any more, or is another picture now: put "
            "it back (request add --copy keeps copies)"
        )
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
    pictures = named_pictures(images)
    content = hashlib.sha256("".join(picture.digest for picture in pictures).encode())
    target = folder / COPIES / content.hexdigest()[:16]
    rows = {images.digest(row): row for row in reversed(range(len(images)))}
    with temporary_folder(target) as place:
        for number, picture in enumerate(pictures):
            _copy(images, rows[picture.digest], place, f"{number:05d}")
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
