"""What embedding a picture costs on this machine, by batch size.

    python benchmarks/embedding.py --embedder efficientnet_lite0

The embedder sees seeded noise of 32 pixels, resized as always; a round takes every batch size once,
and the median over rounds counts. Copy similarity, KID and FID spend nearly all of their time here.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch

from dataunlearn.metrics.embedders import open_embedder

BATCH_SIZES = (1, 4, 8, 16, 32, 64)


def main() -> None:
    """Time every batch size and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument(
        "--embedder", default="efficientnet_lite0", help="as in dataunlearn evaluate"
    )
    parser.add_argument(
        "--num_images", type=int, default=128, help="pictures a batch size is timed on"
    )
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    embedder = open_embedder(args.embedder).to(device)
    draw = torch.Generator().manual_seed(0)
    images = torch.rand(args.num_images, 3, 32, 32, generator=draw) * 2 - 1
    embedder(images[:8])
    seconds: dict[int, list[float]] = {size: [] for size in BATCH_SIZES}
    for _ in range(args.rounds):
        for size in BATCH_SIZES:
            begin = time.perf_counter()
            embedder(images, batch_size=size)
            seconds[size].append(time.perf_counter() - begin)
    print(f"{args.embedder} on {device.type}, {torch.get_num_threads()} threads\n")
    print("| pictures at a time | ms a picture |\n|---|---|")
    for size, times in seconds.items():
        print(f"| {size} | {statistics.median(times) / args.num_images * 1000:.1f} |")


if __name__ == "__main__":
    main()
