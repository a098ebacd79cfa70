"""The log of a run: one JSON object per step, one per line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dataunlearn.checkpoint import write_atomically
from dataunlearn.process import ForwardProcess
from dataunlearn.rows import Rows

NUM_BUCKETS = 10


class StepLog:
    """Appends a record per step to ``path``; None keeps the records in memory alone.

    A resumed run drops the records of steps that it will do again.
    """

    def __init__(self, path: Path | None, resume_step: int = 0) -> None:
        self.path = path
        self.records = [record for record in self._read() if record["step"] <= resume_step]
        if path is not None:
            lines = "".join(json.dumps(record) + "\n" for record in self.records)
            write_atomically(path, lines.encode())

    def _read(self) -> list[dict[str, Any]]:
        return read_log(self.path) if self.path is not None and self.path.is_file() else []

    def append(self, record: dict[str, Any]) -> None:
        """Add one record and flush it."""
        self.records.append(record)
        if self.path is not None:
            with self.path.open("a") as file:
                file.write(json.dumps(record) + "\n")


def read_log(path: Path) -> list[dict[str, Any]]:
    """All complete records of a log; a last line that was cut off is left out."""
    records = []
    for line in path.read_text().splitlines():
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return records


def effective_sample_size(weights: Tensor) -> float | None:
    """Kish's effective sample size as a share of the rows, (sum w)^2 / (n sum w^2), in (0, 1].

    None where all weights are zero.
    """
    squares = weights.double().square().sum()
    if squares == 0:
        return None
    return float(weights.double().sum().square() / (len(weights) * squares))


def sample_size_by_bucket(
    weights: Tensor, t: Tensor, process: ForwardProcess
) -> dict[str, float | None]:
    """Effective sample size of one side's weights in each tenth of the timesteps.

    Args:
        weights: Row weights ``(R,)``.
        t: Row timesteps ``(R,)``.
        process: Gives the range of timesteps.

    Returns:
        {"0-99": share, ...}, for the buckets that hold at least one row.
    """
    width = -(-process.num_train_timesteps // NUM_BUCKETS)
    buckets = (t - process.first_timestep).long() // width
    sizes = {}
    for bucket in torch.unique(buckets).tolist():
        low = process.first_timestep + bucket * width
        name = f"{low}-{min(low + width - 1, process.last_timestep)}"
        sizes[name] = effective_sample_size(weights[buckets == bucket])
    return sizes


def weight_record(rows: Rows, process: ForwardProcess) -> dict[str, Any]:
    """Effective sample sizes of both sides, for the log."""
    t = rows.t.cpu()
    return {
        "ess_keep": sample_size_by_bucket(rows.keep.weight.cpu(), t, process),
        "ess_forget": sample_size_by_bucket(rows.forget.weight.cpu(), t, process),
    }
