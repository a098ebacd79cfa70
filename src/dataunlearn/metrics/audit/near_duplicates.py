"""Near-duplicates: copies and close relatives of an image in a training set.

Forgetting one copy of 606 forgets nothing, so the others must be found first: equal ones by
content, the rest by an embedder.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from dataunlearn.data import ImageSet
from dataunlearn.metrics.embedders import Embedder
from dataunlearn.runtime.progress import progress_bar

BATCH_IMAGES = 256


@dataclass(frozen=True, eq=False)
class Twins:
    """The relatives of one image in a training set.

    Attributes:
        identical: Names of the pictures with the same pixels.
        similar: Names of the most similar other ones, most similar first.
        similarities: Their cosine similarities, falling, in [-1, 1].
        pictures: The similar ones, ``(N, C, H, W)`` in [-1, 1].
    """

    identical: tuple[str, ...]
    similar: tuple[str, ...]
    similarities: tuple[float, ...]
    pictures: Tensor = field(repr=False)

    def as_json(self) -> dict[str, Any]:
        """JSON values."""
        pairs = zip(self.similar, self.similarities, strict=True)
        return {
            "identical": list(self.identical),
            "similar": [{"name": name, "similarity": value} for name, value in pairs],
        }


def find_twins(
    embedder: Embedder,
    training: ImageSet,
    originals: Tensor,
    digests: Sequence[str],
    count: int,
    *,
    shown: bool = True,
) -> list[Twins]:
    """Search a training set for the relatives of some images.

    Args:
        embedder: Decides what is similar.
        training: M images.
        originals: The images ``(K, C, H, W)`` in [-1, 1].
        digests: Their hashes, as :meth:`ImageSet.digest` gives them.
        count: Most similar ones to name for each.
        shown: Whether to draw progress.
    """
    similar = _similarities(embedder, training, originals, shown)  # (M, K)
    known = training.digests()
    return [_twins_of(training, known, similar[:, k], d, count) for k, d in enumerate(digests)]


def _twins_of(
    training: ImageSet, known: Sequence[str], similar: Tensor, digest: str, count: int
) -> Twins:
    same = torch.tensor([other == digest for other in known])
    identical = tuple(training.name(row) for row in same.nonzero()[:, 0].tolist())
    ranked = similar.masked_fill(same, -2)  # below every cosine
    values, rows = torch.topk(ranked, min(count, len(training) - len(identical)))
    return Twins(
        identical,
        tuple(training.name(row) for row in rows.tolist()),
        tuple(values.tolist()),
        training.batch(rows),
    )


def _similarities(embedder: Embedder, training: ImageSet, originals: Tensor, shown: bool) -> Tensor:
    targets = functional.normalize(embedder(originals), dim=1)  # (K, D)
    parts = []
    with progress_bar("searching for near-duplicates", len(training), shown=shown) as advance:
        for rows in torch.split(torch.arange(len(training)), BATCH_IMAGES):
            vectors = functional.normalize(embedder(training.batch(rows)), dim=1)
            parts.append(vectors @ targets.T)
            advance(len(rows))
    return torch.cat(parts)
