"""What the gradient engine returns: both sides' gradients, and what they cost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from dataunlearn.gramian import Gramian, products_of
from dataunlearn.rows import Rows

DOT_ELEMENTS = 2**24  # inner products are taken in float64, a copy of so many elements at a time


class NonFiniteError(ArithmeticError):
    """A loss or gradient became infinite or not a number."""


@dataclass
class PassCounts:
    """What a step cost: forward and backward passes, in micro-batches and in rows.

    Rows that ask the frozen model cost it a forward pass besides: ``teacher_rows``.
    """

    rows: int = 0
    terms_dropped: int = 0
    forward_passes: int = 0
    backward_passes: int = 0
    forward_rows: int = 0
    backward_rows: int = 0
    teacher_rows: int = 0


@dataclass(frozen=True, eq=False)
class TwoGradients:
    """Gradients of the two side losses over the trainable parameters.

    Attributes:
        flat_keep: All parameters' gradients one after another, ``(P,)`` float32; of a single
            backward pass the weighted sum of both sides'.
        flat_forget: Likewise; ``(0,)`` after a single backward pass.
        keep: The same memory as one tensor per parameter.
        forget: Likewise.
        keep_losses: Each row's share of the keep loss, ``(R,)``, in the rows' order.
        forget_losses: Likewise for the forget loss.
        counts: What the step cost on this process.
    """

    flat_keep: Tensor
    flat_forget: Tensor
    keep: list[Tensor]
    forget: list[Tensor]
    keep_losses: Tensor
    forget_losses: Tensor
    counts: PassCounts

    @property
    def in_one_pass(self) -> bool:
        """Whether the keep gradient already is the weighted sum of both."""
        return not len(self.flat_forget)

    def gramian(self) -> Gramian:
        """Inner products of the two gradients; with 0 for the second one after a single pass."""
        return self._of_both(Gramian(*self.products().tolist()))

    def products(self) -> Tensor:
        """The Gramian's three numbers, float64 ``(3,)``, on the gradients' device."""
        return products_of(*self._pieces())

    def with_losses_here(self) -> tuple[TwoGradients, Gramian]:
        """The same with the losses on the CPU, and the Gramian.

        One transfer brings all that a step wants to know of the device, which is waited for once.
        """
        numbers = [self.products(), self.keep_losses.double(), self.forget_losses.double()]
        brought, keep, forget = torch.split(torch.cat(numbers).cpu(), [len(n) for n in numbers])
        here = replace(self, keep_losses=keep.float(), forget_losses=forget.float())
        return here, self._of_both(Gramian(*brought.tolist()))

    def _pieces(self) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
        keep = torch.split(self.flat_keep, DOT_ELEMENTS)
        return keep, keep if self.in_one_pass else torch.split(self.flat_forget, DOT_ELEMENTS)

    def _of_both(self, found: Gramian) -> Gramian:
        return Gramian(found.kk, 0.0, 0.0) if self.in_one_pass else found

    def write(self, params: Sequence[nn.Parameter], u_keep: float, u_forget: float) -> None:
        """Set each parameter's ``.grad`` to u_keep * keep + u_forget * forget.

        After a single backward pass the sum is there already.
        """
        combined = self.combined(u_keep, u_forget)
        for param, grad in zip(params, views_like(params, combined), strict=True):
            param.grad = grad.to(param.dtype)

    def combined(self, u_keep: float, u_forget: float) -> Tensor:
        """u_keep * keep + u_forget * forget, ``(P,)``; what one backward pass gave is that."""
        if self.in_one_pass:
            return self.flat_keep
        return torch.add(u_keep * self.flat_keep, self.flat_forget, alpha=u_forget)

    def require_finite(self, gramian: Gramian, rows: Rows, step: int) -> None:
        """Stop on a non-finite loss or gradient.

        Raises:
            NonFiniteError: Naming the step, and the rows and timesteps at fault where a row's loss
                is to blame.
        """
        losses = self.keep_losses + self.forget_losses
        finite = all(math.isfinite(value) for value in (gramian.kk, gramian.kf, gramian.ff))
        if finite and math.isfinite(float(losses.sum(dtype=torch.float64))):
            return
        bad = (~losses.isfinite()).nonzero().flatten().tolist()
        where = "the rows' losses are finite, the backward pass is not"
        if bad:
            timesteps = [int(rows.t[row]) for row in bad]
            where = f"rows {bad[:16]} at timesteps {timesteps[:16]}"
        raise NonFiniteError(
            f"step {step}: non-finite loss or gradient ({where}). The model on disk is unharmed. "
            "Lower the learning rate, use float32, or keep lam away from 0 and 1"
        )


def views_like(params: Sequence[Tensor], flat: Tensor) -> list[Tensor]:
    """Views of ``flat (P,)``, one of each parameter's shape, in their order."""
    parts = torch.split(flat, [param.numel() for param in params])
    return [part.view_as(param) for part, param in zip(parts, params, strict=True)]
