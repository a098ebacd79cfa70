"""Checkpoints: written whole or not at all, and the newest complete one found by itself.

A checkpoint is a folder ``step_00000100`` with ``state.safetensors`` (every tensor) and
``state.json`` (everything else), so that loading never unpickles.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from dataunlearn.runtime.files import write_atomically


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A training state.

    Attributes:
        step: Number of steps done.
        tensors: Named tensors.
        values: JSON values.
    """

    step: int
    tensors: dict[str, Tensor]
    values: dict[str, Any]

    def part(self, prefix: str) -> dict[str, Tensor]:
        """The tensors named ``prefix.NAME``, by NAME."""
        start = f"{prefix}."
        return {k.removeprefix(start): v for k, v in self.tensors.items() if k.startswith(start)}


class CheckpointStore:
    """The checkpoints of one run, in one folder.

    Args:
        folder: Where they live; created when the first one is saved.
        keep_last: How many of the newest to leave.
    """

    def __init__(self, folder: Path, keep_last: int = 2) -> None:
        self.folder, self.keep_last = folder, keep_last

    def steps(self) -> list[int]:
        """Steps of the complete checkpoints, ascending."""
        folders = self.folder.glob("step_*") if self.folder.is_dir() else ()
        complete = [path for path in folders if (path / "state.json").is_file()]
        return sorted(int(path.name.removeprefix("step_")) for path in complete)

    def save(self, checkpoint: Checkpoint) -> Path:
        """Write a checkpoint under a temporary name, rename it, then drop old ones.

        Raises:
            OSError: If the disk is full; older checkpoints stay usable.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        target = self.folder / f"step_{checkpoint.step:08d}"
        if (target / "state.json").is_file():
            return target
        temporary = Path(tempfile.mkdtemp(prefix=".writing-", dir=self.folder))
        try:
            tensors = {
                name: value.detach().cpu().contiguous().clone()
                for name, value in checkpoint.tensors.items()
            }
            save_file(tensors, str(temporary / "state.safetensors"))
            write_atomically(
                temporary / "state.json",
                json.dumps({"step": checkpoint.step, "values": checkpoint.values}).encode(),
            )
            shutil.rmtree(target, ignore_errors=True)  # incomplete, or it had been returned above
            os.replace(temporary, target)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        for step in self.steps()[: -self.keep_last]:
            shutil.rmtree(self.folder / f"step_{step:08d}")
        return target

    def latest(self) -> Checkpoint | None:
        """The newest complete checkpoint, or None."""
        steps = self.steps()
        if not steps:
            return None
        folder = self.folder / f"step_{steps[-1]:08d}"
        state = json.loads((folder / "state.json").read_text())
        tensors = load_file(str(folder / "state.safetensors"))
        return Checkpoint(state["step"], tensors, state["values"])

    def clear(self) -> None:
        """Remove all checkpoints."""
        shutil.rmtree(self.folder, ignore_errors=True)


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimizer's per-parameter state as flat named tensors."""
    state = optimizer.state_dict()["state"]
    return {
        f"optimizer.{index}.{key}": value
        for index, entries in state.items()
        for key, value in entries.items()
    }


def load_optimizer_tensors(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Put back what :func:`optimizer_tensors` took out."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith("optimizer."):
            _, index, key = name.split(".", 2)
            state.setdefault(int(index), {})[key] = value
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})
