"""The gradient engine: rows in, the two sides' gradients out.

Only this module decides how rows are run. Rows are sorted into keep-only, two-sided and forget-only
ones; micro-batches never mix the kinds, so one-sided rows pay one backward pass and rows without
any side pay nothing. Each side has its own float32 buffer: neither gradient is ever recovered by
subtracting from the other, which loses everything once one side is much larger. A buffer is one
stretch of memory for all parameters, so that what is done with a whole gradient takes a few kernels
instead of some for each of hundreds of parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn

from dataunlearn.rows import Rows, Term
from dataunlearn.runtime.memory import is_out_of_memory
from dataunlearn.runtime.seeding import mix_seed
from dataunlearn.training.config import Precision
from dataunlearn.training.networks import (
    Networks,
    Side,
    both_sides,
    gradients_of,
    keeping_the_graph,
    num_asking,
    one_side,
)
from dataunlearn.training.parts import own_part
from dataunlearn.training.two_gradients import PassCounts, TwoGradients, views_like

if TYPE_CHECKING:
    from accelerate import Accelerator

NEGLIGIBLE_WEIGHT = 1e-6


def trainable(denoiser: nn.Module) -> list[nn.Parameter]:
    """The parameters that the engine differentiates, in a fixed order."""
    return [param for param in denoiser.parameters() if param.requires_grad]


def changing_state(denoiser: nn.Module) -> dict[str, Tensor]:
    """The state that training changes: all but the frozen parameters, not copied."""
    frozen = {name for name, param in denoiser.named_parameters() if not param.requires_grad}
    return {name: value for name, value in denoiser.state_dict().items() if name not in frozen}


def drop_negligible(term: Term, share: float) -> tuple[Term, int]:
    """Zero the weights below ``share`` of the side's largest.

    Returns:
        The term, and how many non-zero weights were dropped.
    """
    largest = term.weight.max() if len(term.weight) else term.weight.sum()
    negligible = (term.weight != 0) & (term.weight < share * largest)
    kept = torch.where(negligible, torch.zeros_like(term.weight), term.weight)
    return replace(term, weight=kept), int(negligible.sum())


def micro_batches(
    rows: Rows, size: int, rank: int, num_processes: int, *, mixed: bool = False
) -> Iterator[Tensor]:
    """Row indices of this process's micro-batches, none of which mixes row kinds if not ``mixed``.

    Rows without weight are in none.
    """
    for kind in rows.kinds(mixed=mixed):
        own = kind.nonzero().flatten()[rank::num_processes]
        if len(own):
            yield from torch.split(own, min(size, len(own)))


@dataclass(eq=False)
class GradientEngine:
    """Runs rows through a denoiser: ``engine(denoiser, rows) -> TwoGradients``.

    Args:
        micro_batch_rows: Most rows in one forward pass; halved for good when memory runs out.
        negligible_weight: Terms below this share of their side's largest weight are dropped.
        precision: Autocast type of the forward pass; gradients stay float32, norms are float64.
        accelerator: An ``accelerate.Accelerator`` to share rows among processes, or None.
        on_shrink: Called with the new micro-batch size when memory ran out.
    """

    micro_batch_rows: int = 64
    negligible_weight: float = NEGLIGIBLE_WEIGHT
    precision: Precision = "float32"
    accelerator: Accelerator | None = None
    on_shrink: Callable[[int], None] | None = field(default=None, repr=False)

    gradients: ClassVar[type[TwoGradients]] = TwoGradients  # what it returns

    def __call__(
        self,
        denoiser: nn.Module,
        rows: Rows,
        seed: int = 0,
        frozen: nn.Module | None = None,
        factors: tuple[float, float] | None = None,
    ) -> TwoGradients:
        """Gradients of both side losses.

        Every process is given the same global rows and runs its share; one all-reduce per side
        makes the result global. Where the weights of both gradients are known beforehand, all rows
        go through one backward pass, which gives their weighted sum.

        Args:
            denoiser: The adapter ``(noisy, t, cond) -> prediction``.
            rows: The step's rows; they may live on another device than the denoiser.
            seed: Seeds dropout inside the denoiser, together with the micro-batch's index.
            frozen: The denoiser that the rows' questions go to; None where they have none.
            factors: The two gradients' weights, if they do not depend on the gradients.

        Returns:
            The gradients, equal on every process.

        Raises:
            ValueError: If a row asks and there is nobody to ask.
        """
        params = trainable(denoiser)
        keep, dropped_keep = drop_negligible(rows.keep, self.negligible_weight)
        forget, dropped_forget = drop_negligible(rows.forget, self.negligible_weight)
        rows = replace(rows, keep=keep, forget=forget).over_pairs()
        in_one_pass = factors is not None and 0 not in factors
        result = self._empty([own_part(param.detach()) for param in params], rows, in_one_pass)
        result.counts.terms_dropped = dropped_keep + dropped_forget
        networks = Networks(denoiser, params, frozen, factors if in_one_pass else None)
        rank, _ = self._place()
        for index, chunk in enumerate(self._shares(rows, in_one_pass)):
            with torch.random.fork_rng():
                torch.manual_seed(mix_seed(seed, rank, index))
                self._run(networks, rows, chunk, result)
        return self._reduce(result, rows)

    def _place(self) -> tuple[int, int]:
        if self.accelerator is None:
            return 0, 1
        return self.accelerator.process_index, self.accelerator.num_processes

    def _shares(self, rows: Rows, in_one_pass: bool) -> Iterator[Tensor]:
        """Row indices of this process's micro-batches."""
        return micro_batches(rows, self.micro_batch_rows, *self._place(), mixed=in_one_pass)

    def _empty(self, parts: Sequence[Tensor], rows: Rows, in_one_pass: bool) -> TwoGradients:
        """No gradients yet, of this process's parts of the parameters."""
        size = sum(part.numel() for part in parts)
        keep = torch.zeros(size, device=parts[0].device)
        forget = keep.new_zeros(0 if in_one_pass else size)
        losses = keep.new_zeros(len(rows))
        return self.gradients(
            keep,
            forget,
            views_like(parts, keep),
            [] if in_one_pass else views_like(parts, forget),
            losses,
            losses.clone(),
            PassCounts(rows=len(rows)),
        )

    def _run(self, networks: Networks, rows: Rows, chunk: Tensor, result: TwoGradients) -> None:
        """Add one micro-batch, in smaller ones where it does not fit into memory."""
        if len(chunk) > self.micro_batch_rows:  # cut before memory ran out
            for part in torch.split(chunk, self.micro_batch_rows):
                self._run(networks, rows, part, result)
            return
        try:
            sides = self._differentiate(networks, rows.take(chunk))
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error) or len(chunk) == 1:
                raise
            self.micro_batch_rows = (len(chunk) + 1) // 2
            if self.on_shrink is not None:
                self.on_shrink(self.micro_batch_rows)
        else:
            self._add(sides, chunk, result)
            result.counts.teacher_rows += num_asking(rows.take(chunk))
            return
        self._run(networks, rows, chunk, result)

    def _differentiate(self, networks: Networks, rows: Rows) -> tuple[Side | None, Side | None]:
        """The keep and the forget side; None for a side without weight."""
        # Asked where the rows were drawn, on the CPU, so that the device is not waited for.
        present = [bool((term.weight != 0).any()) for term in (rows.keep, rows.forget)]
        device = networks.params[0].device
        rows = rows.to(device)
        with self._autocast(device):
            keep, forget = (
                networks.answered(term, rows) if there else None
                for term, there in zip((rows.keep, rows.forget), present, strict=True)
            )
            prediction = networks.denoiser(rows.inputs, rows.t, rows.cond)
        if networks.factors is not None:
            return both_sides(networks.params, prediction, (keep, forget), networks.factors)
        first = gradients_of if forget is None else keeping_the_graph
        return (
            one_side(networks.params, prediction, keep, first),
            one_side(networks.params, prediction, forget),
        )

    def _autocast(self, device: torch.device) -> torch.autocast:
        return torch.autocast(
            device.type, dtype=torch.bfloat16, enabled=self.precision == "bfloat16"
        )

    @staticmethod
    def _add(sides: tuple[Side | None, Side | None], chunk: Tensor, result: TwoGradients) -> None:
        targets = ((result.keep, result.keep_losses), (result.forget, result.forget_losses))
        result.counts.forward_passes += 1
        result.counts.forward_rows += len(chunk)
        for side, (buffers, losses) in zip(sides, targets, strict=True):
            if side is None:
                continue
            losses[chunk.to(losses.device)] = side.losses
            if not side.gradients:
                continue
            torch._foreach_add_(buffers, [grad.float() for grad in side.gradients])
            result.counts.backward_passes += 1
            result.counts.backward_rows += len(chunk)

    def _reduce(self, result: TwoGradients, rows: Rows) -> TwoGradients:
        """Sum both sides over all processes: one all-reduce for each side that has rows."""
        if self.accelerator is None or self.accelerator.num_processes == 1:
            return result
        for buffer, losses, term in (
            (result.flat_keep, result.keep_losses, rows.keep),
            (result.flat_forget, result.forget_losses, rows.forget),
        ):
            if not result.in_one_pass and not bool((term.weight != 0).any()):
                continue  # every process sees the same global rows, so all skip together
            summed = self.accelerator.reduce(torch.cat([buffer, losses]), reduction="sum")
            buffer.copy_(summed[: len(buffer)])
            losses.copy_(summed[len(buffer) :])
        return result
