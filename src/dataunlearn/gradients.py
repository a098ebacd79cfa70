"""The gradient engine: rows in, the two sides' gradients out.

Only this module decides how rows are run. Rows are sorted into keep-only, two-sided and forget-only
ones; micro-batches never mix the kinds, so one-sided rows pay one backward pass and rows without
any side pay nothing. Each side has its own float32 buffer: neither gradient is ever recovered by
subtracting from the other, which loses everything once one side is much larger. A buffer is one
stretch of memory for all parameters, so that what is done with a whole gradient takes a few kernels
instead of some for each of hundreds of parameters.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from dataunlearn.combine import Gramian, gramian_of
from dataunlearn.rows import Rows, Term
from dataunlearn.seeding import mix_seed

Precision = Literal["float32", "bfloat16"]
NEGLIGIBLE_WEIGHT = 1e-6
DOT_ELEMENTS = 2**24  # inner products are taken in float64, a copy of so many elements at a time


class NonFiniteError(ArithmeticError):
    """A loss or gradient became infinite or not a number."""


@dataclass
class PassCounts:
    """What a step cost: forward and backward passes, in micro-batches and in rows."""

    rows: int = 0
    terms_dropped: int = 0
    forward_passes: int = 0
    backward_passes: int = 0
    forward_rows: int = 0
    backward_rows: int = 0


@dataclass(frozen=True, eq=False)
class TwoGradients:
    """Gradients of the two side losses over the trainable parameters.

    Attributes:
        flat_keep: All parameters' gradients one after another, ``(P,)`` float32.
        flat_forget: Likewise.
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

    def gramian(self) -> Gramian:
        """Inner products of the two gradients."""
        pieces = (torch.split(flat, DOT_ELEMENTS) for flat in (self.flat_keep, self.flat_forget))
        return gramian_of(*pieces)

    def write(self, params: Sequence[nn.Parameter], u_keep: float, u_forget: float) -> None:
        """Set each parameter's ``.grad`` to u_keep * keep + u_forget * forget."""
        combined = torch.add(u_keep * self.flat_keep, self.flat_forget, alpha=u_forget)
        for param, grad in zip(params, views_like(params, combined), strict=True):
            param.grad = grad.to(param.dtype)

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


def trainable(denoiser: nn.Module) -> list[nn.Parameter]:
    """The parameters that the engine differentiates, in a fixed order."""
    return [param for param in denoiser.parameters() if param.requires_grad]


def views_like(params: Sequence[Tensor], flat: Tensor) -> list[Tensor]:
    """Views of ``flat (P,)``, one of each parameter's shape, in their order."""
    parts = torch.split(flat, [param.numel() for param in params])
    return [part.view_as(param) for part, param in zip(parts, params, strict=True)]


def drop_negligible(term: Term, share: float) -> tuple[Term, int]:
    """Zero the weights below ``share`` of the side's largest.

    Returns:
        The term, and how many non-zero weights were dropped.
    """
    largest = term.weight.max() if len(term.weight) else term.weight.sum()
    negligible = (term.weight != 0) & (term.weight < share * largest)
    kept = torch.where(negligible, torch.zeros_like(term.weight), term.weight)
    return replace(term, weight=kept), int(negligible.sum())


def micro_batches(rows: Rows, size: int, rank: int, num_processes: int) -> Iterator[Tensor]:
    """Row indices of this process's micro-batches, none of which mixes row kinds."""
    has_keep, has_forget = rows.keep.weight != 0, rows.forget.weight != 0
    kinds = (has_keep & ~has_forget, has_keep & has_forget, has_forget & ~has_keep)
    for kind in kinds:
        own = kind.nonzero().flatten()[rank::num_processes]
        if len(own):
            yield from torch.split(own, size)


def row_losses(prediction: Tensor, term: Term, num_pairs: int) -> Tensor:
    """Weighted squared error of each row, summed over dimensions, over ``num_pairs``: ``(r,)``."""
    squares = (prediction.float() - term.target.float()).square().flatten(1).sum(dim=1)
    return term.weight * squares / num_pairs


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception means that the device (or the host) ran out of memory."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(
        text in str(error) for text in ("out of memory", "can't allocate memory")
    )


