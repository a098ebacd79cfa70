"""A table of digests: 33 bytes a picture, however many there are."""

from __future__ import annotations

import numpy as np

SIZE = 32  # bytes of a SHA-256


class DigestTable:
    """SHA-256 digests by position, as far as they are known.

    Args:
        count: How many positions there are.
    """

    def __init__(self, count: int) -> None:
        self._bytes = np.zeros((count, SIZE), dtype=np.uint8)
        self._known = np.zeros(count, dtype=bool)

    def __contains__(self, index: int) -> bool:
        return bool(self._known[index])

    def __len__(self) -> int:
        """How many are known."""
        return int(self._known.sum())

    def __getitem__(self, index: int) -> str:
        """A known digest, hexadecimal.

        Raises:
            KeyError: If it is not known.
        """
        if index not in self:
            raise KeyError(index)
        digest: bytes = self._bytes[index].tobytes()
        return digest.hex()

    def __setitem__(self, index: int, digest: bytes) -> None:
        self._bytes[index] = np.frombuffer(digest, dtype=np.uint8)
        self._known[index] = True
