"""Combination rules: from the two gradients' Gramian to two weights.

With g_keep and g_forget the gradients of the two side losses, every rule returns (u_keep, u_forget)
and the update follows u_keep g_keep + u_forget g_forget. A rule sees nothing but the 2x2 Gramian
G = [[kk, kf], [kf, ff]] of inner products, so it can be tested with three numbers.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from enum import Enum
from typing import ClassVar

from dataunlearn.gramian import Gramian

# The authors advise about 0.1; 0.4 at a lower rate forgets as well and leaves better digits on the
# small MNIST model: docs/results/mnist_tshirt_small.md.
DEFAULT_RATIO = 0.4


class Direction(Enum):
    """Which way an update follows the gradient of one side's loss."""

    DESCENDED = "descended"
    ASCENDED = "ascended"
    ABSENT = "absent"


class Combination(ABC):
    """A rule that weighs the keep and the forget gradient; implementations have no state.

    Attributes:
        sees_lengths_alone: Whether the weights follow from the gradients' lengths without their
            inner product.
    """

    sees_lengths_alone: ClassVar[bool] = False

    @property
    def keep_directions(self) -> tuple[Direction, ...]:
        """What the rule can do with the keep gradient: descend it, unless it says otherwise."""
        return (Direction.DESCENDED,)

    @property
    @abstractmethod
    def forget_directions(self) -> tuple[Direction, ...]:
        """What the rule can do with the forget gradient."""

    @property
    def factors(self) -> tuple[float, float] | None:
        """The two weights, where they do not depend on the gradients; None where they do."""
        return None

    @abstractmethod
    def __call__(self, gramian: Gramian) -> tuple[float, float]:
        """The weights (u_keep, u_forget) of the two gradients; u_forget is 0 where ff is 0."""

    def with_counts(self, num_train: int, num_forget: int) -> Combination:
        """The rule for a training set of n images of which k are to be forgotten."""
        return self

    def eased(self, share: float) -> Combination:
        """The rule with a share of its pull to forget, where that is a number of its own."""
        return self


@dataclass(frozen=True)
class NormFix(Combination):
    """Ascend the forget gradient at a fixed length: u = (1, -c / |g_forget|).

    Alberti et al. 2025, section 4 ("gradient clipping"/norm fixing of the published experiments).
    Give exactly one of the two.

    Args:
        norm: The length c itself (published: 5 on MNIST, 500 on CelebA-HQ, 750 on Stable
            Diffusion; these belong to losses summed over dimensions, as here).
        ratio: c as a share of the keep gradient's length, in every step anew. The authors advise
            to tune c to about a tenth of it; a share needs no tuning.
    """

    norm: float | None = None
    ratio: float | None = None
    sees_lengths_alone = True
    forget_directions = (Direction.ASCENDED,)

    def __post_init__(self) -> None:
        """Check that exactly one length is given and positive."""
        given = [value for value in (self.norm, self.ratio) if value is not None]
        if len(given) != 1 or not (math.isfinite(given[0]) and given[0] > 0):
            raise ValueError(
                "NormFix needs exactly one of norm and ratio, above 0: NormFix(ratio=0.1) or "
                f"NormFix(norm=5); got norm={self.norm}, ratio={self.ratio}"
            )

    def __str__(self) -> str:
        """The one length that was given."""
        given = f"ratio={self.ratio:g}" if self.ratio is not None else f"norm={self.norm:g}"
        return f"NormFix({given})"

    def __call__(self, gramian: Gramian) -> tuple[float, float]:
        """(1, -c / sqrt(ff))."""
        if gramian.ff == 0:
            return 1.0, 0.0
        length = self.norm if self.norm is not None else (self.ratio or 0) * gramian.norm_keep
        return 1.0, -length / gramian.norm_forget


@dataclass(frozen=True)
class BalancedDescent(Combination):
    """Descend both sides, the forget side no longer than a share of the keep gradient.

    u = (1, min(most, ratio * |g_keep| / |g_forget|)). Where the keep side is held to what the model
    predicted before, its gradient is small as long as nothing is spoilt, and so is the pull.

    Args:
        ratio: Most length of the forget gradient over the keep gradient's.
        most: Most factor of the forget gradient.
    """

    ratio: float = 1.0
    most: float = 10.0
    sees_lengths_alone = True
    forget_directions = (Direction.DESCENDED,)

    def __post_init__(self) -> None:
        """Check ranges."""
        for name in ("ratio", "most"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name} must be above 0, not {value}")

    def eased(self, share: float) -> BalancedDescent:
        """A share of the ratio."""
        return replace(self, ratio=share * self.ratio)

    def __call__(self, gramian: Gramian) -> tuple[float, float]:
        """(1, min(most, ratio sqrt(kk / ff)))."""
        if gramian.ff == 0:
            return 1.0, 0.0
        return 1.0, min(self.most, self.ratio * gramian.norm_keep / gramian.norm_forget)


@dataclass(frozen=True)
class BoundedDescent(Combination):
    """Descend both sides, the forget side just enough: u = (1, max(eta - kf/ff, 0)).

    EraseDiff's rule (Wu et al. 2024) in the form of the SISS and ReTrack programs: the step's inner
    product with g_forget is at least ``eta`` * ff, so the forget loss falls at that rate.

    Args:
        eta: Least rate of descent (published: 1e-3 on pixels, 1e-2 on Stable Diffusion).
    """

    eta: float = 1e-3
    forget_directions = (Direction.DESCENDED,)

    def __post_init__(self) -> None:
        """Check the range of eta."""
        if not (math.isfinite(self.eta) and self.eta >= 0):
            raise ValueError(f"eta must be at least 0, not {self.eta}")

    def __call__(self, gramian: Gramian) -> tuple[float, float]:
        """(1, max(eta - kf/ff, 0))."""
        if gramian.ff == 0:
            return 1.0, 0.0
        return 1.0, max(self.eta - gramian.kf / gramian.ff, 0.0)


