"""Which files in a folder a run of ours has written, and a new run in the place of an old one."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from dataunlearn.runtime.files import left_behind, remove_left_behind, write_atomically

SETTINGS_FILE, FINISHED_FILE, CHECKPOINTS = "settings.json", "finished", "checkpoints"
REPLACEMENT = ".replacement"
"""Where a run writes while the one that it is to replace stands."""
_MOVING_FILE = ".moving.json"
_HELD = (".lock", ".holder.json")
# Of all verbs: a folder may have been another verb's.
_WRITTEN = (
    SETTINGS_FILE,
    FINISHED_FILE,
    CHECKPOINTS,
    *("log.jsonl", "model", "lora", "images.npz", "report.json", "report.html", "facts.json"),
    *("samples", "autoencoder", "vae", "data", "before", "run", "runs"),
    *("results.json", "results.md", "results.csv", "pareto.png", "samples*.safetensors"),
    *("audit.json", "audit.html", "attack.json", "attack.md", "relearning_*.png"),
    *("verification.json", "verification.html", "checks.json"),
    *("*/seed_[0-9]*", "before.yaml", "never_saw_it*", "beside", "jobs"),
)


def is_ours_to_hide(path: Path) -> bool:
    """Whether a path is a lock, a run that is to replace another, or what a killed run left."""
    return path.name in (*_HELD, REPLACEMENT) or left_behind(path) is not None


def own_files(out: Path) -> list[Path]:
    """The files that a run of ours wrote into a folder.

    A finished run has left a list of them; of any other they are those under the names that runs
    give.
    """
    listed = _listed(out / FINISHED_FILE)
    if listed is not None:
        found = [out / name for name in [*listed, FINISHED_FILE]]
        return [path for path in found if _is_file(path)]
    tops = sorted({path for pattern in _WRITTEN for path in out.glob(pattern)})
    return [file for top in tops for file in _files_in(top)]


def write_list(out: Path) -> None:
    """Mark a run as finished, with the list of its files."""
    names = [path.relative_to(out).as_posix() for path in own_files(out)]
    kept = [name for name in names if name.split("/")[0] not in (CHECKPOINTS, FINISHED_FILE)]
    write_atomically(out / FINISHED_FILE, json.dumps({"files": kept}, indent=1).encode())


def move_in(out: Path) -> None:
    """Put the run in ``out/.replacement`` in the place of the old one, whose files go.

    Files that no run of ours wrote stay. What a kill interrupts, the next call completes.
    """
    new = out / REPLACEMENT
    listed = _listed(new / _MOVING_FILE)
    if listed is None:
        listed = [path.relative_to(new).as_posix() for path in _files_in(new)]
        write_atomically(new / _MOVING_FILE, json.dumps({"files": listed}).encode())
    old = set(own_files(out))
    for name in listed:
        if name != FINISHED_FILE and (new / name).exists():
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            os.replace(new / name, out / name)
    _remove(out, old - {out / name for name in listed})
    if (new / FINISHED_FILE).exists():
        os.replace(new / FINISHED_FILE, out / FINISHED_FILE)
    shutil.rmtree(new)


def drop_checkpoints(out: Path) -> None:
    """Remove the checkpoints of a finished run: a kill between its last two acts left them."""
    if (out / FINISHED_FILE).is_file():
        shutil.rmtree(out / CHECKPOINTS, ignore_errors=True)


def is_whole(new: Path) -> bool:
    """Whether a run in ``.replacement`` only waits to be moved."""
    return (new / _MOVING_FILE).is_file() or (new / FINISHED_FILE).is_file()


def tidy(out: Path) -> None:
    """Remove what killed runs left in a folder, but not in folders of runs of their own."""
    for folder, names, files in os.walk(out):
        here = Path(folder)
        for name in [*names, *files]:
            if left_behind(here / name) is not None:
                remove_left_behind(here / name)
        names[:] = [
            name
            for name in names
            if left_behind(here / name) is None and not _is_a_run(here / name)
        ]


def _is_a_run(path: Path) -> bool:
    return (path / SETTINGS_FILE).is_file() and path.name != REPLACEMENT


def _listed(file: Path) -> list[str] | None:
    try:
        names = json.loads(file.read_text())["files"]
    except (OSError, ValueError, TypeError, KeyError):
        return None
    inside = [name for name in names if isinstance(name, str) and ".." not in name.split("/")]
    return [name for name in inside if not name.startswith("/")]


def _files_in(top: Path) -> Iterator[Path]:
    """The files under a folder, or a file itself; a link is one, whatever it leads to."""
    if _is_file(top):
        yield top
        return
    for folder, names, files in os.walk(top):
        links = [name for name in names if (Path(folder) / name).is_symlink()]
        yield from (Path(folder) / name for name in sorted([*files, *links]))


def _is_file(path: Path) -> bool:
    return path.is_symlink() or path.is_file()


def _remove(out: Path, files: Iterable[Path]) -> None:
    """Remove files, and the folders that they leave empty."""
    for file in files:
        file.unlink(missing_ok=True)
    for folder in sorted({p for file in files for p in file.parents if out in p.parents})[::-1]:
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
