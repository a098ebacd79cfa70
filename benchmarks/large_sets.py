"""What a run needs with 10,000 and with a million pictures to keep.

    python benchmarks/large_sets.py --counts 10000 1000000

Writes arrays of noise of MNIST's size to a temporary folder, and forgets the T-shirt of the shipped
model with a few steps, each in a process of its own. Prints a Markdown table: peak memory (of
mapped files what is resident), and seconds, most of which are looks at the forget image.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ASSETS = Path(__file__).parents[1] / "src" / "dataunlearn" / "assets"
BLOCK = 10_000


def write_noise(path: Path, count: int) -> None:
    """So many pictures of noise, none of them twice."""
    draw = np.random.default_rng(0)
    shape = (count, 28, 28)
    array = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
    for begin in range(0, count, BLOCK):
        rows = min(BLOCK, count - begin)
        array[begin : begin + rows] = draw.integers(0, 256, (rows, 28, 28), dtype=np.uint8)
    array.flush()


def run(keep: Path, out: Path, steps: int) -> tuple[int, float]:
    """Peak bytes and seconds of a run."""
    arguments = [
        *("unlearn", "--model", str(ASSETS / "mnist_tshirt_small"), "--device", "cpu", "--force"),
        *("--forget", str(ASSETS / "tshirt.png"), "--keep", str(keep), "--out", str(out)),
        *("--steps", str(steps), "--stop.every_steps", "0", "--evaluation.num_samples", "0"),
        *("--evaluation.regeneration_copies", "4"),
    ]
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "dataunlearn", *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _, status, usage = os.wait4(process.pid, 0)
    if os.waitstatus_to_exitcode(status) not in (0, 4, 5):
        raise SystemExit(f"the run ended with {os.waitstatus_to_exitcode(status)}")
    return usage.ru_maxrss * 1024, time.perf_counter() - started


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--counts", type=int, nargs="+", default=[10_000, 1_000_000])
    parser.add_argument("--steps", type=int, default=3)
    chosen = parser.parse_args()
    print("| pictures to keep | file | peak memory | seconds |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for count in chosen.counts:
            keep = Path(folder) / "keep.npy"
            write_noise(keep, count)
            peak, seconds = run(keep, Path(folder) / f"out_{count}", chosen.steps)
            size = keep.stat().st_size / 2**20
            print(f"| {count:,} | {size:.0f} MiB | {peak / 2**20:.0f} MiB | {seconds:.0f} |")


if __name__ == "__main__":
    main()
