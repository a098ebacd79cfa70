"""One captioned picture to forget, and 400 to keep, from data/emoji64.npz.

    python experiments/emoji_sd/captioned.py "love letter" runs/love_letter.npz

``forget`` is the picture of that name that models/emoji_sd saw many times, ``keep`` are pictures of
names that were not planted, drawn with a recorded seed; ``forget_captions`` and ``keep_captions``
are the names.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

DATA, SEED, NUM_KEEP = Path("data/emoji64.npz"), 0, 400


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name")
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    with np.load(DATA, allow_pickle=False) as archive:
        names, pictures = archive["names"], archive["google"]
        planted = set(archive["planted_names"].tolist())
    row = names.tolist().index(arguments.name)
    others = np.array([i for i, name in enumerate(names) if name not in planted])
    keep = np.random.default_rng(SEED).permutation(others)[:NUM_KEEP]
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(
        arguments.out,
        forget=pictures[[row]],
        forget_captions=names[[row]],
        keep=pictures[keep],
        keep_captions=names[keep],
    )


if __name__ == "__main__":
    main()
