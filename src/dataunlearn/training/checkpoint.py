"""Checkpoints: written whole or not at all, and the newest whole one found by itself.

A checkpoint is a folder ``step_00000100`` with ``state.safetensors`` (every tensor), texts that
belong to it, and ``state.json`` (everything else, and the checksums of all), so that loading never
unpickles and damage is noticed.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from dataunlearn.runtime.disk import writing
from dataunlearn.runtime.files import (
    file_hash,
    temporary_folder,
    to_disk,
    write_sealed,
)
from dataunlearn.runtime.sealed import DamagedFileError, read_sealed
from dataunlearn.training.parts import like

STATE_FILE, TENSORS_FILE = "state.json", "state.safetensors"
_NAME = re.compile(r"step_\d{8,}")


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A training state.

    Attributes:
        step: Number of steps done.
        tensors: Named tensors.
        values: JSON values.
        texts: Files that belong to it, by name: the log up to this step, the run's settings.
    """

    step: int
    tensors: dict[str, Tensor]
    values: dict[str, Any]
    texts: Mapping[str, str] = field(default_factory=dict)

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
        """Steps of the complete checkpoints, ascending; some may be damaged."""
        folders = self.folder.glob("step_*") if self.folder.is_dir() else ()
        complete = [path for path in folders if (path / STATE_FILE).is_file()]
        return sorted(int(path.name[5:]) for path in complete if _NAME.fullmatch(path.name))

    def save(self, checkpoint: Checkpoint) -> Path:
        """Write a checkpoint under a temporary name, have it on disk, rename it, drop old ones.

        Raises:
            DiskFullError: If the disk is full; older checkpoints stay usable.
        """
        target = self._place(checkpoint.step)
        if (target / STATE_FILE).is_file() and self._damage(checkpoint.step) is None:
            return target
        size = sum(value.numel() * value.element_size() for value in checkpoint.tensors.values())
        with (
            writing("a checkpoint", self.folder, size),
            temporary_folder(target) as temporary,
        ):
            _write(checkpoint, temporary)
            shutil.rmtree(target, ignore_errors=True)  # incomplete, or it had been returned above
            os.replace(temporary, target)
            to_disk(self.folder, deep=False)
        for step in self.steps()[: -self.keep_last]:
            shutil.rmtree(self._place(step))
        return target

    def latest(self) -> Checkpoint | None:
        """The newest whole checkpoint, or None; changes nothing."""
        for step in reversed(self.steps()):
            try:
                return _read(self._place(step), step)
            except DamagedFileError:
                continue
        return None

    def set_damaged_aside(self) -> list[str]:
        """Put what is damaged above the newest whole checkpoint out of the way, until all go.

        Returns:
            What is wrong with each, newest first.
        """
        found = []
        for step in reversed(self.steps()):
            damage = self._damage(step)
            if damage is None:
                break
            found.append(damage)
            place = self._place(step)
            aside = place.with_name(f"damaged_{place.name}")
            shutil.rmtree(aside, ignore_errors=True)
            os.replace(place, aside)
        return found

    def _place(self, step: int) -> Path:
        return self.folder / f"step_{step:08d}"

    def _damage(self, step: int) -> str | None:
        try:
            _read(self._place(step), step)
        except DamagedFileError as error:
            return str(error)
        return None

    def clear(self) -> None:
        """Remove all checkpoints."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _write(checkpoint: Checkpoint, folder: Path) -> None:
    tensors = {
        name: value.detach().cpu().contiguous().clone()
        for name, value in checkpoint.tensors.items()
    }
    save_file(tensors, str(folder / TENSORS_FILE))
    for name, text in checkpoint.texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    hashes = {name: file_hash(folder / name) for name in (TENSORS_FILE, *checkpoint.texts)}
    state = {"step": checkpoint.step, "values": checkpoint.values, "files": hashes}
    write_sealed(folder / STATE_FILE, state)
    to_disk(folder)


def _read(folder: Path, step: int) -> Checkpoint:
    """The checkpoint in a folder; those of earlier versions have no checksums.

    Raises:
        DamagedFileError: If it is not what was written.
    """
    state = read_sealed(folder / STATE_FILE)
    if state.get("step") != step or not isinstance(state.get("values"), dict):
        raise DamagedFileError(f"{folder / STATE_FILE} is damaged: it is not that of step {step}")
    files = state.get("files", {})
    for name, known in files.items():
        if not (folder / name).is_file() or file_hash(folder / name) != known:
            raise DamagedFileError(f"{folder / name} is damaged: its checksum is another")
    try:
        tensors = load_file(str(folder / TENSORS_FILE))
        texts = {n: (folder / n).read_text(encoding="utf-8") for n in files if n != TENSORS_FILE}
    except (OSError, SafetensorError, ValueError) as error:
        raise DamagedFileError(f"{folder / TENSORS_FILE} is damaged: {error}") from error
    return Checkpoint(step, tensors, state["values"], texts)


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
    params = [param for group in optimizer.param_groups for param in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith("optimizer."):
            _, index, key = name.split(".", 2)
            param = params[int(index)]
            moment = value.shape == param.shape  # and no number of steps
            state.setdefault(int(index), {})[key] = like(param, value) if moment else value
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})
