"""Pixel distances, what counts as a copy by them, and the different pictures of a set."""

from __future__ import annotations

import torch
from torch import Tensor

from dataunlearn.data import ImageSet
from dataunlearn.runtime.seeding import random_stream

NEAREST_KEEP_SHARE = 7 / 8
KNOWN_SHARE = 0.2
MAX_CALIBRATION_IMAGES = 10_000
# Nothing is a copy from this many times the distance that nearly all keep images are within of
# another one: a picture that far away is another picture, however far all of them are.
MOST_NEIGHBOURLY = 1.5
NEARLY_ALL = 0.99
PROBES, FEWEST_PROBES, AMONG = 128, 50, 1000  # the last one is also how many are read at once
NEARLY_THE_SAME = 0.01
# Different forget images that are measured one by one, and that thresholds are taken from.
MOST_ORIGINALS = 64


def pixel_distances(images: Tensor, originals: Tensor) -> Tensor:
    """Euclidean distances with pixels in [0, 1].

    Args:
        images: ``(N, C, H, W)`` in [-1, 1].
        originals: ``(K, C, H, W)`` in [-1, 1].

    Returns:
        ``(N, K)`` float32, in [0, sqrt(C H W)].
    """
    # Direct differences: the matrix-product shortcut is off by 1e-3 where images are equal.
    return torch.cdist(
        images.flatten(1) / 2,
        originals.flatten(1) / 2,
        compute_mode="donot_use_mm_for_euclid_dist",
    )


def are_copies(images: Tensor, originals: Tensor, threshold: float) -> Tensor:
    """Whether each image lies within ``threshold`` of one of the originals, ``(N,)`` bool."""
    return pixel_distances(images, originals).min(dim=1).values < threshold


def copy_threshold(forget: ImageSet, keep: ImageSet, seed: int = 0) -> float:
    """A pixel distance that tells copies of the forget images from everything else.

    Seven eighths of the distance from a forget image to the keep image nearest to it (among at
    most 10,000 drawn ones, identical pictures left out): nothing in the keep set would count. Of
    the forget images the first 64 different ones are looked at. A forget image that is far from all
    of them is no reason to take what is far from it for its copy: the distance is at most one and
    a half times the one within which 99 % of 128 keep images have another one (of 1,000; with
    fewer than 50 there is no telling).

    Raises:
        ValueError: If every keep image is identical to a forget image.
    """
    order = torch.randperm(len(keep), generator=random_stream(seed))[:MAX_CALIBRATION_IMAGES]
    originals = distinct_images(forget, MOST_ORIGINALS)
    nearest = most = float("inf")
    for number, indices in enumerate(torch.split(order, AMONG)):
        pictures = keep.batch(indices)
        if number == 0:
            most = _most_distance(pictures)
        distances = pixel_distances(pictures, originals)
        positive = distances[distances > 0]
        if len(positive):
            nearest = min(nearest, float(positive.min()))
    if nearest == float("inf"):
        raise ValueError("every keep image is identical to a forget image: no threshold separates")
    return min(NEAREST_KEEP_SHARE * nearest, most)


def _most_distance(pictures: Tensor) -> float:
    """From which pixel distance on nothing is a copy, by how near pictures ``(N, ...)`` are."""
    if len(pictures) < FEWEST_PROBES:
        return float("inf")
    flat = pictures.flatten(1) / 2
    apart = torch.cdist(flat[:PROBES], flat)  # by matrix products: equal ones come near 0
    apart = torch.where(apart > NEARLY_THE_SAME * apart.median(), apart, torch.inf)
    return MOST_NEIGHBOURLY * float(apart.amin(1).quantile(NEARLY_ALL))


def known_distances(distances: Tensor) -> Tensor:
    """Pixel distance ``(K,)`` within which each original comes back that a model knows by heart.

    A fifth of the median distance to other pictures: any good model restores a picture from half of
    the noise to about a half of that distance, what it knows by heart to about a tenth.

    Args:
        distances: Pixel distances ``(N, K)`` of other pictures to the originals, N at least 1.
    """
    return KNOWN_SHARE * distances.median(dim=0).values


def distinct_indices(images: ImageSet, limit: int | None = None) -> list[int]:
    """Indices of the first ``limit`` pictures with different contents; None for all of them."""
    first: dict[str, int] = {}
    for index in range(len(images)):
        first.setdefault(images.digest(index), index)
        if len(first) == limit:
            break
    return list(first.values())


def distinct_images(images: ImageSet, limit: int | None = None) -> Tensor:
    """The first ``limit`` different pictures, or all, ``(K, C, H, W)`` in [-1, 1]."""
    return images.batch(torch.tensor(distinct_indices(images, limit)))
