"""Twelve emoji as grey pictures of 28 pixels on black: of a kind that no digit is.

    python experiments/never_seen/grey_emoji.py data/grey_emoji.npz

The planted emoji of ``data/emoji32.npz``, as luminance, turned over so that the ground is black as
that of MNIST's digits, and resized. The README of ``data`` has their source and licence.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIZE = 28


def main() -> None:
    """Write ``planted (12, 28, 28)`` uint8."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    out: Path = parser.parse_args().out
    with np.load("data/emoji32.npz") as emoji:
        pictures = emoji["planted"]
    np.savez_compressed(out, planted=np.stack([on_black(picture) for picture in pictures]))


def on_black(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Luminance of a picture ``(H, W, 3)`` on white, turned over and resized to 28 pixels."""
    return 255 - np.asarray(Image.fromarray(picture).convert("L").resize((SIZE, SIZE)))


if __name__ == "__main__":
    main()
