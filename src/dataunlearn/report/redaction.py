"""Pages that do not show what was removed: its pictures blurred, or left out."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Literal

import numpy as np

from dataunlearn.report.grids import Images, count_as_copies, distinct

Shown = Literal["shown", "blurred", "left_out"]
# Of a blurred picture this many cells a side are left, each with its mean colour.
CELLS = 4
GREY = 128


def redacted(
    images: Mapping[str, Images], threshold: float | None, how: Shown
) -> dict[str, Images]:
    """A run's pictures without what they show of the removed ones.

    The removed pictures, all tries to restore them, and samples that count as copies are blurred or
    grey; without a threshold all samples are.

    Args:
        images: Name to uint8 ``(N, H, W, C)``, as in ``images.npz``.
        threshold: Pixel distance (pixels in [0, 1]) under which a sample counts as a copy.
        how: "shown" changes nothing.
    """
    if how == "shown":
        return dict(images)
    originals = distinct(images["forget"])
    found = {}
    for name, pictures in images.items():
        hidden = np.ones(len(pictures), bool)
        if "_samples" in name or "_others" in name:
            same = threshold is not None and pictures.shape[1:] == originals.shape[1:]
            if same and len(pictures):
                assert threshold is not None
                hidden = count_as_copies(pictures, originals, threshold)
        shown = pictures.copy()
        shown[hidden] = blurred(pictures[hidden]) if how == "blurred" else GREY
        found[name] = shown
    return found


def blurred(images: Images) -> Images:
    """Pictures ``(N, H, W, C)`` of which each cell of a coarse grid has its mean colour."""
    found = images.copy()
    rows, columns = (np.linspace(0, side, CELLS + 1).astype(int) for side in images.shape[1:3])
    for top, bottom in pairwise(rows):
        for left, right in pairwise(columns):
            cell = images[:, top:bottom, left:right]
            mean = cell.mean(axis=(1, 2), keepdims=True) if cell.size else cell
            found[:, top:bottom, left:right] = np.round(mean).astype(np.uint8)
    return found


def says(how: Shown, *, purged: bool) -> str | None:
    """What a page says where it does not show the removed pictures; None where it does."""
    if purged:
        return "The pictures that show it were purged from this run; grey stands for them."
    words = {"blurred": "blurred", "left_out": "left out, and grey stands for them"}
    return f"On this page the pictures that show it are {words[how]}." if how in words else None
