"""One run at a time in a folder: a lock that ends with its process."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from dataunlearn.runtime.files import write_atomically

LOCK_FILE, HOLDER_FILE = ".lock", ".holder.json"
ANOTHER = ", or choose another folder"


class FolderInUseError(ValueError):
    """Another process, or another thread, writes into the folder."""


@contextmanager
def locked(folder: Path, *, instead: str = ANOTHER) -> Iterator[None]:
    """Hold a folder, which is made if it is missing; no other run may then write into it.

    The system takes the lock back when a process ends, however it ends: a lock file that is left
    behind by a killed process holds nothing.

    A folder that was made for it and in which nothing was written is not left behind.

    Args:
        folder: The folder.
        instead: What to do but wait if it is held, for the message.

    Raises:
        FolderInUseError: If it is held, with the holder's host and process.
    """
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK_FILE, timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise FolderInUseError(_words(folder, instead)) from error
    try:
        holder = {
            "host": socket.gethostname(),
            "process": os.getpid(),
            "since": time.strftime("%Y-%m-%d %H:%M:%S"),
        }
        write_atomically(folder / HOLDER_FILE, json.dumps(holder).encode())
        yield
    finally:
        for name in (HOLDER_FILE, LOCK_FILE):
            (folder / name).unlink(missing_ok=True)  # while it is held: nobody can have taken it
        lock.release()
        with suppress(OSError):  # what holds something stays
            for path in made:
                path.rmdir()


def is_held(folder: Path) -> bool:
    """Whether a run writes into the folder at this moment; changes nothing."""
    if not (folder / LOCK_FILE).is_file():
        return False
    lock = FileLock(folder / LOCK_FILE, timeout=0)
    try:
        lock.acquire()
    except (Timeout, OSError):
        return True
    lock.release()
    return False


def require_free(folder: Path) -> None:
    """Refuse a folder that a run writes into at this moment; changes nothing.

    Raises:
        FolderInUseError: With the holder's host and process.
    """
    if is_held(folder):
        raise FolderInUseError(_words(folder))


def wait_until_free(folder: Path, seconds: float) -> None:
    """Wait for the run that writes into a folder, so many seconds at most.

    Raises:
        FolderInUseError: If it still does.
    """
    until = time.monotonic() + seconds
    while is_held(folder) and time.monotonic() < until:
        time.sleep(0.2)
    require_free(folder)


def _words(folder: Path, instead: str = ANOTHER) -> str:
    try:
        holder = json.loads((folder / HOLDER_FILE).read_text())
        who = f"process {holder['process']} on {holder['host']} (since {holder['since']})"
    except (OSError, ValueError, KeyError, TypeError):
        who = "another process"
    return f"{folder} is being written to by {who}: wait for it or stop it{instead}"
