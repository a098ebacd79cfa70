"""A run's folder: who may write into it, and whether what it holds is finished."""

from __future__ import annotations

import dataclasses
import json
import shutil
from enum import Enum
from pathlib import Path
from typing import Any

from dataunlearn.runtime.files import write_atomically

SETTINGS_FILE = "settings.json"
FINISHED_FILE = "finished"


class RunState(Enum):
    """What a run folder held when it was claimed."""

    NEW = "new"
    UNFINISHED = "unfinished"


def describe(value: Any) -> Any:
    """A configuration as JSON values; objects of a class hierarchy carry their class's name."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: describe(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {"class": type(value).__name__, **fields}
    if isinstance(value, dict):
        return {str(key): describe(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [describe(item) for item in value]
    if isinstance(value, (str, int, float, bool)) or value is None:
        return value
    return str(value)


def check_run_dir(out: Path, *, overwrite: bool = False) -> None:
    """Refuse a folder that a run must not write into; changes nothing.

    Args:
        out: The folder, which need not exist.
        overwrite: Whether a run that it holds may be replaced.

    Raises:
        ValueError: If it holds a finished run, or files that are not a run's.
    """
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out} is a file: choose another --out")
    if not out.is_dir() or not any(out.iterdir()):
        return
    if not (out / SETTINGS_FILE).is_file():
        raise ValueError(f"{out} holds files that are not a run's: choose another --out")
    if (out / FINISHED_FILE).is_file() and not overwrite:
        raise ValueError(f"{out} holds a finished run: choose another --out, or give --overwrite")


def claim_run_dir(out: Path, settings: Any, *, overwrite: bool = False) -> RunState:
    """Take a run folder for a run with these settings.

    Args:
        out: The folder; made if missing.
        settings: What defines the run; compared with those of an unfinished run, if one has
            written anything yet.
        overwrite: Start anew, whatever run the folder holds.

    Returns:
        Whether the run starts new or goes on with an unfinished one.

    Raises:
        ValueError: See :func:`check_run_dir`; or if it holds a run with other settings.
    """
    check_run_dir(out, overwrite=overwrite)
    described = describe(settings)
    if overwrite:
        shutil.rmtree(out, ignore_errors=True)
    if (out / SETTINGS_FILE).is_file():
        previous = json.loads((out / SETTINGS_FILE).read_text())
        changed = differences(previous, described)
        has_begun = any(path.name != SETTINGS_FILE for path in out.iterdir())
        if changed and has_begun:
            raise ValueError(
                f"{out} holds an unfinished run with other settings ({'; '.join(changed[:5])}): "
                "give the same settings to resume it, --overwrite to start anew, or another --out"
            )
        if has_begun:
            return RunState.UNFINISHED
    write_atomically(out / SETTINGS_FILE, json.dumps(described, indent=1).encode())
    return RunState.NEW


def finish_run_dir(out: Path) -> None:
    """Mark a run as finished and drop its checkpoints."""
    write_atomically(out / FINISHED_FILE, b"")
    shutil.rmtree(out / "checkpoints", ignore_errors=True)


def differences(old: Any, new: Any, name: str = "") -> list[str]:
    """Where two described configurations differ, as "name: old -> new"."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = list(dict.fromkeys([*old, *new]))
        found = [
            differences(old.get(key), new.get(key), f"{name}.{key}" if name else key)
            for key in keys
        ]
        return [line for lines in found for line in lines]
    return [] if old == new else [f"{name}: {old} -> {new}"]
