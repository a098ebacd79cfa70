"""Grids of small pictures as Pillow images and PNG files."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from dataunlearn.runtime.files import write_atomically

Images = NDArray[np.uint8]

PIXEL_ART_LIMIT = 64
"""Pictures up to this width, in pixels, are enlarged by whole factors and never smoothed."""

LARGE_TILE_PIXELS = 120
"""Wider pictures are reduced to this width in the report's grids."""

_PAPER = (255, 255, 255)
_MARK = (200, 50, 40)


@dataclass(frozen=True)
class Picture:
    """A picture inside a page.

    Attributes:
        uri: The PNG file as a ``data:`` address.
        width: Pixels across on the screen.
        pixelated: Whether the browser enlarges it without smoothing.
    """

    uri: str
    width: int
    pixelated: bool


def enlargement(width: int) -> int:
    """The whole factor that brings a picture of ``width`` pixels to about 64, at least 1."""
    return max(1, PIXEL_ART_LIMIT // width)


def check_images(images: Images, name: str = "images") -> None:
    """Raise unless ``images`` is a uint8 array ``(N, H, W, C)`` with 1 or 3 channels.

    Raises:
        ValueError: If the dtype or the shape differs; the message says what was found.
    """
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] not in (1, 3):
        raise ValueError(
            f"{name} must be uint8 of shape (N, H, W, C) with C = 1 or 3, "
            f"got {images.dtype} of shape {images.shape}"
        )


def distinct(images: Images) -> Images:
    """``images`` ``(N, H, W, C)`` without repetitions, in order of first appearance."""
    first: dict[bytes, int] = {}
    for index, image in enumerate(images):
        first.setdefault(image.tobytes(), index)
    return images[list(first.values())]


def count_as_copies(images: Images, originals: Images, threshold: float) -> NDArray[np.bool_]:
    """Which images lie within a pixel distance of one of the originals.

    Args:
        images: ``(N, H, W, C)`` uint8.
        originals: ``(M, H, W, C)`` uint8, the pictures to look for.
        threshold: L2 distance over all pixels, each in [0, 1].

    Returns:
        ``(N,)`` bool.
    """
    copies = np.zeros(len(images), dtype=np.bool_)
    flat = images.reshape(len(images), -1).astype(np.float32) / 255  # (N, D)
    for original in originals.reshape(len(originals), -1).astype(np.float32) / 255:
        copies |= np.linalg.norm(flat - original, axis=1) < threshold
    return copies


def shrink(images: Images, width: int) -> Images:
    """``images`` ``(N, H, W, C)`` reduced to ``width`` pixels across; narrower ones unchanged."""
    _, height, old_width, _ = images.shape
    if old_width <= width or not len(images):
        return images
    size = (width, max(1, round(height * width / old_width)))
    small = [np.asarray(_tile(image).resize(size, Image.Resampling.LANCZOS)) for image in images]
    return np.stack(small)


def make_grid(
    images: Images,
    columns: int = 8,
    scale: int | None = None,
    marked: NDArray[np.bool_] | None = None,
) -> Image.Image:
    """Lay pictures out in rows on white.

    Args:
        images: ``(N, H, W, C)`` uint8 with C = 1 or 3, N at least 1.
        columns: Pictures in a row; fewer pictures make a narrower grid.
        scale: Whole factor by which each pixel is enlarged; None chooses `enlargement`.
        marked: ``(N,)`` bool, the pictures that get a red frame.

    Returns:
        An RGB picture.

    Raises:
        ValueError: If the images have another dtype or shape, there are none, or ``columns`` or
            ``scale`` is below 1.
    """
    check_images(images)
    num_images, height, width, _ = images.shape
    scale = enlargement(width) if scale is None else scale
    if num_images == 0 or columns < 1 or scale < 1:
        raise ValueError(
            "a grid needs at least one image, one column and a scale of 1 or more, got "
            f"{num_images} images, {columns} columns, scale {scale}"
        )
    columns = min(columns, num_images)
    gap = max(2, width // 14)
    frame = 0 if marked is None else gap // 2
    grid = _sheet(images, columns, gap, frame)
    for index in np.flatnonzero([] if marked is None else marked):
        row, column = divmod(int(index), columns)
        left, top = column * (width + gap), row * (height + gap)
        box = (left, top, left + width + 2 * frame - 1, top + height + 2 * frame - 1)
        ImageDraw.Draw(grid).rectangle(box, outline=_MARK, width=frame)
    return grid.resize((grid.width * scale, grid.height * scale), Image.Resampling.NEAREST)


def png_bytes(image: Image.Image) -> bytes:
    """``image`` as a PNG file in memory."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def grid_columns(width: int) -> int:
    """How many pictures of ``width`` pixels stand side by side in a grid of the report."""
    return 8 if width <= PIXEL_ART_LIMIT else 4


def embed(
    images: Images, columns: int = 0, marked: NDArray[np.bool_] | None = None, enlarged: int = 1
) -> Picture:
    """A grid of pictures ``(N, H, W, C)`` for a page, about 550 pixels wide when it is full.

    Args:
        images: ``(N, H, W, C)`` uint8.
        columns: Pictures in a row; 0 chooses `grid_columns`.
        marked: ``(N,)`` bool, the pictures that get a red frame.
        enlarged: Makes the whole grid larger by this factor.
    """
    width = images.shape[2]
    pixelated = width <= PIXEL_ART_LIMIT
    small = shrink(images, LARGE_TILE_PIXELS * enlarged)
    grid = make_grid(small, columns or grid_columns(width), scale=1, marked=marked)
    factor = enlargement(width) * enlarged if pixelated else 1
    return embed_png(png_bytes(grid), grid.width * factor, pixelated)


def embed_png(png: bytes, width: int, pixelated: bool) -> Picture:
    """A PNG file for a page, ``width`` pixels wide on the screen."""
    uri = "data:image/png;base64," + base64.b64encode(png).decode("ascii")
    return Picture(uri, width, pixelated)


def save_grid(images: Images, path: Path, columns: int = 8, scale: int | None = None) -> None:
    """Write a grid of pictures as a PNG file, whole or not at all.

    Args:
        images: ``(N, H, W, C)`` uint8 with C = 1 or 3.
        path: The file to write; its folder is made if it is missing.
        columns: Pictures in a row.
        scale: Whole factor by which each pixel is enlarged; None brings small pictures to about 64
            pixels and leaves larger ones as they are.

    Raises:
        ValueError: As `make_grid` does.
        DiskFullError: If there is no room; a file that was there stays.
    """
    write_atomically(Path(path), png_bytes(make_grid(images, columns, scale)))


def _sheet(images: Images, columns: int, gap: int, border: int) -> Image.Image:
    num_images, height, width, _ = images.shape
    rows = -(-num_images // columns)
    size = (
        columns * (width + gap) - gap + 2 * border,
        rows * (height + gap) - gap + 2 * border,
    )
    sheet = Image.new("RGB", size, _PAPER)
    for index, image in enumerate(images):
        row, column = divmod(index, columns)
        sheet.paste(_tile(image), (border + column * (width + gap), border + row * (height + gap)))
    return sheet


def _tile(image: Images) -> Image.Image:
    rgb = np.repeat(image, 3, axis=2) if image.shape[2] == 1 else image  # (H, W, 3)
    return Image.fromarray(np.ascontiguousarray(rgb))
