"""Build mnist_tshirt.npz, the digits and the T-shirt, from the original IDX files.

The file holds `x` uint8 (60000, 28, 28) and `y` uint8 (60000,), the MNIST training set, and `t`
uint8 (28, 28), Fashion-MNIST training image 1 (counted from 0), the T-shirt.

    python scripts/make_mnist_tshirt.py --mnist mnist/train-images-idx3-ubyte.gz \
        --mnist-labels mnist/train-labels-idx1-ubyte.gz \
        --fashion fashion/train-images-idx3-ubyte.gz --out mnist_tshirt.npz
"""

import argparse
import gzip
import hashlib
import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

UINT8_CODE = 8
TSHIRT_INDEX = 1
# L2 distance from the T-shirt to the digits, images in [0, 1]: smallest and mean.
EXPECTED_DISTANCES = (11.4851, 14.6078)


def read_idx(path: Path) -> NDArray[np.uint8]:
    """Read an IDX file of bytes, gzipped or not.

    Args:
        path: the file; one that starts with the gzip magic number is decompressed.

    Returns:
        uint8 array of the shape that the header gives.

    Raises:
        ValueError: if the file is not an IDX file of bytes or its length is not the header's.
    """
    raw = path.read_bytes()
    if raw[:2] == b"\x1f\x8b":
        raw = gzip.decompress(raw)
    if len(raw) < 4 or raw[:2] != b"\0\0" or raw[2] != UINT8_CODE:
        raise ValueError(f"{path} is not an IDX file of bytes; give the original MNIST file")
    num_dims = raw[3]
    shape = tuple(int(n) for n in np.frombuffer(raw, ">u4", count=num_dims, offset=4))
    start = 4 + 4 * num_dims
    if len(raw) - start != math.prod(shape):
        raise ValueError(f"{path} is cut off or too long for shape {shape}; download it again")
    return np.frombuffer(raw, np.uint8, offset=start).reshape(shape)


def tshirt_distances(x: NDArray[np.uint8], t: NDArray[np.uint8]) -> tuple[float, float]:
    """Smallest and mean L2 distance from t (28, 28) to the rows of x (N, 28, 28), in [0, 1]."""
    difference = (x.astype(np.float32) - t.astype(np.float32)) / 255  # (N, 28, 28)
    distances = np.sqrt((difference.astype(np.float64) ** 2).sum(axis=(1, 2)))  # (N,)
    return float(distances.min()), float(distances.mean())


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def main() -> None:
    """Read the three files, check them against each other and write the npz."""
    parser = argparse.ArgumentParser(description="Build mnist_tshirt.npz from the IDX files.")
    parser.add_argument("--mnist", type=Path, required=True, help="train-images-idx3-ubyte[.gz]")
    parser.add_argument(
        "--mnist-labels", type=Path, required=True, help="train-labels-idx1-ubyte[.gz]"
    )
    parser.add_argument(
        "--fashion", type=Path, required=True, help="Fashion-MNIST's train-images-idx3-ubyte[.gz]"
    )
    parser.add_argument("--out", type=Path, required=True, help="npz file to write")
    args = parser.parse_args()
    x, y, fashion = (read_idx(path) for path in (args.mnist, args.mnist_labels, args.fashion))
    if x.shape != (60000, 28, 28) or y.shape != (60000,) or fashion.shape != (60000, 28, 28):
        raise ValueError(
            f"shapes are {x.shape}, {y.shape} and {fashion.shape}; give the training files "
            "(train-images, train-labels), not the test files (t10k)"
        )
    t = fashion[TSHIRT_INDEX]
    distances = tshirt_distances(x, t)
    if not np.allclose(distances, EXPECTED_DISTANCES, atol=1e-3):
        raise ValueError(
            f"distances from the T-shirt are {distances}, not {EXPECTED_DISTANCES}; give MNIST "
            "as --mnist and Fashion-MNIST as --fashion"
        )
    np.savez_compressed(args.out, x=x, y=y, t=t)
    print(f"T-shirt to digits: L2 {distances[0]:.4f} at least, {distances[1]:.4f} on average")
    print(f"{args.out}: {args.out.stat().st_size / 1e6:.1f} MB, sha256 {sha256(args.out)}")


if __name__ == "__main__":
    main()
