"""How far a version is from a project's first model, on the pictures that all should know."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dataunlearn.data import ImageSet
from dataunlearn.models import DiffusionModel
from dataunlearn.runtime.settings import describe
from dataunlearn.unlearning.quality import AtMost, LossRise, Quality, loss_rise, losses_of_kept


@dataclass(frozen=True)
class Drift:
    """How much more a version loses on pictures to keep than the first model.

    Each version is compared with its parent, too; small losses that pass there add up, and this is
    where they show.

    Attributes:
        rise: The comparison.
        limit: By how much it may lose more at any noise level, as a share.
    """

    rise: LossRise
    limit: float

    @property
    def is_too_far(self) -> bool:
        """Whether it certainly loses more than the limit allows, at any noise level."""
        at_most = AtMost(1 + self.limit)
        return any(at_most.judge(each) is Quality.LOST for each in self.rise.intervals)

    @property
    def words(self) -> str:
        """What was found, with the numbers behind it."""
        return f"beside the first model, {self.rise.finding.words}"

    def as_json(self) -> dict[str, Any]:
        """The same as JSON values."""
        facts = {"limit": self.limit, "is_too_far": self.is_too_far, "words": self.words}
        return facts | {"worst": self.rise.ratios[self.rise.worst], "rise": describe(self.rise)}


def drift_of(
    first: DiffusionModel, model: DiffusionModel, keep: ImageSet, limit: float, seed: int
) -> Drift:
    """Compare a version with the first model.

    Args:
        first: The first model.
        model: The version's.
        keep: The pictures to keep, of which 128 are looked at.
        limit: By how much it may lose more, as a share.
        seed: Names the pictures and the noise.
    """
    return Drift(loss_rise(*(losses_of_kept(each, keep, seed) for each in (first, model))), limit)


def is_too_far(verdict: Mapping[str, Any]) -> bool:
    """Whether a version's verdict says that it is too far from the first model."""
    return bool(verdict.get("drift", {}).get("is_too_far"))
