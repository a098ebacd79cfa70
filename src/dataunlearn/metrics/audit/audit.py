"""The memorisation audit: which of these images does a model know by heart?

An image counts as memorised if the model restores it from half of the noise or more in at least
half of the tries, or if one of its samples is a copy. A picture is a copy within a fifth of the
median distance between the image and others: any good model brings a picture back from half of the
noise to about a half of it, what it knows by heart to about a tenth. The membership loss and the
nearest training images stand beside it; they do not decide.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from dataunlearn.conditioning import Cond
from dataunlearn.data import ImageSet
from dataunlearn.metrics.audit.calibration import copy_thresholds
from dataunlearn.metrics.audit.config import AuditSettings
from dataunlearn.metrics.audit.near_duplicates import Twins, find_twins
from dataunlearn.metrics.embedders import embedder_for
from dataunlearn.metrics.inputs import Inputs
from dataunlearn.metrics.intervals import wilson
from dataunlearn.metrics.membership_scores import denoising_losses
from dataunlearn.metrics.membership_statistics import membership_auc
from dataunlearn.metrics.pixel_distance import distinct_indices, pixel_distances
from dataunlearn.metrics.regeneration import (
    RESTORED_SHARE,
    Regeneration,
    quarter_timesteps,
    regenerate,
)
from dataunlearn.models import DiffusionModel
from dataunlearn.models.finite import blank_samples
from dataunlearn.models.sampling import Drawing
from dataunlearn.runtime.progress import progress_bar

LOSS_SHARES = (0.2, 0.4, 0.6, 0.8)  # of the noise levels
SHOWN_TRIES = 4


@dataclass(frozen=True, eq=False)
class AuditedImage:
    """What an audit found out about one image.

    Attributes:
        name: Where it comes from.
        sha256: Hash of its shape and pixels.
        threshold: Pixel distance under which a picture counts as a copy of it.
        regeneration: Share of tries that restored it, by noise level.
        intervals: Their 95 % Wilson intervals.
        num_copies: Copies among the samples.
        nearest_distance: Pixel distance of the nearest sample; None without samples.
        loss_percentile: Share of other images, in [0, 1], whose loss is higher; None without any.
        twins: Its copies and nearest relatives among the keep images; None without any.
        pictures: ``original (1, ...)``, ``tries`` (the nearest ones) and ``sample (1 or 0, ...)``,
            each ``(N, C, H, W)`` in [-1, 1].
    """

    name: str
    sha256: str
    threshold: float
    regeneration: dict[int, float]
    intervals: dict[int, tuple[float, float]]
    num_copies: int
    nearest_distance: float | None
    loss_percentile: float | None
    twins: Twins | None
    pictures: dict[str, Tensor] = field(repr=False)

    @property
    def memorised(self) -> bool:
        """Whether the model knows it by heart."""
        restored = any(share >= RESTORED_SHARE for share in self.regeneration.values())
        return restored or self.num_copies > 0

    @property
    def why(self) -> str:
        """In words, what speaks for it being memorised, or that nothing does."""
        reasons = [
            f"restored from t = {t} in {share:.0%} of the tries"
            for t, share in self.regeneration.items()
            if share >= RESTORED_SHARE
        ]
        if self.num_copies:
            verb = "is a copy" if self.num_copies == 1 else "are copies"
            reasons.append(f"{self.num_copies} of the samples {verb}")
        return "; ".join(reasons) or "neither restored nor among the samples"

    def as_json(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "name": self.name,
            "sha256": self.sha256,
            "memorised": self.memorised,
            "threshold": self.threshold,
            "regeneration": {str(t): share for t, share in self.regeneration.items()},
            "regeneration_interval": {str(t): list(pair) for t, pair in self.intervals.items()},
            "copies_among_samples": self.num_copies,
            "nearest_sample_distance": self.nearest_distance,
            "loss_percentile": self.loss_percentile,
            "training_set": None if self.twins is None else self.twins.as_json(),
        }


def audit_images(
    model: DiffusionModel,
    images: ImageSet,
    *,
    keep: ImageSet | None = None,
    settings: AuditSettings | None = None,
    inputs: Inputs | None = None,
    shown: bool = True,
) -> list[AuditedImage]:
    """Audit each different image of a set.

    Args:
        model: The model, in eval mode.
        images: The images in question.
        keep: Training images, to calibrate on and to search for near-duplicates; may hold the
            images in question.
        settings: How hard to look.
        inputs: Where samples come from, if they are to be kept on disk.
        shown: Whether to draw progress.

    Raises:
        ValueError: If the embedder is not there, the model has no such noise levels, or it draws
            nothing, so that no image can be said not to be memorised.
    """
    chosen = settings or AuditSettings()
    if inputs is None:
        check_audit(model, chosen, has_keep=keep is not None)
        inputs = audit_inputs(model, images, keep, chosen, shown=shown)
    rows = distinct_indices(images)
    originals = images.batch(torch.tensor(rows))
    cond = model.space.conditions(images, torch.tensor(rows))
    digests = [images.digest(row) for row in rows]
    twins = _twins(inputs, originals, digests, chosen)
    samples = inputs.samples if chosen.num_samples else torch.empty(0, *model.image_shape)
    distances = pixel_distances(samples, originals)  # (N, K)
    evidence = _Evidence(
        originals,
        samples,
        distances,
        copy_thresholds(inputs, originals, distances, chosen),
        _loss_percentiles(inputs, originals, cond, chosen),
        _regenerate(inputs, originals, cond, chosen),
        twins,
    )
    found = [evidence.of(k, images.name(row), digests[k]) for k, row in enumerate(rows)]
    nothing = blank_samples(samples)
    if nothing is not None and not any(image.memorised for image in found):
        raise ValueError(
            f"{model.source}: {nothing}. Nothing that such a model draws is a copy of anything, so "
            "whether it knows these images cannot be told: give a model that draws pictures"
        )
    return found


def check_audit(model: DiffusionModel, settings: AuditSettings, *, has_keep: bool) -> None:
    """Refuse noise levels that the model does not have, and an embedder that cannot be opened.

    Raises:
        ValueError: If there are any.
    """
    if has_keep and settings.num_neighbours:
        embedder_for(model.image_shape, settings.embedder, device=model.device)
    model.process.check_timesteps(settings.timesteps, "timesteps")
    model.process.check_timesteps(settings.loss_timesteps, "loss_timesteps")


def audit_inputs(
    model: DiffusionModel,
    images: ImageSet,
    keep: ImageSet | None,
    settings: AuditSettings,
    *,
    shown: bool = True,
) -> Inputs:
    """What the audit's measures work on."""
    return Inputs(
        model,
        forget=images,
        keep=keep,
        num_samples=settings.num_samples,
        sampling_steps=settings.sampling_steps,
        max_images=10_000,
        batch_size=settings.batch_size,
        seed=settings.seed,
        shown=shown,
    )


