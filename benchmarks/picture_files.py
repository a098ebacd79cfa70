"""What looking through a folder of pictures costs before a run, at first and once they are known.

    python benchmarks/picture_files.py --count 5000

Photograph-sized JPEGs of noise and gradients, cropped to 64 pixels: every one is decoded, so that a
damaged one is found and none of the pictures to forget is among those to keep. Digests are kept in
a cache folder of this benchmark's own. Prints seconds and peak memory.
"""

from __future__ import annotations

import argparse
import os
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image
from rich.progress import track

from dataunlearn.data import known_files, open_images


def write_pictures(folder: Path, count: int, size: int) -> None:
    """Different pictures; writing them is no part of what is measured."""
    draw = np.random.default_rng(0)
    slope = np.linspace(0, 200, size)[:, None, None]
    for index in track(range(count), "writing pictures"):
        coarse = draw.integers(0, 56, (size // 8, size // 8, 3)).repeat(8, 0).repeat(8, 1)
        Image.fromarray((coarse + slope).astype(np.uint8)).save(folder / f"{index}.jpg")


def main() -> None:
    """Write the pictures and open them three times."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--size", type=int, default=512, help="height and width of a picture")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        os.environ["XDG_CACHE_HOME"] = place
        folder = Path(place) / "pictures"
        folder.mkdir()
        write_pictures(folder, given.count, given.size)
        time.sleep(known_files.SETTLED_NS / 1e9)
        for name in ("at first", "once they are known", "again"):
            started = time.perf_counter()
            found = len(set(open_images(folder, (3, 64, 64), resize=True).digests()))
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
            print(f"{name}: {time.perf_counter() - started:.2f} s, {found} pictures, {peak} MiB")
        cache = known_files.cache_file()
        assert cache is not None
        print(f"cache: {cache.stat().st_size / 2**20:.1f} MiB")


if __name__ == "__main__":
    main()