@dataclass(eq=False)
class GradientEngine:
    """Runs rows through a denoiser: ``engine(denoiser, rows) -> TwoGradients``.

    Args:
        micro_batch_rows: Most rows in one forward pass; halved for good when memory runs out.
        negligible_weight: Terms below this share of their side's largest weight are dropped.
        precision: Autocast type of the forward pass; gradients and norms stay float32.
        accelerator: An ``accelerate.Accelerator`` to share rows among processes, or None.
        on_shrink: Called with the new micro-batch size when memory ran out.
    """

    micro_batch_rows: int = 64
    negligible_weight: float = NEGLIGIBLE_WEIGHT
    precision: Precision = "float32"
    accelerator: Any = None
    on_shrink: Any = field(default=None, repr=False)

    def __call__(self, denoiser: nn.Module, rows: Rows, seed: int = 0) -> TwoGradients:
        """Gradients of both side losses.

        Every process is given the same global rows and runs its share; one all-reduce per side
        makes the result global.

        Args:
            denoiser: The adapter ``(noisy, t, cond) -> prediction``.
            rows: The step's rows; they may live on another device than the denoiser.
            seed: Seeds dropout inside the denoiser, together with the micro-batch's index.

        Returns:
            The gradients, equal on every process.
        """
        params = trainable(denoiser)
        keep, dropped_keep = drop_negligible(rows.keep, self.negligible_weight)
        forget, dropped_forget = drop_negligible(rows.forget, self.negligible_weight)
        rows = replace(rows, keep=keep, forget=forget)
        result = self._empty(params, rows)
        result.counts.terms_dropped = dropped_keep + dropped_forget
        rank, processes = self._place()
        for index, chunk in enumerate(micro_batches(rows, self.micro_batch_rows, rank, processes)):
            with torch.random.fork_rng():
                torch.manual_seed(mix_seed(seed, rank, index))
                self._run(denoiser, params, rows, chunk, result)
        return self._reduce(result, rows)

    def _place(self) -> tuple[int, int]:
        if self.accelerator is None:
            return 0, 1
        return self.accelerator.process_index, self.accelerator.num_processes

    @staticmethod
    def _empty(params: Sequence[nn.Parameter], rows: Rows) -> TwoGradients:
        device = params[0].device
        size = sum(param.numel() for param in params)
        keep, forget = (torch.zeros(size, device=device) for _ in range(2))
        losses = torch.zeros(len(rows), device=device)
        counts = PassCounts(rows=len(rows))
        return TwoGradients(
            keep,
            forget,
            views_like(params, keep),
            views_like(params, forget),
            losses,
            losses.clone(),
            counts,
        )

    def _run(
        self,
        denoiser: nn.Module,
        params: Sequence[nn.Parameter],
        rows: Rows,
        chunk: Tensor,
        result: TwoGradients,
    ) -> None:
        """Add one micro-batch, in smaller ones where it does not fit into memory."""
        if len(chunk) > self.micro_batch_rows:  # cut before memory ran out
            for part in torch.split(chunk, self.micro_batch_rows):
                self._run(denoiser, params, rows, part, result)
            return
        try:
            sides = self._differentiate(denoiser, params, rows.take(chunk))
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error) or len(chunk) == 1:
                raise
            self.micro_batch_rows = (len(chunk) + 1) // 2
            if self.on_shrink is not None:
                self.on_shrink(self.micro_batch_rows)
        else:
            self._add(sides, chunk, result)
            return
        self._run(denoiser, params, rows, chunk, result)

    def _differentiate(
        self, denoiser: nn.Module, params: Sequence[nn.Parameter], rows: Rows
    ) -> list[tuple[Tensor, tuple[Tensor, ...]] | None]:
        """Per side the row losses and gradients, or None for a side without weight."""
        # Asked where the rows were drawn, on the CPU, so that the device is not waited for.
        present = [bool((term.weight != 0).any()) for term in (rows.keep, rows.forget)]
        device = params[0].device
        rows = rows.to(device)
        with torch.autocast(
            device.type, dtype=torch.bfloat16, enabled=self.precision == "bfloat16"
        ):
            prediction = denoiser(rows.inputs, rows.t, rows.cond)
        sides: list[tuple[Tensor, tuple[Tensor, ...]] | None] = []
        for number, term in enumerate((rows.keep, rows.forget)):
            if not present[number]:
                sides.append(None)
                continue
            losses = row_losses(prediction, term, rows.num_pairs)
            another_follows = number == 0 and present[1]
            grads = torch.autograd.grad(
                losses.sum(), params, retain_graph=another_follows, materialize_grads=True
            )
            sides.append((losses.detach(), grads))
        return sides

    @staticmethod
    def _add(
        sides: list[tuple[Tensor, tuple[Tensor, ...]] | None], chunk: Tensor, result: TwoGradients
    ) -> None:
        targets = ((result.keep, result.keep_losses), (result.forget, result.forget_losses))
        result.counts.forward_passes += 1
        result.counts.forward_rows += len(chunk)
        for side, (buffers, losses) in zip(sides, targets, strict=True):
            if side is None:
                continue
            torch._foreach_add_(buffers, [grad.float() for grad in side[1]])
            losses[chunk.to(losses.device)] = side[0]
            result.counts.backward_passes += 1
            result.counts.backward_rows += len(chunk)

    def _reduce(self, result: TwoGradients, rows: Rows) -> TwoGradients:
        """Sum both sides over all processes: one all-reduce for each side that has rows."""
        if self._place()[1] == 1:
            return result
        for buffer, losses, term in (
            (result.flat_keep, result.keep_losses, rows.keep),
            (result.flat_forget, result.forget_losses, rows.forget),
        ):
            if not bool((term.weight != 0).any()):
                continue  # every process sees the same global rows, so all skip together
            summed = self.accelerator.reduce(torch.cat([buffer, losses]), reduction="sum")
            buffer.copy_(summed[: len(buffer)])
            losses.copy_(summed[len(buffer) :])
        return result
