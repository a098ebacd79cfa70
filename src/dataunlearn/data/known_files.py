"""Digests of picture files that an earlier command decoded, found again by the files' identity.

Before anything is trained every picture to keep is decoded once, to see that it can be and that it
is none of those to forget. Of a hundred thousand photographs that takes minutes, and each command
would pay them anew. A file whose path, size, inode and times of modification and of change are
those of last time holds the same bytes; what its pixels hash to is kept in the user's cache folder.
Neither paths nor pictures are: a key is a hash, and of pictures to forget nothing is kept.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
import time
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import PIL

from dataunlearn.data.digests import SIZE, DigestTable

FORMAT = 1  # to be raised when the same file would give other pixels
CACHED_FROM = 500  # pictures; fewer are decoded in a moment
SETTLED_NS = 2 * 10**9  # a file that was just written may be written again within a tick
KEPT_DAYS, DAY = 90, 86_400
KEY_SIZE, PATIENCE = 16, 5.0

_TABLE = (
    "CREATE TABLE IF NOT EXISTS digests "
    "(key BLOB PRIMARY KEY, digest BLOB NOT NULL, used INTEGER NOT NULL) WITHOUT ROWID"
)


def cache_file() -> Path | None:
    """``dataunlearn/digests.sqlite`` in the user's cache folder; None for a user without a home."""
    home = os.path.expanduser("~")
    root = os.environ.get("XDG_CACHE_HOME") or os.path.join(home, ".cache")
    return Path(root) / "dataunlearn" / "digests.sqlite" if os.path.isabs(root) else None


class KnownFiles:
    """What is known of picture files from earlier.

    A cache that cannot be read or written is done without: pictures are then decoded.

    Args:
        paths: The files.
        how: What else the pixels follow from: the shape, whether they are resized.
        file: Where digests are kept.
    """

    def __init__(self, paths: Sequence[Path], how: object, file: Path) -> None:
        self.paths, self.file = paths, file
        self._how = repr((FORMAT, PIL.__version__, how))
        self._keys: dict[int, bytes] = {}

    def recall(self, indices: Sequence[int], table: DigestTable) -> list[int]:
        """Fill in the digests that are known.

        Args:
            indices: Which files.
            table: Where their digests go.

        Returns:
            The files that are to be decoded.
        """
        self._keys = {
            index: key for index in indices if (key := self._key(self.paths[index])) is not None
        }
        self._work(lambda database: self._find(database, table))
        return [index for index in indices if index not in table]

    def remember(self, indices: Sequence[int], table: DigestTable) -> None:
        """Keep the digests of files that :meth:`recall` did not find, and were decoded since."""
        today = int(time.time()) // DAY
        found = [
            (self._keys[index], _sealed(bytes.fromhex(table[index])), today)
            for index in indices
            if index in self._keys and index in table
        ]
        if not found:
            return

        def store(database: sqlite3.Connection) -> None:
            database.executemany("INSERT OR REPLACE INTO digests VALUES (?, ?, ?)", found)
            database.execute("DELETE FROM digests WHERE used < ?", (today - KEPT_DAYS,))

        self._work(store)

    def _find(self, database: sqlite3.Connection, table: DigestTable) -> None:
        for index, key in self._keys.items():
            asked = "SELECT digest FROM digests WHERE key = ?"
            digest = _checked(database.execute(asked, (key,)).fetchone())
            if digest is not None:
                table[index] = digest
        today = int(time.time()) // DAY
        known = [(today, key, today) for index, key in self._keys.items() if index in table]
        database.executemany("UPDATE digests SET used = ? WHERE key = ? AND used < ?", known)

    def _key(self, path: Path) -> bytes | None:
        """What stands for a file as it is now; None for one that may be being written."""
        try:
            status = path.stat()
        except OSError:
            return None
        if time.time_ns() - max(status.st_mtime_ns, status.st_ctime_ns) < SETTLED_NS:
            return None
        place = (os.path.abspath(path), status.st_dev, status.st_ino, status.st_size)
        facts = (*place, status.st_mtime_ns, status.st_ctime_ns, self._how)
        return hashlib.blake2b(repr(facts).encode(), digest_size=KEY_SIZE).digest()

    def _work(self, work: Callable[[sqlite3.Connection], None]) -> None:
        with contextlib.suppress(sqlite3.Error, OSError):
            self.file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with contextlib.closing(sqlite3.connect(self.file, timeout=PATIENCE)) as database:
                database.execute(_TABLE)
                work(database)
                database.commit()


def _sealed(digest: bytes) -> bytes:
    return digest + zlib.crc32(digest).to_bytes(4, "big")


def _checked(row: tuple[bytes] | None) -> bytes | None:
    """A digest as it was stored; None where there is none, or it was damaged."""
    if row is None or len(row[0]) != SIZE + 4:
        return None
    digest = bytes(row[0][:SIZE])
    return digest if _sealed(digest) == row[0] else None
