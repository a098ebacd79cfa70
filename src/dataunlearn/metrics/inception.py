"""Inception Score of generated digits, with the shipped classifier."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from dataunlearn.metrics.copies import are_copies
from dataunlearn.metrics.digits import digit_quality, inception_score, load_digit_classifier
from dataunlearn.metrics.inputs import Inputs
from dataunlearn.metrics.intervals import paired_bootstrap
from dataunlearn.metrics.measure import Measure
from dataunlearn.metrics.result import Result


def single_score(probabilities: NDArray[np.float64]) -> float:
    """Inception Score without splits, for resampling."""
    return float(inception_score(probabilities, 1)[0])


@dataclass(frozen=True)
class InceptionScore(Measure):
    """Inception Score and share of broken pictures of generated digits, copies left out.

    Args:
        num_splits: Splits of the score.
    """

    num_splits: int = 10

    def check(self, inputs: Inputs) -> None:
        """Digits are grey and 28 pixels wide."""
        if inputs.model.shape != (1, 28, 28):
            raise ValueError(
                f"InceptionScore is for digits of (1, 28, 28); the model draws {inputs.model.shape}"
            )

    def __call__(self, inputs: Inputs) -> list[Result]:
        """The score, and the broken share."""
        copies = None
        if inputs.forget is not None and inputs.keep is not None:
            copies = are_copies(inputs.samples, inputs.originals, inputs.pixel_threshold)
        quality = digit_quality(
            inputs.samples, load_digit_classifier(), copies, num_splits=self.num_splits
        )
        settings = {
            "num_splits": self.num_splits,
            "num_samples": quality.num_images,
            "interval_of": "the score in one split",
        }
        probabilities = quality.per_image.probabilities
        interval = paired_bootstrap(single_score, probabilities, num_resamples=500)
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
