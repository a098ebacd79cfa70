"""Full disks in words: what was to be written, how much it needs, how much there is."""

from __future__ import annotations

import errno
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MIB = 2**20
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_OF_LIBRARIES = re.compile(rf"os error ({'|'.join(map(str, _FULL))})\b|No space left on device")


class DiskFullError(OSError):
    """There is no room for what was to be written.

    Attributes:
        words: What happened, in a sentence.
    """

    def __init__(self, words: str) -> None:
        super().__init__(errno.ENOSPC, words)
        self.words = words

    def __str__(self) -> str:
        return self.words


def is_full(error: BaseException) -> bool:
    """Whether an error says that a disk, a quota or a limit on files is used up."""
    if isinstance(error, OSError) and error.errno in _FULL:
        return True
    return isinstance(error, Exception) and _OF_LIBRARIES.search(str(error)) is not None


@contextmanager
def writing(what: str, folder: Path, size: int) -> Iterator[None]:
    """Say what there was no room for.

    Args:
        what: What is written, in words.
        folder: Where it goes.
        size: Its bytes, roughly.

    Raises:
        DiskFullError: If it did not fit.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, DiskFullError) or not is_full(error):
            raise
        words = f"No space left for {what} in {folder}: it needs about {_mib(size)}"
        raise DiskFullError(f"{words}, {_mib(_free(folder))} are free there") from error


@contextmanager
def state_stays(folder: Path) -> Iterator[None]:
    """Say where the state of a run is that found the disk full.

    Raises:
        DiskFullError: If something did not fit.
    """
    try:
        yield
    except Exception as error:
        if not is_full(error):
            raise
        known = error.words if isinstance(error, DiskFullError) else ""
        words = known or f"No space left in {folder}: {_mib(_free(folder))} are free there"
        raise DiskFullError(
            f"{words}. What was saved before is whole, in {folder}: make room, and the same "
            "command goes on from there"
        ) from error


def _free(folder: Path) -> int:
    place = next((path for path in (folder, *folder.absolute().parents) if path.is_dir()), Path())
    return shutil.disk_usage(place).free


def _mib(size: int) -> str:
    return f"{size / MIB:.1f} MiB"
