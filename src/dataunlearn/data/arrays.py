"""Pictures in arrays: NumPy, torch, lists of pillow images."""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from dataunlearn.data.base import ImageSet, Indices, Pixels
from dataunlearn.data.pixels import fit_pixels, image_to_pixels
from dataunlearn.data.prompt import Prompt

READ_AROUND = 2**21  # what the system may bring in around a byte of a mapped file
MOST_IN_MEMORY = 2**26
_LAYOUTS = {
    2: (("HW", None),),
    3: (("NHW", None), ("HWC", 2), ("CHW", 0)),
    4: (("NHWC", 3), ("NCHW", 1)),
}


class ArrayImages(ImageSet):
    """Pictures held in memory.

    Args:
        pixels: uint8 ``(N, C, H, W)``; not copied, must not be changed afterwards.
        source: What names are made from: ``source[17]``.
        labels: Integer classes ``(N,)``, if any.
        captions: One prompt a picture, if any.

    Raises:
        ValueError: If ``pixels`` is not uint8 with four axes, or the lengths differ.
    """

    def __init__(
        self,
        pixels: Pixels,
        *,
        source: str = "array",
        labels: NDArray[np.integer] | None = None,
        captions: Sequence[Prompt] | None = None,
    ) -> None:
        if pixels.dtype != np.uint8 or pixels.ndim != 4:
            raise ValueError(
                f"ArrayImages takes uint8 (N, C, H, W), got {pixels.dtype} {pixels.shape}; "
                "open_images accepts other layouts and floats in [0, 1]"
            )
        if labels is not None and labels.shape != (len(pixels),):
            raise ValueError(f"{len(pixels)} images need labels ({len(pixels)},): {labels.shape}")
        if captions is not None and len(captions) != len(pixels):
            raise ValueError(f"{len(pixels)} images need as many captions, got {len(captions)}")
        self.shape = (pixels.shape[1], pixels.shape[2], pixels.shape[3])
        self._pixels = pixels.view()
        self._pixels.flags.writeable = False
        self._source = source
        self._classes, self._captions = labels, captions
        self._touched = 0  # bytes read of a mapped file since they were last let go of

    def __len__(self) -> int:
        return len(self._pixels)

    def name(self, index: int) -> str:
        """``source[index]``."""
        return f"{self._source}[{index}]"

    def pixels(self, index: int) -> Pixels:
        """A read-only view, uint8 ``(C, H, W)``."""
        found: Pixels = self._pixels[index]
        self._touch(found.nbytes)
        return found

    def label(self, index: int) -> int | None:
        """The class of a picture; None without labels."""
        return None if self._classes is None else int(self._classes[index])

    def caption(self, index: int) -> Prompt | None:
        """The prompt of a picture; None without captions."""
        return None if self._captions is None else self._captions[index]

    @cached_property
    def has_labels(self) -> bool:
        """Whether labels were given."""
        return self._classes is not None

    def _gather(self, indices: Indices) -> Pixels:
        if self._mapped is None:
            found: Pixels = self._pixels[indices]  # a copy, so the result is writable
            return found
        found = np.empty((len(indices), *self.shape), dtype=np.uint8)
        for row, index in enumerate(indices):
            found[row] = self._pixels[index]
            self._touch(READ_AROUND)
        return found

    @cached_property
    def _mapped(self) -> mmap.mmap | None:
        """The file that the pictures stay in, if they do."""
        return mapping_of(self._pixels)

    def _touch(self, num_bytes: int) -> None:
        """Let go of what was read of a mapped file, now and then: it is read again when needed."""
        if self._mapped is None or not hasattr(mmap, "MADV_DONTNEED"):
            return
        self._touched += num_bytes
        if self._touched > MOST_IN_MEMORY:
            self._mapped.madvise(mmap.MADV_DONTNEED)
            self._touched = 0


def mapping_of(array: NDArray[Any]) -> mmap.mmap | None:
    """The file that an array is a view of, if it is one."""
    memory: Any = array
    while memory is not None and not isinstance(memory, mmap.mmap):
        memory = getattr(memory, "base", None)
    return memory


