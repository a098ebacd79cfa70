"""Captions of image files: a ``metadata.jsonl`` in the folder, or a ``.txt`` beside each image."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

METADATA_FILE = "metadata.jsonl"
TEXT_KEYS = ("text", "caption", "prompt")


def read_captions(folder: Path, paths: Sequence[Path]) -> list[str | None] | None:
    """Captions of image files, in their order.

    Args:
        folder: The folder that was opened; ``metadata.jsonl`` lies in it, one JSON object a line
            with ``file_name`` (relative to the folder) and ``text``, ``caption`` or ``prompt``.
        paths: The image files.

    Returns:
        One text a file, None for a file without; None if no file has one.

    Raises:
        ValueError: If ``metadata.jsonl`` cannot be read, or there are captions of both kinds.
    """
    metadata = folder / METADATA_FILE
    beside = {path: path.with_suffix(".txt") for path in paths}
    has_beside = any(file.is_file() for file in beside.values())
    if metadata.is_file():
        if has_beside:
            raise ValueError(
                f"{folder} has captions in {METADATA_FILE} and in .txt files: remove one kind"
            )
        known = _read_metadata(metadata)
        return [known.get(path.relative_to(folder).as_posix()) for path in paths]
    if not has_beside:
        return None
    return [_read_text(file) if file.is_file() else None for file in beside.values()]


def _read_metadata(file: Path) -> dict[str, str]:
    known = {}
    for number, line in enumerate(_read_text(file).splitlines(), start=1):
        if not line.strip():
            continue
        name, text = _entry(line, f"{file}, line {number}")
        known[name] = text
    return known


def _entry(line: str, place: str) -> tuple[str, str]:
    try:
        entry: Any = json.loads(line)
    except ValueError as error:
        raise ValueError(f"{place} is not JSON: {error}") from error
    texts = [entry[key] for key in TEXT_KEYS if key in entry] if isinstance(entry, dict) else []
    if len(texts) != 1 or not isinstance(texts[0], str) or "file_name" not in entry:
        raise ValueError(
            f"{place} needs a file_name and one of {', '.join(TEXT_KEYS)}, both texts: {line[:80]}"
        )
    return Path(str(entry["file_name"])).as_posix(), texts[0]


def _read_text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{file} cannot be read as UTF-8 text: {error}") from error
