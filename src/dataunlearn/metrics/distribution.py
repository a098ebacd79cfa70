"""FID and KID: how far a model's pictures are from others as a whole, with any embedder.

Both by torchmetrics (Heusel et al. 2017; Binkowski et al. 2018), which takes features of any
network. Numbers with different embedders, or FIDs at different numbers of pictures, must not be
compared: FID is biased by an amount that depends on the number.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from dataunlearn.metrics.embedded import EmbeddedMeasure
from dataunlearn.metrics.embedders import Embedder
from dataunlearn.metrics.inputs import Inputs
from dataunlearn.metrics.result import Result

NUM_SUBSETS = 100
MAX_SUBSET = 1000
FID_RESAMPLES = 20
MIN_PICTURES = 4


class _Features(nn.Module):
    """Lets torchmetrics take vectors that are computed already."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.num_features = width

    def forward(self, vectors: Tensor) -> Tensor:
        return vectors


def kid(
    embedder: Embedder,
    images: Tensor,
    others: Tensor,
    *,
    name: str = "kid",
    num_subsets: int = NUM_SUBSETS,
    seed: int = 0,
) -> Result:
    """Kernel Inception Distance: unbiased MMD^2 with a cubic kernel, mean over random subsets.

    Args:
        embedder: Gives the features.
        images: The model's pictures ``(N, C, H, W)`` in [-1, 1], at least 4.
        others: What they are compared with ``(M, C, H, W)``, without forgotten images; at least 4.
        name: Name of the result.
        num_subsets: Number of subsets.
        seed: Seed of the subsets.

    Returns:
        The mean; its 95 % interval from the spread over subsets of m pictures, narrowed by
        sqrt(m/n) as subsampling asks (Politis and Romano 1994).
    """
    from torchmetrics.image.kid import KernelInceptionDistance

    first, second = vectors(embedder, images, others)
    fewest = min(len(first), len(second))
    size = min(MAX_SUBSET, fewest // 2)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*extracted features in buffer.*")
        metric = KernelInceptionDistance(
            _Features(first.shape[1]), subsets=num_subsets, subset_size=size
        )
    with torch.random.fork_rng(devices=[]):  # torchmetrics draws its subsets from the global state
        torch.manual_seed(seed)
        metric.update(second, real=True)
        metric.update(first, real=False)
        mean, std = (float(number) for number in metric.compute())
    half_width = 1.96 * std * (size / fewest) ** 0.5
    settings = _settings(embedder, images, others) | {"subset_size": size, "subsets": num_subsets}
    return Result(name, mean, (mean - half_width, mean + half_width), False, settings)


def fid(
    embedder: Embedder, images: Tensor, others: Tensor, *, name: str = "fid", seed: int = 0
) -> Result:
    """Frechet Inception Distance; arguments as :func:`kid`.

    Returns:
        The distance; its interval is a bootstrap of both sides about it, of as many resamples as
        ``per_item`` holds. Resampling repeats pictures, which adds to the distance; so the
        interval takes the resamples' spread, not their place.
    """
    first, second = vectors(embedder, images, others)
    value = _fid(first, second)
    draw = torch.Generator().manual_seed(seed)
    values = torch.tensor(
        [_fid(_resample(first, draw), _resample(second, draw)) for _ in range(FID_RESAMPLES)]
    )
    half_width = 1.96 * float(values.std())
    interval = (max(0.0, value - half_width), value + half_width)
    return Result(name, value, interval, False, _settings(embedder, images, others), values)


def vectors(embedder: Embedder, images: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    """Both sides' features.

    Raises:
        ValueError: If a side has fewer than 4 pictures.
    """
    if min(len(images), len(others)) < MIN_PICTURES:
        raise ValueError(
            f"got {len(images)} and {len(others)} pictures to compare; give at least "
            f"{MIN_PICTURES} on each side"
        )
    return embedder(images), embedder(others)


def _fid(first: Tensor, second: Tensor) -> float:
    from torchmetrics.image.fid import FrechetInceptionDistance

    metric = FrechetInceptionDistance(_Features(first.shape[1]), normalize=True)
    metric.set_dtype(torch.float64)
    metric.update(second, real=True)
    metric.update(first, real=False)
    return float(metric.compute())


def _resample(features: Tensor, draw: torch.Generator) -> Tensor:
    return features[torch.randint(len(features), (len(features),), generator=draw)]


def _settings(embedder: Embedder, images: Tensor, others: Tensor) -> dict[str, Any]:
    return {**embedder.settings, "num_images": len(images), "num_others": len(others)}


class _DistributionMeasure(EmbeddedMeasure):
    """A measure of samples as a whole."""

    looks_at: ClassVar[tuple[str, ...]] = ("samples",)

    def check(self, inputs: Inputs) -> None:
        """Open the embedder; there must be enough samples."""
        super().check(inputs)
        if inputs.num_samples < MIN_PICTURES:
            raise ValueError(f"needs at least {MIN_PICTURES} samples: raise --num_samples")


@dataclass(frozen=True)
class FID(_DistributionMeasure):
    """Frechet Inception Distance between samples and keep images.

    Args:
        embedder: pixels, digits, efficientnet_lite0, inception, sscd:PATH, sscd:download, or the
            path of a .torchscript or .onnx network; auto takes digits or efficientnet_lite0.
        size: Pixels of the shorter side that it sees; None takes its own.
    """

    embedder: str = "auto"
    size: int | None = None
    needs: ClassVar[tuple[str, ...]] = ("keep",)

    def __call__(self, inputs: Inputs) -> list[Result]:
        """One distance."""
        embedder = self.opened(inputs)
        return [fid(embedder, inputs.samples, inputs.keep_images, seed=inputs.seed)]


@dataclass(frozen=True)
class KID(_DistributionMeasure):
    """Kernel Inception Distance between samples and keep images.

    Args:
        embedder: pixels, digits, efficientnet_lite0, inception, sscd:PATH, sscd:download, or the
            path of a .torchscript or .onnx network; auto takes digits or efficientnet_lite0.
        size: Pixels of the shorter side that it sees; None takes its own.
        num_subsets: Random subsets averaged over.
    """

    embedder: str = "auto"
    size: int | None = None
    num_subsets: int = 100
    needs: ClassVar[tuple[str, ...]] = ("keep",)

    def __call__(self, inputs: Inputs) -> list[Result]:
        """One distance."""
        embedder = self.opened(inputs)
        return [
            kid(
                embedder,
                inputs.samples,
                inputs.keep_images,
                num_subsets=self.num_subsets,
                seed=inputs.seed,
            )
        ]


@dataclass(frozen=True)
class ReferenceKID(_DistributionMeasure):
    """Kernel Inception Distance between samples and those of a model that never saw the images.

    What is as if it had never seen them lies no farther away than the same model's samples from
    another seed.

    Args:
        embedder: As for KID.
        size: Pixels of the shorter side that it sees; None takes its own.
        num_subsets: Random subsets averaged over.
    """

    embedder: str = "auto"
    size: int | None = None
    num_subsets: int = 100
    needs: ClassVar[tuple[str, ...]] = ("reference_samples",)

    def check(self, inputs: Inputs) -> None:
        """Open the embedder and the samples."""
        super().check(inputs)
        shape = tuple(inputs.samples_of_reference.shape[1:])
        if shape != inputs.model.image_shape:
            raise ValueError(f"the reference's samples are {shape}, not {inputs.model.image_shape}")

    def __call__(self, inputs: Inputs) -> list[Result]:
        """One distance."""
        embedder = self.opened(inputs)
        others = inputs.samples_of_reference
        found = kid(
            embedder,
            inputs.samples,
            others,
            name="reference_kid",
            num_subsets=self.num_subsets,
            seed=inputs.seed,
        )
        return [found]
