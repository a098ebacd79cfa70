"""The one interface to pictures: an indexed set of uint8 images, all of the model's shape."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from torch import Tensor

from dataunlearn.data.digests import DigestTable
from dataunlearn.data.prompt import Prompt

LOCAL_FORMS = (
    "a folder of images, one image file, .npy, .npz, or a folder written by Dataset.save_to_disk"
)

Pixels = NDArray[np.uint8]
Indices = NDArray[np.int64]

_PROGRESS_FROM_DECODES = 2_000


class ImageSet(ABC):
    """An indexed set of pictures, all of one shape.

    A subclass gives ``shape``, ``__len__``, :meth:`name`, :meth:`pixels` and :meth:`label`;
    everything else follows from these. Sets are read-only: digests are cached on first use.

    Attributes:
        shape: ``(C, H, W)`` of every picture.
        lazy: Whether :meth:`pixels` has to decode a file (and is therefore slow).
        remarks: Where captions come from, and what was left out of the source, in words.
    """

    shape: tuple[int, int, int]
    lazy: bool = False
    remarks: tuple[str, ...] = ()

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def name(self, index: int) -> str:
        """Where a picture comes from: a file path, or ``digits.npz[17]``."""

    @abstractmethod
    def pixels(self, index: int) -> Pixels:
        """One picture, uint8 ``(C, H, W)``.

        Raises:
            ValueError: If the picture cannot be read or does not fit ``shape``.
        """

    @abstractmethod
    def label(self, index: int) -> int | None:
        """The class of a picture; None where it has none."""

    def caption(self, index: int) -> Prompt | None:
        """The prompt that belongs to a picture; None where there is none."""
        return None

    def different_captions(self) -> list[Prompt]:
        """The captions there are, each once, in index order."""
        found = (self.caption(index) for index in range(len(self)))
        return list(dict.fromkeys(text for text in found if text is not None))

    def described(self) -> str:
        """How many pictures there are, and the remarks."""
        return "; ".join([f"{len(self)} images", *self.remarks])

    @cached_property
    def has_labels(self) -> bool:
        """Whether every picture has a class."""
        return all(self.label(index) is not None for index in range(len(self)))

    def batch(self, indices: Tensor) -> Tensor:
        """Pictures in the model's range.

        Args:
            indices: Integers ``(B,)`` in [0, len); they may repeat.

        Returns:
            float32 ``(B, C, H, W)`` on the CPU, ``uint8 / 127.5 - 1``, so in [-1, 1].

        Raises:
            IndexError: If an index is out of range.
        """
        gathered = self._gather(self._to_numpy(indices))  # (B, C, H, W) uint8
        return torch.from_numpy(gathered).to(torch.float32).div_(127.5).sub_(1.0)

    def labels(self, indices: Tensor) -> Tensor | None:
        """Classes, int64 ``(B,)``; None for a set without labels.

        Raises:
            IndexError: If an index is out of range.
        """
        if not self.has_labels:
            return None
        found = [self.label(int(index)) for index in self._to_numpy(indices)]
        return torch.tensor(found, dtype=torch.int64)

    def digest(self, index: int) -> str:
        """The SHA-256 (hexadecimal) over the shape and the pixels of one picture."""
        if index not in self._digests:
            content = hashlib.sha256(np.asarray(self.shape, dtype="<i8").tobytes())
            content.update(np.ascontiguousarray(self.pixels(index)).tobytes())
            self._digests[index] = content.digest()
        return self._digests[index]

    def digests(self) -> list[str]:
        """All digests in index order; shows progress when many files must be decoded."""
        indices = track(
            range(len(self)),
            description="Hashing images",
            console=Console(stderr=True),
            transient=True,
            disable=self._num_undecoded() <= _PROGRESS_FROM_DECODES,
        )
        return [self.digest(index) for index in indices]

    def check(self, index: int) -> None:
        """Decode one picture and cache its digest.

        Raises:
            ValueError: If the picture cannot be read or does not fit ``shape``.
        """
        self.digest(index)

    def _num_undecoded(self) -> int:
        """How many files :meth:`digests` still has to decode."""
        return len(self) - len(self._digests) if self.lazy else 0

    @cached_property
    def _digests(self) -> DigestTable:
        return DigestTable(len(self))

    def _gather(self, indices: Indices) -> Pixels:
        """Pictures, uint8 ``(B, C, H, W)``; a repeated index is decoded once."""
        unique, back = np.unique(indices, return_inverse=True)
        found = np.empty((len(unique), *self.shape), dtype=np.uint8)
        for row, index in enumerate(unique):
            found[row] = self.pixels(int(index))
        return found[back]

    def _to_numpy(self, indices: Tensor) -> Indices:
        positions: Indices = indices.detach().cpu().numpy().astype(np.int64, copy=False)
        if positions.size and (positions.min() < 0 or positions.max() >= len(self)):
            raise IndexError(
                f"image index out of range: got {positions.min()}..{positions.max()}, "
                f"the set has {len(self)} images"
            )
        return positions
