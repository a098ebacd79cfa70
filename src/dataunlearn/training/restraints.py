"""What holds parameters back while others learn: a mask, and an anchor."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from dataunlearn.runtime.checks import require
from dataunlearn.training.two_gradients import TwoGradients, views_like

Importance = Literal["fisher", "equal"]


@dataclass(frozen=True)
class SaliencyMask:
    """Let those parameters alone move that the forget images' loss depends on most.

    SalUn's mask (Fan et al. 2024, arXiv 2310.12508), for any method: the parameters with the
    largest gradients of the forget images' denoising loss before the first step. All others end
    exactly as they were.

    Args:
        share: Share of the parameters that may move.
    """

    share: float = 0.5

    def __post_init__(self) -> None:
        """Check the share."""
        require(0 < self.share < 1, f"saliency.share must lie in (0, 1), not {self.share}")


@dataclass(frozen=True)
class Anchor:
    """Draw parameters back to where they were: adds weight * sum_i F_i (p_i - p*_i)^2 to the loss.

    Selective Amnesia's penalty (Heng and Soh 2023, arXiv 2305.10120). F_i says how much a
    parameter matters for what the model predicts of pictures to keep: the diagonal of the
    Gauss-Newton matrix, the mean of sum_d (dprediction_d / dp_i)^2, which is the Fisher information
    of predictions with unit variance. Weighted by it, the penalty approximates how far predictions
    for pictures to keep have moved, so that at weight 1 it counts about as much as a keep loss
    towards the first predictions.

    Args:
        weight: How much the penalty counts.
        importance: "fisher" weighs each parameter by F_i, "equal" all of them by its mean: plain
            drift of the weights.
    """

    weight: float = 1.0
    importance: Importance = "fisher"

    def __post_init__(self) -> None:
        """Check ranges."""
        good = math.isfinite(self.weight) and self.weight > 0
        require(good, f"anchor.weight must be above 0, not {self.weight}")


@dataclass(frozen=True, eq=False)
class Restraint:
    """The same for a run's P trainable parameters, one after another.

    Attributes:
        start: Their values before the first step, ``(P,)``; None without a mask.
        movable: Which may move, ``(P,)`` bool; None for all.
        centre: What an anchor draws them to, ``(P,)``; None without one.
        pull: Its strength, weight * F, ``(P,)``; 0 for those that may not move.
    """

    start: Tensor | None = None
    movable: Tensor | None = None
    centre: Tensor | None = None
    pull: Tensor | None = None

    def mask(self, gradients: TwoGradients) -> None:
        """Set the gradients of parameters that may not move to 0, so that no length counts them."""
        if self.movable is None:
            return
        for flat in (gradients.flat_keep, gradients.flat_forget):
            if len(flat):
                flat.mul_(self.movable)

    @torch.no_grad()
    def draw_back(self, params: Sequence[nn.Parameter]) -> None:
        """Add the anchor's gradient, 2 * pull * (p - p*), to each parameter's ``.grad``."""
        if self.centre is None or self.pull is None:
            return
        kinds = (views_like(params, self.pull), views_like(params, self.centre))
        for param, pull, centre in zip(params, *kinds, strict=True):
            assert param.grad is not None
            param.grad.add_(2 * pull * (param - centre))

    @torch.no_grad()
    def hold(self, params: Sequence[nn.Parameter]) -> None:
        """Put parameters that may not move back to where they were: weight decay moved them."""
        if self.movable is None or self.start is None:
            return
        kinds = (views_like(params, self.movable), views_like(params, self.start))
        for param, movable, start in zip(params, *kinds, strict=True):
            param.copy_(torch.where(movable, param, start))

    def tensors(self) -> Iterator[Tensor]:
        """All of them, for processes to share."""
        for value in (self.start, self.movable, self.centre, self.pull):
            if value is not None:
                yield value


def most_salient(gradient: Tensor, share: float) -> Tensor:
    """Which entries of ``gradient (P,)`` are among the largest ``share``, ``(P,)`` bool.

    Entries of 0 never are, and entries as large as the smallest one that is are too.
    """
    sizes = gradient.abs()
    count = max(1, round(share * len(sizes)))
    smallest = sizes.kthvalue(len(sizes) - count + 1).values
    return (sizes >= smallest) & (sizes > 0)


def flat(params: Sequence[Tensor]) -> Tensor:
    """Parameters one after another, ``(P,)`` float32, copied."""
    return torch.cat([param.detach().flatten().float() for param in params])
