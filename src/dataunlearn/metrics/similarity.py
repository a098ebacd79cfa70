"""Copy similarity: how near the nearest picture of a model is to an image, as an embedder sees it.

Cosine similarity between embeddings (Pizzi et al. 2022; the measure of Alberti et al. 2025 with
SSCD). What counts as a copy depends on the embedder and the data, so the threshold is calibrated:
on images that are no copies for certain.

A restored picture is also unlike its original when it is merely spoilt. So the similarity is given
at a limited distance as well: what arXiv 2510.17917 proposes ("a normalized perturbation
distance"), by a formula of our own, since theirs was not to be had.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from dataunlearn.metrics.embedded import EmbeddedMeasure
from dataunlearn.metrics.embedders import Embedder
from dataunlearn.metrics.inputs import Inputs
from dataunlearn.metrics.intervals import mean_interval, wilson
from dataunlearn.metrics.pace import Cost
from dataunlearn.metrics.regeneration import quarter_timesteps
from dataunlearn.metrics.result import Result
from dataunlearn.models.sampling import Drawing, noise_and_denoise

CALIBRATION_QUANTILE = 0.99
DISTANCE = 0.2  # root mean square in [-1, 1]: a tenth of the range


@dataclass(frozen=True)
class Threshold:
    """A similarity above which a picture counts as a copy.

    Attributes:
        value: The threshold, in [-1, 1].
        calibrated_on: What it was calibrated on.
        num_pairs: How many pairs of different pictures it rests on.
    """

    value: float
    calibrated_on: str
    num_pairs: int


def similarities(embedder: Embedder, images: Tensor, originals: Tensor) -> Tensor:
    """Cosine similarities ``(N, K)`` in [-1, 1] of pictures (N) and originals (K).

    Raises:
        ValueError: If either is empty.
    """
    first = functional.normalize(embedder(images), dim=1)
    second = functional.normalize(embedder(originals), dim=1)
    return first @ second.T


def within_distance(images: Tensor, originals: Tensor, distance: float = DISTANCE) -> Tensor:
    """Pictures moved along the line to their originals until none is farther than a distance.

    What is left to compare of large changes is their direction. Small ones stay as they are: the
    direction of what a nearly perfect copy got wrong says nothing.

    Args:
        images: ``(N, C, H, W)`` in [-1, 1].
        originals: Each one's original, ``(N, C, H, W)`` in [-1, 1].
        distance: Largest root mean square difference.

    Returns:
        ``(N, C, H, W)`` in [-1, 1].

    Raises:
        ValueError: If ``distance`` is not positive.
    """
    if distance <= 0:
        raise ValueError(f"the distance must be positive, got {distance}")
    change = images - originals
    size = change.square().mean(dim=(1, 2, 3), keepdim=True).sqrt()
    return originals + change * (distance / size.clamp_min(distance))


def calibrate(embedder: Embedder, different: Tensor, originals: Tensor, *, name: str) -> Threshold:
    """The threshold above which hardly any picture known to be different comes.

    Half way between the nearest one of ``different`` (its 99th percentile, so that a stray
    near-duplicate does not decide) and a perfect copy. Reported with every number, never assumed.

    Args:
        embedder: The embedder.
        different: ``(N, C, H, W)`` pictures that are no copies: the keep set, or the model's own
            samples where there is none (memorised ones among them then raise the threshold).
        originals: ``(K, C, H, W)``.
        name: What ``different`` is: "keep" or "samples".

    Raises:
        ValueError: If either is empty.
    """
    nearest = similarities(embedder, different, originals).max(dim=1).values
    typical = float(nearest.quantile(CALIBRATION_QUANTILE))
    return Threshold((1 + typical) / 2, name, len(different) * len(originals))


def copy_similarity(
    embedder: Embedder,
    images: Tensor,
    originals: Tensor,
    *,
    name: str = "copy_similarity",
) -> Result:
    """Mean over pictures of the similarity to the nearest original.

    Args:
        embedder: The embedder.
        images: Pictures of the model ``(N, C, H, W)`` in [-1, 1].
        originals: Forgotten images ``(K, C, H, W)`` in [-1, 1].
        name: Name of the result.

    Returns:
        The mean with its bootstrap interval; lower is better; ``per_item`` is ``(N,)``.
    """
    nearest = similarities(embedder, images, originals).max(dim=1).values
    return Result(
        name,
        float(nearest.mean()),
        mean_interval(nearest.numpy()),
        False,
        {**embedder.settings, "num_images": len(images), "num_originals": len(originals)},
        nearest,
    )


def copy_share(
    embedder: Embedder,
    images: Tensor,
    originals: Tensor,
    threshold: Threshold,
    *,
    name: str = "copy_share",
) -> Result:
    """Share of pictures whose nearest original lies above the threshold; arguments as above."""
    nearest = similarities(embedder, images, originals).max(dim=1).values
    above = nearest > threshold.value
    count = int(above.sum())
    settings: dict[str, Any] = {
        **embedder.settings,
        "threshold": threshold.value,
        "calibrated_on": threshold.calibrated_on,
        "num_images": len(images),
    }
    interval = wilson(count, len(images))
    return Result(name, count / len(images), interval, False, settings, above)


def limited_similarity(
    embedder: Embedder, restored: Tensor, originals: Tensor, which: Tensor, timestep: int
) -> Result:
    """Mean similarity of restored pictures to their original, none farther than `DISTANCE` from it.

    Args:
        embedder: The embedder.
        restored: Regenerations ``(N, C, H, W)`` in [-1, 1].
        originals: Forgotten images ``(K, C, H, W)`` in [-1, 1].
        which: The original that each was restored from, ``(N,)`` in 0..K-1.
        timestep: The noise level they come from.

    Returns:
        The mean with its bootstrap interval; lower says that the change has a direction that the
        embedder sees, as another content has and noise has not; ``per_item`` is ``(N,)``.
    """
    moved = within_distance(restored, originals[which])
    items = functional.cosine_similarity(embedder(moved), embedder(originals)[which])
    settings = {**embedder.settings, "distance": DISTANCE, "num_images": len(restored)}
    name = f"limited_similarity_of_regeneration_{timestep}"
    return Result(name, float(items.mean()), mean_interval(items.numpy()), False, settings, items)


@dataclass(frozen=True)
class CopySimilarity(EmbeddedMeasure):
    """Similarity of an embedder between forget images and what the model makes of them.

    Args:
        embedder: pixels, digits, efficientnet_lite0, inception, sscd:PATH, sscd:download, or the
            path of a .torchscript or .onnx network; auto takes digits or efficientnet_lite0.
        size: Pixels of the shorter side that it sees; None takes its own.
        timestep: Noise level that forget images are restored from (the paper: 250 on faces);
            None takes a quarter of the noise.
        copies: Tries.
        num_steps: Most denoiser calls per try.
    """

    embedder: str = "auto"
    size: int | None = None
    timestep: int | None = None
    copies: int = 64
    num_steps: int = 20
    needs: ClassVar[tuple[str, ...]] = ("forget",)
    looks_at: ClassVar[tuple[str, ...]] = ("samples",)

    def cost(self, inputs: Inputs) -> Cost:
        """Tries to restore the images."""
        return Cost(max(self.copies, len(inputs.originals)) * self.num_steps)

    def check(self, inputs: Inputs) -> None:
        """Open the embedder; the noise level must be one of the model's."""
        super().check(inputs)
        if self.timestep is not None:
            inputs.model.process.check_timesteps([self.timestep], "timestep")

    def __call__(self, inputs: Inputs) -> list[Result]:
        """Mean similarity of regenerations and of samples, and the share of copies among both.

        Then the similarity of the regenerations once none is far from its original.
        """
        embedder = self.opened(inputs)
        timestep = self.timestep
        if timestep is None:
            timestep = quarter_timesteps(inputs.model.process)[0]
        restored, which = self._restored(inputs, timestep)
        threshold = self._threshold(embedder, inputs)
        results = []
        for name, images in ((f"regeneration_{timestep}", restored), ("samples", inputs.samples)):
            mean = copy_similarity(embedder, images, inputs.originals, name=f"similarity_of_{name}")
            share = copy_share(
                embedder, images, inputs.originals, threshold, name=f"similar_share_of_{name}"
            )
            results += [mean, share]
        return [*results, limited_similarity(embedder, restored, inputs.originals, which, timestep)]

    def _restored(self, inputs: Inputs, timestep: int) -> tuple[Tensor, Tensor]:
        """Regenerations of the forget images, and the number of the image that each is one of."""
        which = torch.arange(max(self.copies, len(inputs.originals))) % len(inputs.originals)
        labels = inputs.conditions("forget")
        restored = noise_and_denoise(
            inputs.model,
            inputs.originals[which],
            timestep,
            Drawing(
                seed=inputs.seed,
                num_steps=self.num_steps,
                batch_size=inputs.batch_size,
                cond=None if labels is None else labels[which],
            ),
        )
        return restored, which

    def _threshold(self, embedder: Embedder, inputs: Inputs) -> Threshold:
        if inputs.keep is not None:
            return calibrate(embedder, inputs.keep_images, inputs.originals, name="keep")
        return calibrate(embedder, inputs.samples, inputs.originals, name="samples")
