"""Inception Score and broken pictures of generated digits, with the shipped classifier."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from dataunlearn.metrics.digits import digit_quality, inception_score, load_digit_classifier
from dataunlearn.metrics.inputs import Inputs
from dataunlearn.metrics.measure import Measure
from dataunlearn.metrics.pixel_distance import are_copies
from dataunlearn.metrics.result import Result


def single_score(probabilities: NDArray[np.float64]) -> float:
    """Inception Score without splits, for resampling."""
    return float(inception_score(probabilities, 1)[0])


def score_interval(
    probabilities: NDArray[np.float64], num_splits: int, num_resamples: int = 500
) -> tuple[float, float]:
    """95 % interval of the mean score over splits: a bootstrap's spread, laid about the score.

    A resample repeats pictures, which lowers its score; so the resamples' spread is taken and not
    their place.
    """
    rng = np.random.default_rng(0)
    count = len(probabilities)
    scores = [
        float(inception_score(probabilities[rng.integers(count, size=count)], num_splits).mean())
        for _ in range(num_resamples)
    ]
    middle = float(inception_score(probabilities, num_splits).mean())
    half_width = 1.96 * float(np.std(scores))
    return middle - half_width, middle + half_width


@dataclass(frozen=True)
class InceptionScore(Measure):
    """Inception Score and share of broken pictures of generated digits, copies left out.

    Args:
        num_splits: Splits of the score.
    """

    num_splits: int = 10
    looks_at: ClassVar[tuple[str, ...]] = ("samples",)

    def check(self, inputs: Inputs) -> None:
        """Digits are grey and 28 pixels wide."""
        if inputs.model.image_shape != (1, 28, 28):
            raise ValueError(
                "InceptionScore is for digits of (1, 28, 28); the model draws "
                f"{inputs.model.image_shape}"
            )

    def __call__(self, inputs: Inputs) -> list[Result]:
        """The score, and the broken share."""
        copies = None
        if inputs.forget is not None and inputs.keep is not None:
            copies = are_copies(inputs.samples, inputs.originals, inputs.pixel_threshold)
        quality = digit_quality(
            inputs.samples, load_digit_classifier(), copies, num_splits=self.num_splits
        )
        settings = {"num_splits": self.num_splits, "num_samples": quality.num_images}
        interval = score_interval(quality.per_image.probabilities, self.num_splits)
        score = Result("inception_score", quality.inception_score, interval, True, settings)
        broken = Result(
            "broken_share",
            quality.broken_share,
            quality.broken_interval,
            False,
            {"num_samples": quality.num_images},
            torch.from_numpy(quality.per_image.broken),
        )
        return [score, broken]
