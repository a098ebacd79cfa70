"""Where a run reads and where it writes, checked before any work."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

_PART_OF_A_FILE = re.compile(r"(?<=\.npz):[^:\[\]]+(\[\d+\])?$", re.IGNORECASE)


def require_writable(out: Path, option: str = "--out") -> None:
    """Refuse a file or folder that cannot be written; leaves nothing behind.

    Args:
        out: What is to be written; neither it nor the folders above it need exist.
        option: What it is given with.

    Raises:
        ValueError: If its name is no UTF-8 or none that the disk takes, or nothing can be written
            there.
    """
    require_name(out, option)
    try:
        place = _existing(out.absolute())
        if not place.is_dir():
            raise ValueError(f"{place} is a file: choose another {option}")
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        raise ValueError(
            f"{out} cannot be written: {error.strerror}; choose another {option}"
        ) from error


def require_name(out: Path, option: str = "--out") -> None:
    """Refuse a name that no file can have.

    Raises:
        ValueError: If it is no UTF-8, too long, or holds a zero byte.
    """
    try:
        str(out).encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{option} {str(out)!a} is not UTF-8: choose another name") from error
    if "\0" in str(out):
        raise ValueError(f"{option} {str(out)!a} holds a zero byte: choose another name")
    try:
        place = _existing(out.absolute())
        for part in out.absolute().relative_to(place).parts:
            with suppress(FileNotFoundError, NotADirectoryError):
                (place / part).lstat()  # an error if no file can be called that
    except OSError as error:
        raise ValueError(f"{option} {out}: {error.strerror}; choose another name") from error


def require_outside(out: Path, inputs: Mapping[str, Any], option: str = "--out") -> None:
    """Refuse a folder for a run that holds what the run reads.

    Args:
        out: The run's folder.
        inputs: By the name of their option: paths, texts that may be paths, lists of such; anything
            else is not looked at.
        option: What the folder is given with.

    Raises:
        ValueError: With the input that lies inside.
    """
    where = out.resolve()
    for name, value in inputs.items():
        for each in value if isinstance(value, (list, tuple)) else [value]:
            path = named_file(each)
            found = None if path is None else path.resolve()
            if found is not None and (found == where or where in found.parents):
                raise ValueError(
                    f"--{name.replace('_', '-')} {each} lies inside {option} {out}: a run does not "
                    f"write where it reads; choose another {option}"
                )


def named_file(value: Any) -> Path | None:
    """The file or folder that an input names, without the part of it; None if there is none."""
    if not isinstance(value, (str, Path)) or not str(value) or "\n" in str(value):
        return None
    try:
        path = Path(os.path.expanduser(value))
        plain = path if path.exists() else Path(_PART_OF_A_FILE.sub("", str(path)))
        return plain if plain.exists() else None
    except (OSError, ValueError):  # a text that can be no path
        return None


def _existing(path: Path) -> Path:
    """The nearest of a path and the folders above it that exists."""
    for each in (path, *path.parents):
        try:
            each.lstat()
        except (FileNotFoundError, NotADirectoryError):
            continue
        return each
    return path
