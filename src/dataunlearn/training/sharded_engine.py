"""The gradient engine for networks in parts: each process holds a part of both gradients.

Running a network in parts takes all processes at once, so each runs as many micro-batches as the
others, in the same order: one that is short of a row runs another's, which counts for nothing. A
pass that has run backward has let go of the weights it had gathered, so that rows of both sides run
forward once for each.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
import torch.distributed
from torch import Tensor, nn

from dataunlearn.rows import Rows, Term
from dataunlearn.runtime.memory import is_out_of_memory
from dataunlearn.training.engine import GradientEngine
from dataunlearn.training.networks import Networks, Side, both_sides, num_asking, one_side
from dataunlearn.training.parts import as_gradients, own_part
from dataunlearn.training.two_gradients import TwoGradients, views_like


@dataclass(frozen=True, eq=False)
class ShardedGradients(TwoGradients):
    """Both gradients, of which each process holds its part."""

    def products(self) -> Tensor:
        """The Gramian's three numbers, of all parts together."""
        found = super().products()
        torch.distributed.all_reduce(found)
        return found

    def write(self, params: Sequence[nn.Parameter], u_keep: float, u_forget: float) -> None:
        """Set each parameter's ``.grad``, in parts as the parameter is."""
        parts = views_like([own_part(p) for p in params], self.combined(u_keep, u_forget))
        as_gradients(params, parts)


class ShardedEngine(GradientEngine):
    """As the engine, for a denoiser and a frozen copy in parts."""

    gradients = ShardedGradients

    def _shares(self, rows: Rows, in_one_pass: bool) -> Iterator[Tensor]:
        """Row indices of this process's micro-batches; -1 - i is a row i that another one runs."""
        rank, num_processes = self._place()
        for kind in rows.kinds(mixed=in_one_pass):
            row = kind.nonzero().flatten()
            if not len(row):
                continue
            own = row[rank::num_processes]
            short = -(-len(row) // num_processes) - len(own)
            yield from torch.split(
                torch.cat([own, (-1 - row[:1]).repeat(short)]), self.micro_batch_rows
            )

    def _run(self, networks: Networks, rows: Rows, chunk: Tensor, result: TwoGradients) -> None:
        """Add one micro-batch, of which every process has one."""
        real = chunk >= 0
        taken = rows.take(torch.where(real, chunk, -1 - chunk))
        # Whether a side is there is what all find: of one kind of rows, or of the step's.
        asked = rows if result.in_one_pass else taken
        present = [bool((term.weight != 0).any()) for term in (asked.keep, asked.forget)]
        keep, forget = (_counting(term, real) for term in (taken.keep, taken.forget))
        try:
            sides = self._sides(networks, replace(taken, keep=keep, forget=forget), present)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise MemoryError(
                f"{len(chunk)} rows of a network in parts do not fit into memory: lower "
                f"--micro_batch_rows, which is {self.micro_batch_rows}"
            ) from error
        brought = [
            None if s is None else Side(s.losses[real.to(s.losses.device)], s.gradients)
            for s in sides
        ]
        self._add((brought[0], brought[1]), chunk[real], result)
        result.counts.teacher_rows += num_asking(rows.take(chunk[real]))

    def _sides(self, networks: Networks, rows: Rows, present: Sequence[bool]) -> list[Side | None]:
        """The keep and the forget side; of one pass the first one holds both sides' gradients."""
        device = own_part(networks.params[0].detach()).device
        rows, factors = rows.to(device), networks.factors
        with self._autocast(device):
            terms = [
                networks.answered(term, rows, by_all=True) if there else None
                for term, there in zip((rows.keep, rows.forget), present, strict=True)
            ]
        if factors is not None:
            with self._autocast(device):
                prediction = networks.denoiser(rows.inputs, rows.t, rows.cond)
            given = (terms[0], terms[1])
            return list(both_sides(networks.params, prediction, given, factors, _gradients_of))
        sides: list[Side | None] = []
        for term in terms:
            if term is None:
                sides.append(None)
                continue
            with torch.random.fork_rng(), self._autocast(device):  # both passes drop out the same
                prediction = networks.denoiser(rows.inputs, rows.t, rows.cond)
            sides.append(one_side(networks.params, prediction, term, _gradients_of))
        return sides

    def _reduce(self, result: TwoGradients, rows: Rows) -> TwoGradients:
        """The losses of all processes; the gradients are summed already."""
        for losses in (result.keep_losses, result.forget_losses):
            torch.distributed.all_reduce(losses)
        return result


def _counting(term: Term, real: Tensor) -> Term:
    """A side of which some rows count for nothing."""
    return replace(term, weight=term.weight * real.to(term.weight))


def _gradients_of(loss: Tensor, params: Sequence[nn.Parameter]) -> Sequence[Tensor]:
    """This process's parts of all processes' gradient; a backward pass alone knows of parts."""
    for param in params:
        param.grad = None  # the last step's
    torch.autograd.backward([loss])
    found = []
    for param in params:
        grad = param.grad
        found.append(torch.zeros_like(own_part(param.detach())) if grad is None else own_part(grad))
        param.grad = None
    return found
