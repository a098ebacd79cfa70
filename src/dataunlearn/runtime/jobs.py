"""Hand work to SLURM, or to whatever else submitit finds."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


def executor_for(folder: Path, parameters: Mapping[str, Any]) -> Any:
    """Submitit's executor.

    Args:
        folder: Where it keeps what jobs say.
        parameters: What it is given (timeout_min, slurm_partition, ...); ``cluster`` chooses it:
            "slurm", "local" or "debug", else submitit looks which there is.

    Raises:
        ValueError: If submitit is not installed, or does not know a parameter.
    """
    try:
        import submitit
    except ImportError as error:
        raise ValueError("submitit is missing: pip install 'dataunlearn[submitit]'") from error
    given = dict(parameters)
    try:
        executor = submitit.AutoExecutor(folder=folder, cluster=given.pop("cluster", None))
        executor.update_parameters(**given)
    except (NameError, ValueError, TypeError, RuntimeError) as error:
        raise ValueError(f"submitit: {error}") from error
    return executor


@dataclass
class OwnCommand:
    """One of our commands as a job: handed in again when its time is up, it goes on.

    Attributes:
        arguments: The verb and its options.
        first: Further options of the first start alone, such as the one that replaces a run.
    """

    arguments: Sequence[str]
    first: Sequence[str] = ()

    def __call__(self) -> int:
        """Run it; returns its exit code."""
        command = [sys.executable, "-m", "dataunlearn", *self.arguments, *self.first]
        return subprocess.run(command, check=False).returncode

    def checkpoint(self) -> Any:
        """What submitit hands in again when the job is preempted or its time is up."""
        import submitit

        return submitit.helpers.DelayedSubmission(OwnCommand(self.arguments))
