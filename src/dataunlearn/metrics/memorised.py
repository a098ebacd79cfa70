"""Memorised fraction: samples sorted into two clusters, memorised or not (Alberti et al. 2025).

A model that has memorised what a prompt calls for draws either that picture or something else. Two
clusters are fitted to samples of the original model, on raw pixels; samples of the unlearned model
are then counted in the cluster of the memorised picture. In the paper a person said which cluster
that is; here it is the one whose centre is nearer to the original.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from dataunlearn.metrics.inputs import Inputs
from dataunlearn.metrics.intervals import wilson
from dataunlearn.metrics.measure import Measure
from dataunlearn.metrics.result import Result


@dataclass(frozen=True, eq=False)
class MemorisedClassifier:
    """Two cluster centres.

    Attributes:
        centres: ``(2, D)``, the memorised picture's first.
        gap: Distance between them over the samples' mean distance to their own centre; below
            about 1 there are no two kinds of samples, and the classifier says nothing.
        shape: ``(C, H, W)``.
    """

    centres: Tensor
    gap: float
    shape: tuple[int, ...]

    def __call__(self, samples: Tensor) -> Tensor:
        """Which samples ``(N, C, H, W)`` are memorised, ``(N,)`` bool.

        Raises:
            ValueError: If their shape is not that of the pictures it was fitted on.
        """
        if tuple(samples.shape[1:]) != self.shape:
            raise ValueError(
                f"samples of shape {tuple(samples.shape[1:])} for clusters of {self.shape}"
            )
        return torch.cdist(samples.flatten(1), self.centres).argmin(dim=1) == 0


def fit_memorised(samples: Tensor, original: Tensor, *, seed: int = 0) -> MemorisedClassifier:
    """Fit two clusters to the original model's samples.

    Args:
        samples: ``(N, C, H, W)`` in [-1, 1], at least 2 different ones; the paper takes 128.
        original: The memorised image ``(C, H, W)``.
        seed: Seed of the initial centres.

    Raises:
        ValueError: If there are fewer than two different samples.
    """
    from sklearn.cluster import KMeans

    flat = samples.flatten(1).float()
    if not (flat != flat[:1]).any():
        raise ValueError(f"{len(samples)} samples, all alike: two clusters need different ones")
    fitted = KMeans(n_clusters=2, n_init=10, random_state=seed).fit(flat.numpy())
    centres = torch.from_numpy(fitted.cluster_centers_).float()
    nearer = torch.cdist(original.flatten()[None].float(), centres)[0].argsort()
    centres = centres[nearer]
    spread = float(torch.cdist(flat, centres).min(dim=1).values.mean())
    gap = float((centres[0] - centres[1]).norm()) / max(spread, 1e-12)
    return MemorisedClassifier(centres, gap, tuple(samples.shape[1:]))


def memorised_fraction(
    classifier: MemorisedClassifier, samples: Tensor, *, name: str = "memorised_fraction"
) -> Result:
    """Share of samples in the memorised picture's cluster, with its Wilson interval.

    Raises:
        ValueError: If there are no samples.
    """
    if not len(samples):
        raise ValueError("there are no samples to classify")
    found = classifier(samples)
    count = int(found.sum())
    settings = {"clusters": 2, "gap": classifier.gap, "num_samples": len(samples)}
    return Result(name, count / len(samples), wilson(count, len(samples)), False, settings, found)


@dataclass(frozen=True)
class MemorisedFraction(Measure):
    """Share of samples in the memorised one of two clusters of the earlier model's samples."""

    needs: ClassVar[tuple[str, ...]] = ("forget", "before")
    looks_at: ClassVar[tuple[str, ...]] = ("samples", "samples_before")

    def __call__(self, inputs: Inputs) -> list[Result]:
        """One share for each forget image."""
        results = []
        for index, original in enumerate(inputs.originals):
            fitted = fit_memorised(inputs.samples_before, original, seed=inputs.seed)
            name = f"memorised_fraction_{index}" if index else "memorised_fraction"
            results.append(memorised_fraction(fitted, inputs.samples, name=name))
        return results
