"""Files written whole or not at all, folders replaced, hashes."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dataunlearn.runtime.disk import writing
from dataunlearn.runtime.sealed import DamagedFileError, sealed

UNFINISHED = ".unfinished"
_LEFT_BEHIND = re.compile(rf"\.(?P<name>.+?)-(?P<old>old-)?[a-z0-9_]{{8}}{re.escape(UNFINISHED)}")
# As versions before named them: without the ending, so only by the names of what they became, and
# only where a digit shows that the last part is no word.
_EARLIER_NAMES = r"model|lora|vae|images|writing|settings\.json|images\.npz|re(?:port|sults)\.\w+"
_LEFT_BEFORE = re.compile(
    rf"\.(?P<name>{_EARLIER_NAMES})-(?P<old>old-)?(?=[a-z_]*[0-9])[a-z0-9_]{{8}}"
)


def file_hash(path: Path) -> str:
    """A file's SHA-256, as ``sha256sum`` prints it."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file whole or not at all: temporary name, flush to disk, rename.

    Raises:
        DiskFullError: If there is no room for it; what was there before stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with writing(path.name, path.parent, len(content)):
        handle, name = tempfile.mkstemp(prefix=f".{path.name}-", suffix=UNFINISHED, dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            Path(name).chmod(0o644)
            os.replace(name, path)
        finally:
            Path(name).unlink(missing_ok=True)


def write_sealed(path: Path, content: dict[str, Any]) -> None:
    """Write JSON with its checksum, as ``read_sealed`` reads it, whole or not at all.

    Raises:
        DiskFullError: See :func:`write_atomically`.
    """
    write_atomically(path, json.dumps(sealed(content), indent=1).encode())


@contextmanager
def temporary_folder(folder: Path) -> Iterator[Path]:
    """A folder beside ``folder`` to be filled and renamed to it; removed if it is still there."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    found = tempfile.mkdtemp(prefix=f".{folder.name}-", suffix=UNFINISHED, dir=folder.parent)
    try:
        yield Path(found)
    finally:
        shutil.rmtree(found, ignore_errors=True)


def to_disk(folder: Path, *, deep: bool = True) -> None:
    """Have the system write down a folder, and all files in it, so that a power cut loses none."""
    for path in (folder, *(folder.rglob("*") if deep else ())):
        if path.is_symlink():
            continue
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def left_behind(path: Path) -> str | None:
    """What a temporary file or folder was to become, if a killed run of ours left it; else None."""
    found = _matched(path)
    return None if found is None else found["name"]


def remove_left_behind(path: Path) -> None:
    """Remove what a killed run left; a folder that it had just moved away goes back."""
    found = _matched(path)
    assert found is not None
    target, moved = path.with_name(found["name"]), path / "folder"
    if found["old"] and moved.is_dir() and not target.exists():
        os.replace(moved, target)
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def save_arrays(path: Path, **arrays: NDArray[Any]) -> None:
    """Write an ``.npz`` whole or not at all."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    write_atomically(path, buffer.getvalue())


def make_readable(folder: Path) -> None:
    """Let others read the folder: temporary folders and safetensors files are private when made."""
    folder.chmod(0o755)
    for path in folder.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)


def _matched(path: Path) -> re.Match[str] | None:
    return _LEFT_BEHIND.fullmatch(path.name) or _LEFT_BEFORE.fullmatch(path.name)


def replace_folder(temporary: Path, folder: Path) -> None:
    """Move a finished folder into place, over an old one if there is one."""
    to_disk(temporary)
    if not folder.exists():
        os.replace(temporary, folder)
        return
    old = Path(
        tempfile.mkdtemp(prefix=f".{folder.name}-old-", suffix=UNFINISHED, dir=folder.parent)
    )
    os.replace(folder, old / "folder")
    try:
        os.replace(temporary, folder)
    except BaseException:
        os.replace(old / "folder", folder)
        old.rmdir()
        raise
    shutil.rmtree(old)


def read_log(path: Path, *, whole: bool = False) -> list[dict[str, Any]]:
    """The records of a log, those of steps 1, 2, 3, ... without a gap.

    Args:
        path: One JSON object for each step, one a line.
        whole: Refuse a log with anything else in it, instead of leaving out what follows. A run
            that was killed may leave its last line cut off; one that has ended does not.

    Raises:
        DamagedFileError: If it cannot be read, or is not whole where it must be.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DamagedFileError(f"{path} cannot be read: {error.strerror}") from error
    records, is_whole = parse_log(content)
    if whole and not is_whole:
        raise DamagedFileError(f"{path} is damaged after step {len(records)}: run it again")
    return records


def parse_log(content: bytes) -> tuple[list[dict[str, Any]], bool]:
    """The records of steps 1, 2, 3, ... without a gap, and whether there is nothing else."""
    records: list[dict[str, Any]] = []
    lines = content.splitlines()
    for line in lines:
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            break
        if not isinstance(record, dict) or record.get("step") != len(records) + 1:
            break
        records.append(record)
    return records, len(records) == len(lines)
