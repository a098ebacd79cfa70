"""Whether what a benchmark's folder holds is what is asked for: by content and by settings."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Set
from pathlib import Path
from typing import Any

from dataunlearn.bench.config import Benchmark, Cell
from dataunlearn.runtime.files import file_hash
from dataunlearn.runtime.own_files import FINISHED_FILE
from dataunlearn.runtime.places import named_file
from dataunlearn.runtime.settings import describe, differences

SOURCES = ("model", "forget", "keep", "reference", "scheduler", "prompts", "prior", "unnamed")
PLACES = (*(f"base.{name}" for name in SOURCES), "reference", "evaluate.held_out")
# Methods, seeds, measures and attacks may be added between calls.
FREE = (
    *("methods", "seeds", "metrics", "beside", "attack"),
    *("forgetting", "quality", "workers", "launcher", "submitit", "out"),
)
CONFIG_FILE = "unlearn.yaml"


def lasting(benchmark: Benchmark) -> dict[str, Any]:
    """The settings that may not change between calls."""
    described: dict[str, Any] = describe(benchmark)
    return {k: v for k, v in described.items() if k not in FREE}


def sources(benchmark: Benchmark) -> dict[str, Any]:
    """What a benchmark reads, by the name of its setting."""
    found = {name: benchmark.base[name] for name in SOURCES if name in benchmark.base}
    found |= {"the reference": benchmark.reference}
    return found | {"held_out": benchmark.evaluate.get("held_out")}


def content_of(benchmark: Benchmark) -> dict[str, Any]:
    """What a benchmark's inputs are: a hash of each that is a file or folder, else its name."""
    return {name: hash_source(source) for name, source in sources(benchmark).items()}


def hash_source(source: Any) -> Any:
    """A file's or folder's names and contents as a hash, whatever it is called itself."""
    path = named_file(source)
    if path is None:
        return source
    if path.is_file():
        part = str(source)[len(str(path)) :] if str(source).startswith(str(path)) else ""
        return {"path": str(source), "sha256": file_hash(path), "part": part}
    digest = hashlib.sha256()
    for file in sorted(path.rglob("*")):
        if file.is_file():
            digest.update(f"{file.relative_to(path).as_posix()} {file_hash(file)}\n".encode())
    return {"path": str(source), "sha256": digest.hexdigest()}


def require_same_cell(benchmark: Benchmark, cell: Cell) -> None:
    """Refuse a finished run of a method that has other settings now.

    Raises:
        ValueError: If they differ.
    """
    file = cell.folder / CONFIG_FILE
    if not (cell.folder / "run" / FINISHED_FILE).is_file() or not file.is_file():
        return
    own = benchmark.methods[cell.method]
    free = {"out", "before", "device", "evaluation", *(n for n in SOURCES if n not in own)}
    changed = _changes(file, describe(cell.settings), free)
    if changed:
        raise ValueError(
            f"method {cell.method}, seed {cell.seed} was run with other settings "
            f"({'; '.join(changed[:5])}): give the method another name, or --overwrite to run all "
            "anew"
        )


def require_same_attack(file: Path, settings: dict[str, Any]) -> None:
    """Refuse a finished attack that had other settings.

    Args:
        file: Where the settings of the finished one are.
        settings: Those that are asked for, as JSON values.

    Raises:
        ValueError: If they differ.
    """
    changed = _changes(file, settings, {"out", *SOURCES})
    if changed:
        raise ValueError(
            f"{file.parent} was attacked with other settings ({'; '.join(changed[:5])}): give the "
            "same, or --overwrite to run all anew"
        )


def settings_file(cell: Cell) -> Path:
    """Where a run's settings are kept, those that its own command reads."""
    return cell.folder / CONFIG_FILE


def _changes(file: Path, asked: dict[str, Any], free: Set[str]) -> list[str]:
    """In what the settings in a file differ from those asked for, but for some."""
    known = json.loads(file.read_text())
    known, asked = ({k: v for k, v in each.items() if k not in free} for each in (known, asked))
    return differences(known, asked)
