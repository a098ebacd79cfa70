"""The log of a run: one JSON object per step, one per line."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

from dataunlearn.gramian import Gramian
from dataunlearn.process import ForwardProcess
from dataunlearn.rows import Rows
from dataunlearn.runtime.disk import writing
from dataunlearn.runtime.files import parse_log, read_log, write_atomically
from dataunlearn.runtime.sealed import DamagedFileWarning
from dataunlearn.training.importance_weights import weight_record
from dataunlearn.training.two_gradients import TwoGradients


class StepLog:
    """Appends a record per step to ``path``; None keeps the records in memory alone.

    A resumed run drops the records of steps that it will do again.

    Args:
        path: The log.
        resume_step: Steps that are done.
        kept: The log as the checkpoint has it that the run goes on from; where it is missing, or
            None, the log itself is read.
    """

    def __init__(self, path: Path | None, resume_step: int = 0, kept: str | None = None) -> None:
        self.path = path
        there = _read(path)
        known = there if kept is None else parse_log(kept.encode())[0]
        self.records = [record for record in known if record["step"] <= resume_step]
        if path is not None:
            _tell_damage(path, self.records, there, resume_step)
            write_atomically(path, self.text().encode())

    def text(self, unlogged: dict[str, Any] | None = None) -> str:
        """All records, as the file holds them; with one that is still to be appended."""
        records = self.records if unlogged is None else [*self.records, unlogged]
        return "".join(json.dumps(record) + "\n" for record in records)

    def append(self, record: dict[str, Any]) -> None:
        """Add one record and flush it.

        Raises:
            DiskFullError: If there is no room for it.
        """
        self.records.append(record)
        if self.path is not None:
            line = json.dumps(record) + "\n"
            with writing(self.path.name, self.path.parent, len(line)), self.path.open("a") as file:
                file.write(line)


def _read(path: Path | None) -> list[dict[str, Any]]:
    if path is None or not path.is_file():
        return []
    return read_log(path)


def _tell_damage(
    path: Path, records: list[dict[str, Any]], there: list[dict[str, Any]], step: int
) -> None:
    """Warn if the log on disk is not what it should be up to the step that a run goes on from."""
    if len(records) < step:
        words = f"{path} is damaged: it lacks steps {len(records) + 1} to {step}."
    elif there[: len(records)] != records:
        words = f"{path} is damaged: its copy in the checkpoint is taken."
    else:
        return
    warnings.warn(words, DamagedFileWarning, stacklevel=3)


def step_record(
    rows: Rows, gradients: TwoGradients, gramian: Gramian, process: ForwardProcess
) -> dict[str, Any]:
    """What a step's gradients were: losses, lengths, what they cost, and the rows' weights."""
    apart = not gradients.in_one_pass
    return {
        "loss_keep": float(gradients.keep_losses.sum()),
        "loss_forget": float(gradients.forget_losses.sum()),
        "norm": None if apart else gramian.norm_keep,
        "norm_keep": gramian.norm_keep if apart else None,
        "norm_forget": gramian.norm_forget if apart else None,
        "cosine": gramian.cosine,
        **vars(gradients.counts),
        **weight_record(rows, process),
    }
