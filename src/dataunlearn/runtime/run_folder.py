"""A run's folder: who may write into it, and whether what it holds is finished."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dataunlearn.runtime.disk import state_stays
from dataunlearn.runtime.files import write_atomically
from dataunlearn.runtime.lock import locked, require_free
from dataunlearn.runtime.own_files import (
    CHECKPOINTS,
    FINISHED_FILE,
    REPLACEMENT,
    SETTINGS_FILE,
    drop_checkpoints,
    is_ours_to_hide,
    is_whole,
    move_in,
    tidy,
    write_list,
)
from dataunlearn.runtime.places import require_outside, require_writable
from dataunlearn.runtime.sealed import DamagedFileError, DamagedFileWarning, read_sealed
from dataunlearn.runtime.settings import changes, describe

if TYPE_CHECKING:
    from accelerate import Accelerator

_INPUTS: Mapping[str, Any] = {}


class RunState(Enum):
    """What a run folder held when it was claimed."""

    NEW = "new"
    UNFINISHED = "unfinished"


@dataclass
class RunFolder:
    """A folder that a run holds.

    Attributes:
        out: The run's folder.
        folder: Where the run writes: ``out``, or beside an older run in it, until this one is
            whole.
        state: Whether the run is new.
    """

    out: Path
    folder: Path
    state: RunState

    def publish(self) -> None:
        """Put a run that has its first result in the place of the one that it replaces."""
        if self.folder != self.out:
            move_in(self.out)
            self.folder = self.out

    def finish(self) -> None:
        """Mark the run as finished, drop its checkpoints, and replace what was there."""
        write_list(self.folder)
        drop_checkpoints(self.folder)
        self.publish()
        shutil.rmtree(self.out / REPLACEMENT, ignore_errors=True)  # of a run that was given up


def check_run_dir(
    out: Path, *, overwrite: bool = False, inputs: Mapping[str, Any] = _INPUTS
) -> None:
    """Refuse a folder that a run must not write into.

    It changes nothing but that checkpoints go which a killed run left after it had finished.

    Args:
        out: The folder, which need not exist.
        overwrite: Whether a run that it holds may be replaced.
        inputs: What the run reads, by the name of its option: paths, or anything else, which is
            not looked at.

    Raises:
        ValueError: If it cannot be written to, holds an input, a finished run, or files that are
            not a run's; or if another process writes into it.
    """
    require_writable(out)
    require_outside(out, inputs)
    if not out.is_dir() or all(is_ours_to_hide(path) for path in out.iterdir()):
        return
    if not (out / SETTINGS_FILE).is_file():
        raise ValueError(f"{out} holds files that are not a run's: choose another --out")
    require_free(out)
    drop_checkpoints(out)
    if not overwrite and not (out / REPLACEMENT).is_dir():
        _require_unfinished(out)


@contextmanager
def run_folder(
    out: Path,
    settings: Any,
    *,
    overwrite: bool = False,
    declared: Any = None,
    content: Mapping[str, Any] | None = None,
    places: tuple[str, ...] = (),
) -> Iterator[RunFolder]:
    """Hold a folder for a run with these settings, as long as the block runs.

    With ``overwrite`` the run that is there stays until the new one is published; files that no run
    wrote stay in any case.

    Args:
        out: The folder; made if missing.
        settings: What defines the run; compared with those of an unfinished run, if one has
            written anything yet.
        overwrite: Start anew, whatever run the folder holds.
        declared: The object whose declared defaults hold for settings that an unfinished run of an
            earlier version does not have; ``settings`` itself by default.
        content: Hashes of what the run reads, which are compared in place of ``places``.
        places: The settings that say where the run's inputs lie.

    Raises:
        ValueError: See :func:`check_run_dir`; or if it holds a run with other settings.
        DiskFullError: If the block finds the disk full, with where the state is.
    """
    check_run_dir(out, overwrite=overwrite)
    described = describe(settings)
    if content is not None:
        described = {**described, "inputs": dict(content)}
    with locked(out):
        tidy(out)
        if is_whole(out / REPLACEMENT):
            move_in(out)
        asked = _Asked(described, settings if declared is None else declared, places)
        found = _claimed(out, asked, overwrite)
        with state_stays(found.folder):
            yield found


@contextmanager
def only_main(
    holding: AbstractContextManager[RunFolder], out: Path, accelerator: Accelerator | None
) -> Iterator[RunFolder]:
    """Hold a folder on the main process; the others wait for it, and then know where it writes.

    Args:
        holding: What :func:`run_folder` returns; entered on the main process alone.
        out: The run's folder.
        accelerator: The processes; None is one alone.
    """
    if accelerator is None:
        with holding as run:
            yield run
        return
    with holding if accelerator.is_main_process else nullcontext() as found:
        accelerator.wait_for_everyone()
        new = out / REPLACEMENT
        where = new if (new / SETTINGS_FILE).is_file() else out
        yield found or RunFolder(out, where, RunState.UNFINISHED)


@dataclass(frozen=True)
class _Asked:
    """The settings that a run is to have."""

    described: Any
    declared: Any
    places: tuple[str, ...]

    def changed_from(self, previous: Any) -> list[str]:
        return changes(previous, self.described, self.declared, self.places)

    def write(self, folder: Path) -> None:
        write_atomically(folder / SETTINGS_FILE, json.dumps(self.described, indent=1).encode())


def _claimed(out: Path, asked: _Asked, overwrite: bool) -> RunFolder:
    new = out / REPLACEMENT
    if _has_begun(new) and not asked.changed_from(_read_settings(new)):
        return RunFolder(out, new, RunState.UNFINISHED)
    if overwrite and _has_begun(out):
        shutil.rmtree(new, ignore_errors=True)
        asked.write(new)
        return RunFolder(out, new, RunState.NEW)
    _require_unfinished(out)
    if _has_begun(out):
        changed = asked.changed_from(_read_settings(out))
        if changed:
            raise ValueError(
                f"{out} holds an unfinished run with other settings ({'; '.join(changed[:5])}): "
                "give the same settings to resume it, --overwrite to start anew, or another --out"
            )
        return RunFolder(out, out, RunState.UNFINISHED)
    asked.write(out)
    return RunFolder(out, out, RunState.NEW)


def _has_begun(folder: Path) -> bool:
    if not (folder / SETTINGS_FILE).is_file():
        return False
    there = (path for path in folder.iterdir() if not is_ours_to_hide(path))
    return any(path.name != SETTINGS_FILE for path in there)


def _require_unfinished(out: Path) -> None:
    if (out / FINISHED_FILE).is_file():
        raise ValueError(f"{out} holds a finished run: choose another --out, or give --overwrite")


def _read_settings(folder: Path) -> Any:
    """The settings of a run; where the file is damaged, as the newest checkpoint has them.

    Raises:
        DamagedFileError: If there is no copy either.
    """
    copies = sorted(folder.glob(f"{CHECKPOINTS}/step_*/{SETTINGS_FILE}"), reverse=True)
    found = []
    for file in copies:
        try:
            found.append(read_sealed(file, needs_seal=True)["settings"])
        except (DamagedFileError, KeyError):
            continue
    try:
        own = read_sealed(folder / SETTINGS_FILE)
    except DamagedFileError as error:
        if not found:
            raise DamagedFileError(f"{error}: give --overwrite to start anew") from error
        own = None
    if found and own != found[0]:
        warnings.warn(
            f"{folder / SETTINGS_FILE} is damaged: its copy in the newest checkpoint is taken.",
            DamagedFileWarning,
            stacklevel=2,
        )
        write_atomically(folder / SETTINGS_FILE, json.dumps(found[0], indent=1).encode())
    return found[0] if found else own