def from_array(
    array: NDArray[Any],
    shape: tuple[int, int, int],
    *,
    resize: bool,
    source: str,
    labels: NDArray[np.integer] | None = None,
) -> ArrayImages:
    """An array of pictures as uint8 ``(N, C, H, W)``.

    Args:
        array: ``(N, H, W)``, ``(N, H, W, c)``, ``(N, c, H, W)``, or one picture ``(H, W)``,
            ``(H, W, c)``, ``(c, H, W)``; uint8, or floats in [0, 1] (rounded to 8 bits). Where
            several layouts are possible, the one that has the model's size, then its channels, is
            taken: of ``(3, 28, 28)`` a grey model sees three pictures, an RGB model one.
        shape: ``(C, H, W)`` of the model.
        resize: Whether pictures of another size are centre-cropped and resized.
        source: The array's name.
        labels: Classes ``(N,)``, if any.

    Raises:
        ValueError: If the values, the layout, the size or the channels do not fit.
    """
    if array.size == 0:
        raise ValueError(f"{source} has no images: its shape is {array.shape}")
    rows = _to_rows(_to_uint8(array, source), shape, source)  # (N, c, h, w)
    if rows.shape[1:] != shape:
        fitted = np.empty((len(rows), *shape), dtype=np.uint8)
        for index, row in enumerate(rows):
            try:
                fitted[index] = fit_pixels(row, shape, resize=resize)
            except ValueError as error:
                raise ValueError(f"{source}[{index}] {error}") from error
        rows = fitted
    if mapping_of(rows) is None:  # else the copy would be in memory
        rows = np.ascontiguousarray(rows)
    return ArrayImages(rows, source=source, labels=labels)


def from_tensor(tensor: Tensor, shape: tuple[int, int, int], *, resize: bool) -> ArrayImages:
    """A torch tensor of pictures as uint8; see :func:`from_array`."""
    on_cpu = tensor.detach().cpu()
    array = on_cpu.float() if on_cpu.dtype == torch.bfloat16 else on_cpu  # NumPy has no bfloat16
    return from_array(array.numpy(), shape, resize=resize, source="tensor")


def from_pillow(
    images: Sequence[Image.Image], shape: tuple[int, int, int], *, resize: bool
) -> ArrayImages:
    """Pillow images as uint8 ``(N, C, H, W)``.

    Raises:
        ValueError: If there is none, or one does not fit; the message says which.
    """
    if not images:
        raise ValueError("the list of images is empty")
    rows = np.empty((len(images), *shape), dtype=np.uint8)
    for index, image in enumerate(images):
        try:
            rows[index] = fit_pixels(image_to_pixels(image), shape, resize=resize)
        except (ValueError, OSError) as error:
            raise ValueError(f"image[{index}] {error}") from error
    return ArrayImages(rows, source="image")


def _to_uint8(array: NDArray[Any], source: str) -> Pixels:
    if array.dtype == np.uint8:
        return array
    if array.dtype.kind == "O":
        raise ValueError(f"{source} holds Python objects; give one uint8 array of equal pictures")
    if array.dtype.kind != "f":
        raise ValueError(f"{source} is {array.dtype}; convert it to uint8 or to floats in [0, 1]")
    lowest, highest = float(array.min()), float(array.max())
    if np.isnan(lowest) or np.isnan(highest):
        raise ValueError(f"{source} holds NaN; remove or repair these images")
    if lowest < 0.0 or highest > 1.0:
        raise ValueError(
            f"{source} has floats from {lowest:g} to {highest:g}; convert it to uint8 or to floats "
            "in [0, 1]"
        )
    in_bytes: Pixels = np.rint(array.astype(np.float32, copy=False) * np.float32(255)).astype(
        np.uint8
    )
    return in_bytes


def _to_rows(array: Pixels, shape: tuple[int, int, int], source: str) -> Pixels:
    """A view ``(N, c, h, w)`` in the layout found."""
    num_channels, size = shape[0], shape[1:]
    plausible: list[tuple[str, Pixels]] = []
    for layout, channel_axis in _LAYOUTS.get(array.ndim, ()):
        view = array if "N" in layout else array[None]
        view = view[:, None] if channel_axis is None else view
        view = np.moveaxis(view, -1, 1) if layout.endswith("C") else view
        fits_channels = view.shape[1] in (1, 2, 3, 4, num_channels)
        if fits_channels and (view.shape[2:] == size or min(view.shape[2:]) > 4):
            plausible.append((layout, view))
    of_size = [item for item in plausible if item[1].shape[2:] == size] or plausible
    chosen = [item for item in of_size if item[1].shape[1] == num_channels] or of_size
    shapes = {view.shape for _, view in chosen}
    if len(shapes) == 1:
        return chosen[0][1]
    found = f"could be any of {', '.join(name for name, _ in chosen)}" if chosen else "is no layout"
    raise ValueError(
        f"{source} of shape {array.shape} {found}; give (N, H, W), (N, H, W, C) or (N, C, H, W)"
    )
