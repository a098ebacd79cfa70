"""How far prompts that were not named have moved, against two seeds of the model before."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from dataunlearn.metrics.distribution import kid
from dataunlearn.metrics.embedders import Embedder
from dataunlearn.metrics.intervals import mean_interval
from dataunlearn.metrics.pixel_distance import pixel_distances
from dataunlearn.metrics.result import Result

MIN_KID_SAMPLES = 50
YARDSTICK = "_of_another_seed"


def compare_unnamed(
    before: Tensor, after: Tensor, another_seed: Tensor, embedder: Embedder | None
) -> list[Result]:
    """Drift of paired samples, and the same between two seeds of the model before.

    What is as if nothing had happened is no farther from before than the second seed is.

    Args:
        before: Samples ``(N, C, H, W)`` in [-1, 1] of the model before.
        after: Samples of the model after, from the same noise and prompts.
        another_seed: Samples of the model before from other noise, of the same prompts.
        embedder: For similarity and, from 50 samples on, KID; None leaves them out.

    Returns:
        ``drift``, ``unnamed_similarity`` and ``unnamed_kid``, each with its yardstick, whose name
        ends in ``_of_another_seed``.
    """
    results = []
    for ending, others in (("", after), (YARDSTICK, another_seed)):
        results.append(drift(before, others, name=f"drift{ending}"))
        if embedder is None:
            continue
        results.append(similarity(embedder, before, others, name=f"unnamed_similarity{ending}"))
        if len(before) >= MIN_KID_SAMPLES:
            results.append(kid(embedder, others, before, name=f"unnamed_kid{ending}"))
    return results


def drift(before: Tensor, after: Tensor, *, name: str = "drift") -> Result:
    """Mean pixel distance between paired pictures ``(N, C, H, W)``, pixels in [0, 1]."""
    pairs = zip(before, after, strict=True)
    apart = torch.stack([pixel_distances(a[None], b[None])[0, 0] for a, b in pairs])
    return Result(name, float(apart.mean()), mean_interval(apart.numpy()), False, {}, apart)


def similarity(embedder: Embedder, before: Tensor, after: Tensor, *, name: str) -> Result:
    """Mean cosine similarity of paired pictures' embeddings, in [-1, 1]."""
    alike = cosine_similarity(embedder(before), embedder(after), dim=1)
    settings = dict(embedder.settings)
    return Result(name, float(alike.mean()), mean_interval(alike.numpy()), True, settings, alike)
