"""Which samples of a prompt are memorised: two clusters, and whether there are two at all.

k-means always splits, so the split is questioned before it is believed. The cluster with the higher
likeness (see :mod:`dataunlearn.prompts.evidence`) is the memorised one, if any is:

1. A likeness below 0.8: these are not copies of one picture, so nothing is memorised.
2. The clusters are two kinds of samples if the others lie at least 1.5 times as far from the
   cluster's centre as its own members do, and are less than 0.95 times as like it: then the
   clusters are the labels.
3. Otherwise there is one kind: all are memorised if all together reach 0.8, else none.

Where the others have little in common, k-means from random starts misses a cluster of copies. So it
is also started from the largest group of copies, and the split with the smaller error counts; with
the training image at hand, the first one with a memorised cluster.

Without the training image the rule does not see a few copies among two larger kinds of other
samples; it never sees copies that are shifted or cropped, and takes pictures that differ little by
nature for copies. So labels are shown, and can be corrected.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from dataunlearn.metrics.memorised import MemorisedClassifier, fit_memorised
from dataunlearn.metrics.prompt_memory import Judge
from dataunlearn.prompts.evidence import COPY_LIKENESS, Evidence, comparable, likeness, weigh

Verdict = Literal["mixed", "all memorised", "none memorised"]

BY_IMAGE = "the training image"
BY_TIGHTNESS = "the tighter cluster"
BY_HAND = "the given labels"

MIN_IMAGES = 4
_RADIUS_FACTOR = 1.5
_RADIUS_FLOOR = 0.1


@dataclass(frozen=True, eq=False)
class Labelling:
    """Samples of one prompt, sorted.

    Attributes:
        labels: Which are memorised, ``(N,)`` bool.
        decided_by: What said which cluster is the memorised one.
        memorised_cluster: Its index, 0 or 1; where none is, the one that came nearest to it.
        classifier: The two clusters, that one first.
        evidence: What spoke for it, or against it.
        radius: Largest distance of a memorised sample from the nearer centre; 0 without any.
        least_likeness: Smallest correlation of a memorised sample with the nearer centre, at most
            0.8; -1 where features were clustered.
    """

    labels: Tensor
    decided_by: str
    memorised_cluster: int
    classifier: MemorisedClassifier
    evidence: Evidence
    radius: float
    least_likeness: float

    @property
    def verdict(self) -> Verdict:
        """Whether there are both kinds of samples."""
        if self.labels.all():
            return "all memorised"
        return "mixed" if self.labels.any() else "none memorised"

    @property
    def share(self) -> float:
        """Share of memorised samples, in [0, 1]."""
        return float(self.labels.double().mean())

    @property
    def centres(self) -> Tensor:
        """Cluster centres ``(2, D)``, in the order of the cluster indices."""
        return self.classifier.centres.roll(self.memorised_cluster, dims=0)


def label_memorised(
    images: Tensor,
    *,
    training_image: Tensor | None = None,
    features: Tensor | None = None,
    seed: int = 0,
) -> Labelling:
    """Sort a prompt's samples into memorised ones and others (Alberti et al. 2025).

    Args:
        images: ``(N, C, H, W)`` in [-1, 1], N at least 4; the paper takes 128.
        training_image: ``(C, H, W)`` in [-1, 1]; decides which cluster is memorised, if given.
        features: ``(N, D)``, what is clustered; None for raw pixels, as in the paper.
        seed: Seed of the initial centres.

    Raises:
        ValueError: If there are too few images, or shapes do not fit together.
    """
    points = _points(images, features)
    pictures, reference = comparable(images), _reference(images, training_image)
    splits = _splits(points, pictures, reference, seed)
    found = [_question(points, pictures, reference, clusters) for clusters in splits]
    if reference is None:
        return found[0]
    return next((labelling for labelling in found if labelling.labels.any()), found[0])


def take_labels(images: Tensor, labels: Tensor, *, features: Tensor | None = None) -> Labelling:
    """A labelling from labels that are known, such as corrected ones; centres are their means.

    Args:
        images: ``(N, C, H, W)`` in [-1, 1], N at least 4.
        labels: Which are memorised, ``(N,)`` bool.
        features: ``(N, D)``; None for raw pixels.

    Returns:
        Cluster 1 is the memorised one; where one kind is missing both centres are the same.

    Raises:
        ValueError: If there are too few images, or shapes do not fit together.
    """
    points = _points(images, features)
    if labels.shape != images.shape[:1] or labels.dtype != torch.bool:
        raise ValueError(f"give a bool for each of the {len(images)} images as labels")
    flat = points.flatten(1)
    groups = [flat[side] if side.any() else flat for side in (labels, ~labels)]
    centres = torch.stack([group.mean(dim=0) for group in groups])
    clusters = _classifier(points, centres)
    evidence = weigh(flat, centres[0], comparable(images), labels, None)
    return Labelling(labels, BY_HAND, 1, clusters, evidence, *_reach(points, labels, clusters))


def predict(labelling: Labelling, samples: Tensor) -> Tensor:
    """Which fresh samples are memorised: nearest to the memorised centre, and like it.

    The nearest of the two centres is the published rule. It would call memorised whatever is unlike
    both, and where all first samples were memorised, everything. So a memorised sample must also be
    a copy: its correlation with the centre is 0.8 or more (or what that of the first ones was at
    least), or it lies within 1.5 times their largest distance (at least a tenth of the centre's
    norm).

    Args:
        labelling: Of samples of the original model.
        samples: ``(M, C, H, W)`` in [-1, 1], or ``(M, D)`` features if such were clustered.

    Returns:
        ``(M,)`` bool.

    Raises:
        ValueError: If the samples have another shape than those that were clustered.
    """
    points, clusters = samples.float(), labelling.classifier
    nearer = clusters(points)
    if labelling.verdict == "none memorised":
        return torch.zeros_like(nearer)
    floor = _RADIUS_FLOOR * float(clusters.centres.norm(dim=1).mean())
    within = _distances(points, clusters) <= max(_RADIUS_FACTOR * labelling.radius, floor)
    alike = _likeness_to_centre(points, clusters) >= labelling.least_likeness
    is_copy = within | alike
    return is_copy if labelling.verdict == "all memorised" else nearer & is_copy


def _question(
    points: Tensor, pictures: Tensor, reference: Tensor | None, clusters: MemorisedClassifier
) -> Labelling:
    in_first = clusters(points)
    first, second = (likeness(pictures[side], reference) for side in (in_first, ~in_first))
    chosen = int(second > first)
    inside = ~in_first if chosen else in_first
    centres = clusters.centres.roll(chosen, dims=0)
    evidence = weigh(points.flatten(1), centres[0], pictures, inside, reference)
    labels = evidence.labels(inside)
    ordered = MemorisedClassifier(centres, clusters.gap, clusters.shape)
    decided_by = BY_TIGHTNESS if reference is None else BY_IMAGE
    reach = _reach(points, labels, ordered)
    return Labelling(labels, decided_by, chosen, ordered, evidence, *reach)


def _reach(points: Tensor, labels: Tensor, clusters: MemorisedClassifier) -> tuple[float, float]:
    """How far memorised samples are from the nearer centre, and how unlike it, at most."""
    if not labels.any():
        return 0.0, COPY_LIKENESS
    memorised = points[labels]
    least = float(_likeness_to_centre(memorised, clusters).min())
    return float(_distances(memorised, clusters).max()), min(least, COPY_LIKENESS)


def _likeness_to_centre(points: Tensor, clusters: MemorisedClassifier) -> Tensor:
    """Correlation of pictures ``(N, C, H, W)`` with the nearer centre ``(N,)``; of features -1."""
    if points.ndim != 4:
        return torch.full((len(points),), -1.0)
    centres = clusters.centres.reshape(-1, *points.shape[1:])
    nearer = torch.cdist(points.flatten(1), clusters.centres).argmin(dim=1)
    return (comparable(points) * comparable(centres)[nearer]).sum(dim=1)


def _splits(
    points: Tensor, pictures: Tensor, reference: Tensor | None, seed: int
) -> list[MemorisedClassifier]:
    """Splits into two clusters by their error; one cluster twice where all points are alike."""
    from sklearn.cluster import KMeans

    if not (points != points[:1]).any():
        return [MemorisedClassifier(points[:2].flatten(1), 0.0, tuple(points.shape[1:]))]
    splits = [fit_memorised(points, points[0], seed=seed)]
    copies = _copies(pictures, reference)
    if copies.any() and not copies.all():
        flat = points.flatten(1)
        start = torch.stack([flat[side].mean(dim=0) for side in (copies, ~copies)])
        fitted = KMeans(n_clusters=2, init=start.numpy(), n_init=1).fit(flat.numpy())
        splits.append(_classifier(points, torch.from_numpy(fitted.cluster_centers_)))
    return sorted(splits, key=lambda split: float(_distances(points, split).square().sum()))


def _copies(pictures: Tensor, reference: Tensor | None) -> Tensor:
    """Copies of the reference, or the largest group of copies of one of the pictures, (N,) bool."""
    if reference is not None:
        return pictures @ reference >= COPY_LIKENESS
    alike = pictures @ pictures.T >= COPY_LIKENESS
    return alike[alike.sum(dim=1).argmax()]


def _classifier(points: Tensor, centres: Tensor) -> MemorisedClassifier:
    clusters = MemorisedClassifier(centres, 0.0, tuple(points.shape[1:]))
    spread = float(_distances(points, clusters).mean())
    gap = float((centres[0] - centres[1]).norm()) / max(spread, 1e-12)
    return MemorisedClassifier(centres, gap, clusters.shape)


def _distances(points: Tensor, clusters: MemorisedClassifier) -> Tensor:
    """Distance of each point to the nearer centre, ``(N,)``."""
    return torch.cdist(points.flatten(1), clusters.centres).min(dim=1).values


def _reference(images: Tensor, training_image: Tensor | None) -> Tensor | None:
    if training_image is None:
        return None
    if training_image.shape != images.shape[1:]:
        raise ValueError(
            f"the training image has shape {tuple(training_image.shape)}, the samples "
            f"{tuple(images.shape[1:])}: bring it to that shape"
        )
    return comparable(training_image[None])[0]


def _points(images: Tensor, features: Tensor | None) -> Tensor:
    if images.ndim != 4 or len(images) < MIN_IMAGES:
        raise ValueError(
            f"labelling needs at least {MIN_IMAGES} images (N, C, H, W), got "
            f"{tuple(images.shape)}; draw more per prompt (128 are usual)"
        )
    if features is not None and (features.ndim != 2 or len(features) != len(images)):
        raise ValueError(
            f"features must be ({len(images)}, D), a row for each image, got "
            f"{tuple(features.shape)}"
        )
    return (images if features is None else features).float()


@dataclass(frozen=True, eq=False)
class LikeLabelled(Judge):
    """Memorised is what falls into the memorised one of two labelled clusters.

    Args:
        labelling: Of the original model's samples of the prompt, clustered by their pixels.
    """

    labelling: Labelling

    def __call__(self, samples: Tensor) -> Tensor:
        """Those nearer to the memorised centre; see :func:`dataunlearn.prompts.labels.predict`."""
        return predict(self.labelling, samples)