@dataclass(frozen=True)
class ProjectedDescent(Combination):
    """Descend both sides, the forget side without what opposes the keep side.

    Where the gradients oppose each other (kf < 0), the forget gradient's part along the keep
    gradient is projected off, g_forget - (kf/kk) g_keep, as in PCGrad (Yu et al. 2020, algorithm 1)
    for one side alone: u = (1 - forget * kf/kk, forget). Elsewhere u = (1, forget). Either way the
    update's inner product with g_keep is at least kk, as if there were no forget side.

    Args:
        forget: Factor of the projected forget gradient, above 0.
    """

    forget: float = 1.0
    forget_directions = (Direction.DESCENDED,)

    def __post_init__(self) -> None:
        """Check the factor."""
        if not (math.isfinite(self.forget) and self.forget > 0):
            raise ValueError(f"the forget factor must be above 0, not {self.forget}")

    def __call__(self, gramian: Gramian) -> tuple[float, float]:
        """(1 - forget * min(kf, 0)/kk, forget)."""
        if gramian.ff == 0:
            return 1.0, 0.0
        opposed = min(gramian.kf, 0.0) / gramian.kk if gramian.kk > 0 else 0.0
        return 1.0 - self.forget * opposed, self.forget


@dataclass(frozen=True)
class Fixed(Combination):
    """Two plain signed factors.

    Args:
        keep: Factor of the keep gradient, at least 0.
        forget: Factor of the forget gradient: negative ascends, positive descends, 0 leaves it out.
    """

    keep: float
    forget: float

    def __post_init__(self) -> None:
        """Check that the rule does something, and does not unlearn the keep set."""
        if not (math.isfinite(self.keep) and math.isfinite(self.forget)):
            raise ValueError(f"factors must be finite, not {self.keep}, {self.forget}")
        if self.keep < 0 or self.keep == self.forget == 0:
            factors = f"Fixed(keep={self.keep}, forget={self.forget})"
            raise ValueError(f"keep must be at least 0, and one factor not 0: not {factors}")

    @property
    def keep_directions(self) -> tuple[Direction, ...]:
        """Descended, or left out at factor 0."""
        return (Direction.DESCENDED,) if self.keep else (Direction.ABSENT,)

    @property
    def forget_directions(self) -> tuple[Direction, ...]:
        """By the factor's sign."""
        if self.forget == 0:
            return (Direction.ABSENT,)
        return (Direction.DESCENDED,) if self.forget > 0 else (Direction.ASCENDED,)

    @property
    def factors(self) -> tuple[float, float]:
        """The two factors."""
        return self.keep, self.forget

    def eased(self, share: float) -> Fixed:
        """A share of the forget factor."""
        return replace(self, forget=share * self.forget)

    def __call__(self, gramian: Gramian) -> tuple[float, float]:
        """The two factors, whatever the gradients."""
        return self.keep, self.forget if gramian.ff > 0 else 0.0


@dataclass(frozen=True)
class Superfactor(Combination):
    """The paper's loss as written: u = (n/(n-k), -(1+s) k/(n-k)).

    Alberti et al. 2025, equation of the SISS loss with superfactor s. With s = 0 and keep samples
    drawn from the whole training set, SISS equals naive deletion in expectation.

    Args:
        s: Superfactor; above 0 pushes the forget side harder.
        num_train: n, size of the whole training set; filled in from the data.
        num_forget: k, how many of them are to be forgotten (606 copies are 606); likewise.
    """

    s: float = 0.0
    num_train: int | None = None
    num_forget: int | None = None
    forget_directions = (Direction.ASCENDED,)

    def __post_init__(self) -> None:
        """Check ranges."""
        if not (math.isfinite(self.s) and self.s >= -1):
            raise ValueError(f"the superfactor s must be at least -1, not {self.s}")
        if (self.num_train is None) != (self.num_forget is None):
            raise ValueError("give both num_train and num_forget, or neither")
        if self.num_train is None or self.num_forget is None:
            return
        if not 0 < self.num_forget < self.num_train:
            raise ValueError(
                f"need 0 < num_forget < num_train, not {self.num_forget}, {self.num_train}"
            )

    @property
    def factors(self) -> tuple[float, float] | None:
        """The two factors, once n and k are filled in."""
        if self.num_train is None or self.num_forget is None:
            return None
        rest = self.num_train - self.num_forget
        return self.num_train / rest, -(1 + self.s) * self.num_forget / rest

    def with_counts(self, num_train: int, num_forget: int) -> Superfactor:
        """The rule with n and k filled in, where they were not given by hand."""
        if self.num_train is not None:
            return self
        return replace(self, num_train=num_train, num_forget=num_forget)

    def __call__(self, gramian: Gramian) -> tuple[float, float]:
        """(n/(n-k), -(1+s) k/(n-k))."""
        factors = self.factors
        if factors is None:
            raise ValueError("Superfactor needs n and k: call with_counts(num_train, num_forget)")
        return factors[0], factors[1] if gramian.ff > 0 else 0.0
