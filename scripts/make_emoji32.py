"""Make data/emoji32.npz: pictures of 32 pixels for the unconditional experiment at small scale.

    npm pack emoji-datasource-google@16.0.0 && tar xzf emoji-datasource-google-16.0.0.tgz
    python scripts/make_emoji32.py --package package --out data/emoji32.npz

The file holds uint8 pictures (N, 32, 32, 3) on white: `train` (1000), `held_out` (400), `planted`
(12) and `single` (6); the last two are among `train`, and the recipe repeats the planted ones.
`train_names` and so on are their Unicode names. Skin-tone variants are left out, so that hardly any
picture has a near-duplicate by nature.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIZE = 32
NUM_TRAIN, NUM_HELD_OUT, NUM_PLANTED, NUM_SINGLE = 1000, 400, 12, 6


def read_picture(path: Path) -> NDArray[np.uint8]:
    """One picture on white, (32, 32, 3)."""
    with Image.open(path) as opened:
        picture = opened.convert("RGBA")
    white = Image.new("RGBA", picture.size, "white")
    flat = Image.alpha_composite(white, picture).convert("RGB")
    return np.asarray(flat.resize((SIZE, SIZE), Image.Resampling.LANCZOS))


def main() -> None:
    """Read, choose and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--package", type=Path, required=True, help="the npm package, unpacked")
    parser.add_argument("--out", type=Path, default=Path("data/emoji32.npz"))
    arguments = parser.parse_args()
    entries = json.loads((arguments.package / "emoji.json").read_text())
    entries = sorted((e for e in entries if e["has_img_google"]), key=lambda e: e["image"])
    order = np.random.default_rng(0).permutation(len(entries))
    folder = arguments.package / "img" / "google" / "64"
    found = {}  # by content: some names share a picture
    for index in order:
        picture = read_picture(folder / entries[index]["image"])
        found.setdefault(picture.tobytes(), (picture, entries[index]["name"].lower()))
        if len(found) == NUM_TRAIN + NUM_HELD_OUT:
            break
    pictures = np.stack([picture for picture, _ in found.values()])
    names = np.array([name for _, name in found.values()])
    parts = {
        "train": slice(NUM_TRAIN),
        "held_out": slice(NUM_TRAIN, None),
        "planted": slice(NUM_PLANTED),
        "single": slice(NUM_PLANTED, NUM_PLANTED + NUM_SINGLE),
    }
    arrays = {name: pictures[part] for name, part in parts.items()}
    arrays |= {f"{name}_names": names[part] for name, part in parts.items()}
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(arguments.out, **arrays)
    print(f"{arguments.out}: {', '.join(f'{k} {v.shape}' for k, v in arrays.items())}")


if __name__ == "__main__":
    main()
