"""The log of a run: one JSON object per step, one per line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from dataunlearn.runtime.files import read_log, write_atomically


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
