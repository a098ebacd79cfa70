"""The files under a folder: which are pictures, and what is left out."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

# Pillow opens these only with another program or reader, or they are no pictures.
_NOT_READ = {"BUFR", "EPS", "FITS", "GRIB", "HDF5", "MPEG", "PDF", "WMF"}
_FIRST = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".ppm", ".pgm")
# What may be a picture or hold some, and what to do about it: in a forget set none is passed over.
_UNREADABLE = {
    **dict.fromkeys(
        (
            *(".heic", ".heif", ".jxl", ".svg", ".eps", ".wmf", ".emf", ".exr", ".fits", ".raw"),
            *(".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".raf", ".rw2"),
        ),
        "is of a kind that cannot be read: convert it to PNG",
    ),
    **dict.fromkeys((".npy", ".npz"), "holds an array: give it by itself"),
    **dict.fromkeys((".zip", ".tar", ".tgz", ".gz", ".rar", ".7z"), "is an archive: unpack it"),
    **dict.fromkeys((".mp4", ".mov", ".avi", ".mkv", ".webm"), "is a film: save its pictures"),
    ".pdf": "is a document: save its pictures",
}
# Never looked into for pictures, since there may be as many of them as there are pictures.
TEXT_SUFFIXES = (".txt", ".caption", ".json", ".jsonl", ".csv", ".tsv", ".parquet")
# Formats that a file's first bytes tell apart from any other file.
_TOLD_BY_CONTENT = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "AVIF", "JPEG2000")
_NUM_NAMES = 3


def _readable_suffixes() -> tuple[str, ...]:
    Image.init()
    kinds = Image.registered_extensions()
    readable = {s for s, kind in kinds.items() if kind in Image.OPEN and kind not in _NOT_READ}
    return (*_FIRST, *sorted(readable - {*_FIRST}))


IMAGE_SUFFIXES = _readable_suffixes()
"""Suffixes of the files that pillow reads, the usual ones first."""


@dataclass(frozen=True)
class FolderFiles:
    """What lies under a folder; all paths start at it, in order.

    Attributes:
        pictures: Picture files, by suffix or, where that says nothing, by content.
        others: Files that are none.
        hidden: Pictures that are hidden, themselves or by their folder.
        problems: What may be a picture and cannot be read, and why.
    """

    pictures: tuple[Path, ...]
    others: tuple[Path, ...]
    hidden: tuple[Path, ...]
    problems: tuple[str, ...]


def list_folder(folder: Path) -> FolderFiles:
    """Look at everything under a folder, linked folders included, each folder once.

    Raises:
        ValueError: If the folder itself cannot be read.
    """
    problems: list[str] = []
    pictures, others, hidden = [], [], []
    for path in sorted(_walk(folder, problems)):
        known = path.suffix.lower() in IMAGE_SUFFIXES
        full = folder / path
        if any(part.startswith(".") for part in path.parts):
            hidden += [path] if known else []
        elif not full.exists():
            problems.append(f"{path} is a link to {os.readlink(full)}, which is not there")
        elif path.suffix.lower() in _UNREADABLE and not known:
            problems.append(f"{path} {_UNREADABLE[path.suffix.lower()]}")
        elif full.is_file() and (known or is_picture(full)):
            pictures.append(path)
        else:
            others.append(path)
    return FolderFiles(tuple(pictures), tuple(others), tuple(hidden), tuple(sorted(problems)))


def is_picture(path: Path) -> bool:
    """Whether a file whose name does not say so is a picture."""
    if path.suffix.lower() in TEXT_SUFFIXES:
        return False
    try:
        with Image.open(path, formats=_TOLD_BY_CONTENT):
            return True
    except Image.DecompressionBombError:
        return True  # whoever decodes it says so
    except Exception:  # decoders raise many kinds
        return False


def _walk(folder: Path, problems: list[str]) -> Iterator[Path]:
    """Everything but folders, relative; links to folders after all real ones."""
    seen: set[tuple[int, int]] = set()
    waiting = [folder]
    while waiting:
        current = waiting.pop(0)
        try:
            identity = (current.stat().st_dev, current.stat().st_ino)
            entries = [] if identity in seen else sorted(current.iterdir())
        except OSError as error:
            if current == folder:
                raise ValueError(f"folder {folder} cannot be read: {error.strerror}") from error
            name = current.relative_to(folder)
            problems.append(f"{name} is a folder that cannot be read: {error.strerror}")
            continue
        seen.add(identity)
        inside = [path for path in entries if path.is_dir()]
        real = [path for path in inside if not path.is_symlink()]
        num_real = next((i for i, path in enumerate(waiting) if path.is_symlink()), len(waiting))
        waiting[num_real:num_real] = real
        waiting += [path for path in inside if path.is_symlink()]
        yield from (path.relative_to(folder) for path in entries if path not in inside)


def some(names: Iterable[object]) -> str:
    """The first few names, and how many more there are."""
    found: Sequence[str] = [str(name) for name in names]
    rest = len(found) - _NUM_NAMES
    return ", ".join(found[:_NUM_NAMES]) + (f" and {rest} more" if rest > 0 else "")
