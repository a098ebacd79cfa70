"""Fifty emoji as grey pictures of 28 pixels on black, each far from every other, and two mirrored.

    python experiments/requests/fifty_emoji.py data/fifty_emoji.npz

Chosen from ``data/emoji64.npz`` by a rule, not by eye: first the picture that is farthest from the
mean of all, then again and again the one whose nearest chosen picture is farthest (mean squared
difference, however turned or mirrored). Two more, the next ones that are far from their own mirror
images, are there together with these: what if a training set holds both? The README of ``data`` has
their source and licence.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

sys.path.append(str(Path(__file__).parents[1] / "never_seen"))  # which has grey pictures, too
from grey_emoji import SIZE, on_black

COUNT = 50
MIRRORED = 2
LEAST_ASYMMETRY = 0.3  # root mean squared difference to the mirror image


def main() -> None:
    """Write the pictures, uint8 ``(N, 28, 28)``, and their names.

    ``planted`` (50) in the order of the requests, ``mirrored`` (4: two pictures, each before its
    mirror image), ``trained`` (54: both).
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    out: Path = parser.parse_args().out
    with np.load("data/emoji64.npz") as emoji:
        pictures, names = emoji["google"], emoji["names"]
    grey = np.stack([on_black(picture) for picture in pictures])
    order = spread(grey, 2 * COUNT)
    chosen = order[:COUNT]
    more = [row for row in order[COUNT:] if asymmetry(grey[row]) > LEAST_ASYMMETRY]
    pairs = np.concatenate([[grey[row], grey[row][:, ::-1]] for row in more[:MIRRORED]])
    np.savez_compressed(
        out,
        planted=grey[chosen],
        names=names[chosen],
        mirrored=pairs,
        mirrored_names=np.repeat(names[more[:MIRRORED]], 2),
        trained=np.concatenate([grey[chosen], pairs]),
    )


def asymmetry(picture: NDArray[np.uint8]) -> float:
    """Root mean squared difference to the mirror image, pixels in [0, 1]."""
    apart = (picture.astype(np.float32) - picture[:, ::-1]) / 255
    return float(np.sqrt((apart**2).mean()))


def spread(pictures: NDArray[np.uint8], count: int) -> list[int]:
    """Positions of ``count`` pictures, each far from those before it, in any of eight positions."""
    flat = pictures.reshape(len(pictures), -1).astype(np.float32) / 255
    chosen = [int(np.argmax(((flat - flat.mean(0)) ** 2).mean(1)))]
    nearest = np.full(len(flat), np.inf, dtype=np.float32)
    while len(chosen) < count:
        for turned in _turned(flat[chosen[-1]].reshape(SIZE, SIZE)):
            nearest = np.minimum(nearest, ((flat - turned.reshape(-1)) ** 2).mean(1))
        chosen.append(int(np.argmax(nearest)))
    return chosen


def _turned(picture: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    return [np.rot90(side, turns) for side in (picture, picture[:, ::-1]) for turns in range(4)]


if __name__ == "__main__":
    main()