@dataclass(frozen=True, eq=False)
class _Evidence:
    """Everything that was measured, for K images and N samples."""

    originals: Tensor  # (K, C, H, W)
    samples: Tensor  # (N, C, H, W)
    distances: Tensor  # (N, K)
    thresholds: Tensor  # (K,)
    percentiles: Tensor | None  # (K,)
    restored: Sequence[Regeneration]  # try i is of image i % K
    twins: Sequence[Twins | None]  # None without keep images

    def of(self, k: int, name: str, digest: str) -> AuditedImage:
        """The part that concerns one image."""
        num_images, threshold = len(self.originals), float(self.thresholds[k])
        shares, intervals = {}, {}
        for found in self.restored:
            near = found.distances[k::num_images] < threshold
            shares[found.timestep] = float(near.float().mean())
            intervals[found.timestep] = wilson(int(near.sum()), len(near))
        tries = torch.cat([found.images[k::num_images] for found in self.restored])
        order = torch.cat([found.distances[k::num_images] for found in self.restored]).argsort()
        own = self.distances[:, k]
        return AuditedImage(
            name,
            digest,
            threshold,
            shares,
            intervals,
            int((own < threshold).sum()),
            float(own.min()) if len(own) else None,
            None if self.percentiles is None else float(self.percentiles[k]),
            self.twins[k],
            {
                "original": self.originals[k : k + 1],
                "tries": tries[order[:SHOWN_TRIES]],
                "sample": self.samples[own.argsort()[:1]],
            },
        )


def _loss_percentiles(
    inputs: Inputs, originals: Tensor, cond: Cond | None, settings: AuditSettings
) -> Tensor | None:
    """For each image the share of keep images whose loss is higher; None without keep images."""
    if inputs.keep is None:
        return None
    others = inputs.keep_images[: settings.loss_images]
    labels = inputs.conditions("keep", settings.loss_images)
    timesteps = settings.loss_timesteps or inputs.model.process.timesteps_at(LOSS_SHARES)
    total = (len(originals) + len(others)) * len(timesteps) * settings.loss_draws
    with progress_bar("membership loss", total, shown=inputs.shown) as advance:
        losses = [
            denoising_losses(
                inputs.model,
                images,
                timesteps,
                draws=range(settings.loss_draws),
                seed=settings.seed,
                batch_size=settings.batch_size,
                cond=classes,
                progress=advance,
            ).mean(dim=1)
            for images, classes in ((originals, cond), (others, labels))
        ]
    return membership_auc(losses[0], losses[1]).per_item


def _regenerate(
    inputs: Inputs, originals: Tensor, cond: Cond | None, settings: AuditSettings
) -> list[Regeneration]:
    timesteps = settings.timesteps or quarter_timesteps(inputs.model.process)[1:3]
    tries = settings.tries * len(originals)
    drawing = Drawing(settings.seed, settings.num_steps, settings.batch_size, cond)
    found = []
    with progress_bar("restoring", tries * len(timesteps), shown=inputs.shown) as advance:
        for timestep in timesteps:
            # Each image has a threshold of its own; distances are judged later.
            tried = regenerate(
                inputs.model, originals, timestep, copies=tries, threshold=1.0, drawing=drawing
            )
            found.append(tried)
            advance(tries)
    return found


def _twins(
    inputs: Inputs, originals: Tensor, digests: Sequence[str], settings: AuditSettings
) -> Sequence[Twins | None]:
    if inputs.keep is None or settings.num_neighbours == 0:
        return [None] * len(originals)
    return find_twins(
        embedder_for(inputs.model.image_shape, settings.embedder, device=inputs.model.device),
        inputs.keep,
        originals,
        digests,
        settings.num_neighbours,
        shown=inputs.shown,
    )
