"""Files written whole or not at all, folders replaced, hashes."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


def file_hash(path: Path) -> str:
    """A file's SHA-256, as ``sha256sum`` prints it."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file whole or not at all: temporary name, flush to disk, rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o644)
        os.replace(name, path)
    finally:
        Path(name).unlink(missing_ok=True)


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


def replace_folder(temporary: Path, folder: Path) -> None:
    """Move a finished folder into place, over an old one if there is one."""
    if not folder.exists():
        os.replace(temporary, folder)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{folder.name}-old-", dir=folder.parent))
    os.replace(folder, old / "folder")
    try:
        os.replace(temporary, folder)
    except BaseException:
        os.replace(old / "folder", folder)
        old.rmdir()
        raise
    shutil.rmtree(old)


def read_log(path: Path) -> list[dict[str, Any]]:
    """All complete records of a log; a last line that was cut off is left out."""
    records = []
    for line in path.read_text().splitlines():
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return records
