"""Copy frequency: the share of a model's samples that are copies of a forgotten image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from dataunlearn.metrics.inputs import Inputs
from dataunlearn.metrics.intervals import wilson
from dataunlearn.metrics.measure import Measure
from dataunlearn.metrics.pixel_distance import are_copies
from dataunlearn.metrics.result import Result


def copy_frequency(
    images: Tensor, originals: Tensor, threshold: float, *, name: str = "copy_frequency"
) -> Result:
    """Share of samples that are copies of one of the originals.

    The paper's T-shirt frequency (Alberti et al. 2025) is this with threshold 10.

    Args:
        images: Samples ``(N, C, H, W)`` in [-1, 1].
        originals: Forgotten images ``(K, C, H, W)`` in [-1, 1].
        threshold: Pixel distance, in [0, 1] pixels, below which a sample is a copy.
        name: Name of the result.

    Returns:
        The share with its Wilson interval; ``per_item`` tells which samples are copies.

    Raises:
        ValueError: If there are no samples.
    """
    if not len(images):
        raise ValueError("there are no samples among which to count copies")
    found = are_copies(images, originals, threshold)
    count = int(found.sum())
    settings = {"threshold": float(threshold), "num_samples": len(images)}
    return Result(name, count / len(images), wilson(count, len(images)), False, settings, found)


@dataclass(frozen=True)
class CopyFrequency(Measure):
    """Share of samples that are copies of a forget image, by pixel distance.

    Args:
        threshold: Pixel distance (pixels in [0, 1]) under which a sample is a copy; None takes 7/8
            of the distance from a forget image to the nearest keep image.
    """

    threshold: float | None = None
    needs: ClassVar[tuple[str, ...]] = ("forget",)
    looks_at: ClassVar[tuple[str, ...]] = ("samples",)

    def check(self, inputs: Inputs) -> None:
        """A threshold needs keep images unless it is given."""
        super().check(inputs)
        if self.threshold is None and inputs.keep is None:
            raise ValueError("CopyFrequency needs --keep, or a threshold")

    def __call__(self, inputs: Inputs) -> list[Result]:
        """One share."""
        threshold = self.threshold or inputs.pixel_threshold
        return [copy_frequency(inputs.samples, inputs.originals, threshold)]
