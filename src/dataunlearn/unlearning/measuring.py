"""Everything that is measured of a model before and after unlearning."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dataunlearn.conditioning import Cond
from dataunlearn.data.prompt import Prompt
from dataunlearn.metrics.copy_frequency import copy_frequency
from dataunlearn.metrics.digits import (
    NUM_SPLITS,
    DigitQuality,
    PerImage,
    digit_quality,
    load_digit_classifier,
)
from dataunlearn.metrics.inception import score_interval, single_score
from dataunlearn.metrics.intervals import paired_bootstrap
from dataunlearn.metrics.pixel_distance import are_copies
from dataunlearn.metrics.regeneration import Regeneration, quarter_timesteps, regenerate
from dataunlearn.models import DiffusionModel
from dataunlearn.models.finite import blank_samples, finite_rows
from dataunlearn.models.sampling import Drawing, generate
from dataunlearn.runtime.progress import progress_bar
from dataunlearn.unlearning.config import Evaluation


@dataclass(frozen=True, eq=False)
class Measurement:
    """One model's measurements.

    Attributes:
        samples: ``(N, C, H, W)`` in [-1, 1]; picture i depends on (seed, i) alone. Of a model that
            takes prompts they are asked for those of the forget images.
        regenerations: One per timestep.
        copies: Which samples are copies, ``(N,)`` bool.
        numbers: The numbers for the report, JSON values.
        digits: Digit quality, where it was asked for and all samples are finite.
        others: As many samples for prompts of pictures to keep; none where there are no such.
    """

    samples: Tensor
    regenerations: list[Regeneration]
    copies: Tensor
    numbers: dict[str, Any]
    digits: DigitQuality | None = None
    others: Tensor = field(default_factory=lambda: torch.zeros(0))

    @property
    def broken(self) -> str | None:
        """In words, that the model draws nothing that could be judged; None if it does."""
        drawn = {"samples": self.samples, "samples for other prompts": self.others}
        drawn |= {f"pictures restored from t={r.timestep}": r.images for r in self.regenerations}
        for name, pictures in drawn.items():
            wrong = int((~finite_rows(pictures)).sum()) if len(pictures) else 0
            if wrong:
                return f"{wrong} of the {len(pictures)} {name} are not finite"
        return None

    @property
    def blank(self) -> str | None:
        """In words, that its samples show nothing, or that they are broken; None if they do."""
        return self.broken or blank_samples(self.others if len(self.others) else self.samples)


@dataclass(frozen=True)
class Asked:
    """What samples of a text-to-image model are asked for.

    Attributes:
        own: Prompts of the forget images, in turn; the empty one without any.
        others: What as many further samples are asked for, in turn; without any, none are drawn.
    """

    own: Sequence[Prompt] = ()
    others: Sequence[Prompt] = ()


ASKED_NOTHING = Asked()


def measure(
    model: DiffusionModel,
    originals: Tensor,
    threshold: float,
    settings: Evaluation,
    *,
    cond: Cond | None = None,
    asked: Asked = ASKED_NOTHING,
    label: str = "measuring",
    shown: bool = True,
) -> Measurement:
    """Draw samples, try to regenerate the forgotten images, and judge quality.

    Pictures that are not finite are measured, too, and :attr:`Measurement.broken` says so: a run
    that has destroyed its model is to end with that verdict.

    Args:
        model: The model, in eval mode.
        originals: Forgotten images ``(K, C, H, W)`` in [-1, 1].
        threshold: Pixel distance below which an image counts as a copy.
        settings: How much to measure.
        cond: Class labels or prompts of the originals, or None.
        asked: What samples of a text-to-image model are asked for.
        label: Label of the progress bar.
        shown: Whether to draw it.
    """
    timesteps = settings.regeneration_timesteps or quarter_timesteps(model.process)
    num_others = settings.num_samples if asked.others else 0
    total = settings.num_samples + num_others + settings.regeneration_copies * len(timesteps)
    with progress_bar(label, total, shown=shown) as advance:
        drawing = Drawing(
            settings.seed, settings.sampling_steps, settings.batch_size, checked=False
        )
        own = replace(drawing, prompts=asked.own, progress=advance)
        samples = generate(model, settings.num_samples, own)
        others = generate(model, num_others, replace(own, prompts=asked.others))
        trying = replace(drawing, num_steps=settings.regeneration_steps, cond=cond)
        regenerations = []
        for timestep in timesteps:
            found = regenerate(
                model,
                originals,
                timestep,
                copies=settings.regeneration_copies,
                threshold=threshold,
                drawing=trying,
            )
            regenerations.append(found)
            advance(settings.regeneration_copies)
    judged = judge(samples, regenerations, originals, threshold, settings)
    return replace(judged, others=others)


def judge(
    samples: Tensor,
    regenerations: list[Regeneration],
    originals: Tensor,
    threshold: float,
    settings: Evaluation,
) -> Measurement:
    """The numbers of samples and regenerations that are already drawn."""
    copies = (
        are_copies(samples, originals, threshold)
        if len(samples)
        else torch.zeros(0, dtype=torch.bool)
    )
    numbers: dict[str, Any] = {
        "regeneration": {str(r.timestep): r.share for r in regenerations},
        "regeneration_interval": {str(r.timestep): list(r.interval) for r in regenerations},
        "regeneration_median_distance": {
            str(r.timestep): float(r.distances.median()) for r in regenerations
        },
        "regeneration_copies": len(regenerations[0].distances) if regenerations else 0,
        "num_samples": len(samples),
    }
    if len(samples):
        frequency = copy_frequency(samples, originals, threshold)
        numbers[settings.frequency_name] = frequency.value
        numbers[f"{settings.frequency_name}_interval"] = list(frequency.interval or ())
    digits = None
    if settings.digits and bool(samples.isfinite().all()):
        digits = digit_quality(samples, load_digit_classifier(), copies)
        numbers |= digit_numbers(digits)
    return Measurement(samples, regenerations, copies, numbers, digits)


def digit_numbers(digits: DigitQuality) -> dict[str, Any]:
    """Digit quality as JSON values."""
    interval = score_interval(digits.per_image.probabilities, NUM_SPLITS)
    return {
        "inception_score": digits.inception_score,
        "inception_score_interval": list(interval),
        "broken_share": digits.broken_share,
        "broken_interval": list(digits.broken_interval),
        "broken_share_interval": list(digits.broken_interval),
        "mean_confidence": digits.mean_confidence,
        "class_histogram": list(digits.class_histogram),
        "num_digits": digits.num_images,
    }


@dataclass(frozen=True)
class QualityChange:
    """Digit quality after against before, on the same seeds.

    Attributes:
        score_ratio: Inception Score after over before.
        score_ratio_interval: Its paired 95 % bootstrap interval.
        broken_increase: Share of broken pictures after minus before.
        broken_increase_interval: Its paired 95 % bootstrap interval.
    """

    score_ratio: float
    score_ratio_interval: tuple[float, float]
    broken_increase: float
    broken_increase_interval: tuple[float, float]


def compare_quality(before: Measurement, after: Measurement) -> QualityChange | None:
    """Compare two models' digits picture by picture; None where digits were not judged.

    Samples that are copies in either model are left out on both sides, so that pairs stay pairs.
    """
    if before.digits is None or after.digits is None:
        return None
    both = ~(before.copies | after.copies)
    old, new = (_judged(measurement, both) for measurement in (before, after))

    def ratio(old: NDArray[np.float64], new: NDArray[np.float64]) -> float:
        return single_score(new) / single_score(old)

    def increase(old: NDArray[np.bool_], new: NDArray[np.bool_]) -> float:
        return float(new.mean() - old.mean())

    return QualityChange(
        ratio(old.probabilities, new.probabilities),
        paired_bootstrap(ratio, old.probabilities, new.probabilities),
        increase(old.broken, new.broken),
        paired_bootstrap(increase, old.broken, new.broken),
    )


def _judged(measurement: Measurement, chosen: Tensor) -> PerImage:
    """What the classifier said of some of the samples, of which no copy was shown to it."""
    assert measurement.digits is not None
    rows = chosen[~measurement.copies].numpy()
    found = measurement.digits.per_image
    return PerImage(found.probabilities[rows], found.broken[rows])


def quality_words(change: QualityChange) -> str:
    """How digits compare with before, in numbers."""
    low, high = change.score_ratio_interval
    fewest, most = (100 * bound for bound in change.broken_increase_interval)
    return (
        f"Inception Score without copies {change.score_ratio:.1%} of before (between {low:.1%} "
        f"and {high:.1%}), "
        f"broken pictures {100 * change.broken_increase:+.1f} points (between {fewest:+.1f} and "
        f"{most:+.1f})"
    )
