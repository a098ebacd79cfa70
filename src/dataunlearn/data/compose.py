"""Image sets made of other image sets: a choice of pictures, or several sets in a row."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from dataunlearn.data.base import ImageSet, Indices, Pixels
from dataunlearn.data.prompt import Prompt


class SubsetImages(ImageSet):
    """Chosen pictures of another set, in the order given.

    Args:
        base: The set to choose from.
        indices: Positions in ``base``; they may repeat (606 copies of one picture).

    Raises:
        IndexError: If an index is out of range.
    """

    def __init__(self, base: ImageSet, indices: Sequence[int] | Tensor | Indices) -> None:
        self.base = base
        self.shape = base.shape
        self.lazy = base.lazy
        self.remarks = base.remarks
        self.indices = base._to_numpy(torch.as_tensor(indices, dtype=torch.int64).reshape(-1))

    def __len__(self) -> int:
        return len(self.indices)

    def name(self, index: int) -> str:
        """The name that the picture has in the base set."""
        return self.base.name(int(self.indices[index]))

    def pixels(self, index: int) -> Pixels:
        """One picture, uint8 ``(C, H, W)``."""
        return self.base.pixels(int(self.indices[index]))

    def label(self, index: int) -> int | None:
        """The class of a picture; None where it has none."""
        return self.base.label(int(self.indices[index]))

    def caption(self, index: int) -> Prompt | None:
        """The caption that the picture has in the base set."""
        return self.base.caption(int(self.indices[index]))

    def digest(self, index: int) -> str:
        """The base set's digest, so that copies are decoded once."""
        return self.base.digest(int(self.indices[index]))

    def check(self, index: int) -> None:
        """Check the picture in the base set."""
        self.base.check(int(self.indices[index]))

    def _num_undecoded(self) -> int:
        if not self.lazy:
            return 0
        return sum(index not in self.base._digests for index in np.unique(self.indices).tolist())

    def _gather(self, indices: Indices) -> Pixels:
        return self.base._gather(self.indices[indices])


class ConcatImages(ImageSet):
    """Several sets one after another.

    Args:
        sets: At least one set, all of the same shape.

    Raises:
        ValueError: If there is no set, or the shapes differ.
    """

    def __init__(self, sets: Sequence[ImageSet]) -> None:
        shapes = {images.shape for images in sets}
        if len(shapes) != 1:
            raise ValueError(f"ConcatImages takes sets of one shape, got {sorted(shapes)}")
        self.sets = tuple(sets)
        self.shape = shapes.pop()
        self.lazy = any(images.lazy for images in sets)
        self.remarks = tuple(dict.fromkeys(text for images in sets for text in images.remarks))
        self._ends = np.cumsum([len(images) for images in sets])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def name(self, index: int) -> str:
        """The name that the picture has in its own set."""
        images, position = self._locate(index)
        return images.name(position)

    def pixels(self, index: int) -> Pixels:
        """One picture, uint8 ``(C, H, W)``."""
        images, position = self._locate(index)
        return images.pixels(position)

    def label(self, index: int) -> int | None:
        """The class of a picture; None where it has none."""
        images, position = self._locate(index)
        return images.label(position)

    def caption(self, index: int) -> Prompt | None:
        """The caption that the picture has in its own set."""
        images, position = self._locate(index)
        return images.caption(position)

    def digest(self, index: int) -> str:
        """The digest from the picture's own set."""
        images, position = self._locate(index)
        return images.digest(position)

    def check(self, index: int) -> None:
        """Check the picture in its own set."""
        images, position = self._locate(index)
        images.check(position)

    @cached_property
    def has_labels(self) -> bool:
        """Whether every set has labels."""
        return all(images.has_labels for images in self.sets)

    def _num_undecoded(self) -> int:
        return sum(images._num_undecoded() for images in self.sets)

    def _locate(self, index: int) -> tuple[ImageSet, int]:
        if not 0 <= index < len(self):
            raise IndexError(f"image index {index} out of range for {len(self)} images")
        which = int(np.searchsorted(self._ends, index, side="right"))
        starts_at = int(self._ends[which]) - len(self.sets[which])
        return self.sets[which], index - starts_at

    def _gather(self, indices: Indices) -> Pixels:
        which = np.searchsorted(self._ends, indices, side="right")
        found = np.empty((len(indices), *self.shape), dtype=np.uint8)
        for number, images in enumerate(self.sets):
            rows = np.flatnonzero(which == number)
            starts_at = int(self._ends[number]) - len(images)
            found[rows] = images._gather(indices[rows] - starts_at)
        return found
