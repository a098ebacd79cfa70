"""Prompt files: which prompts to look at, and what is known about each."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dataunlearn.prompts.embeddings import is_embedding_path

CAPTION_COLUMNS = ("caption", "prompt", "text")
"""Names of a table's column of prompts, in any case; the first one found counts."""

KIND_COLUMN = "overfit_type"
MEMORISED_KINDS = ("MV", "RV", "TV")
"""Matching, retrieved and template verbatims (Webster 2023); "N" is not memorised."""

_KEYS = ("prompt", "name", "image", "modified")
_MIN_DIGITS = 3
_ARCHIVE = re.compile(r"(.+\.npz):[^:]+")


@dataclass(frozen=True)
class PromptSpec:
    """A prompt to look at.

    Attributes:
        folder: Name of its folder: its number in the file, from 0, with leading zeros.
        prompt: The text.
        name: What to call it; the folder's name unless one is given.
        image: The training image that it brings back; None if it is not at hand.
        modified: What to take in its place: one text or several, or the path of an embedding.
    """

    folder: str
    prompt: str
    name: str
    image: Path | None = None
    modified: str | tuple[str, ...] | Path | None = None


def read_prompt_file(path: Path) -> list[PromptSpec]:
    """Read the prompts of a file.

    * ``.yaml``, ``.json``: a list; each entry a text, or a mapping with ``prompt`` and, if wanted,
      ``name``, ``image`` (a path, or ``file.npz:key[3]``), ``modified`` (a text, a list of texts,
      or the path of a ``.pt`` embedding). Paths start at the file's folder.
    * ``.txt``: one prompt a line; empty lines are left out.
    * ``.csv``, ``.parquet``: a table with a column named as in ``CAPTION_COLUMNS``, such as the
      lists of memorised prompts of Webster, "A Reproducible Extraction of Training Images from
      Diffusion Models", arXiv 2305.08694. Rows without a caption are left out, and, where there is
      a column ``overfit_type``, those of other kinds than MV, RV and TV; a caption that is repeated
      counts once.

    Raises:
        ValueError: If the file is missing, of another kind or empty, or an entry is empty, has an
            unknown key, repeats a prompt or a name, or names a missing file; the message names it.
    """
    if not path.is_file():
        raise ValueError(f"there is no prompt file {path}: check its path")
    read = _READERS.get(path.suffix.lower())
    if read is None:
        raise ValueError(f"{path} is of no known kind; give one of {' '.join(_READERS)}")
    entries = list(read(path))
    if not entries:
        raise ValueError(f"{path} has no prompts: add some")
    width = max(_MIN_DIGITS, len(str(len(entries) - 1)))
    specs = [
        _parse(entry, f"{path}, {place}", f"{index:0{width}d}", path.parent)
        for index, (place, entry) in enumerate(entries)
    ]
    for what in ("prompt", "name"):
        _check_distinct([getattr(spec, what) for spec in specs], entries, path, what)
    return specs


def texts_of(prompts: str | None) -> list[str]:
    """What a command's ``--prompts`` names: the texts of a prompt file, or one text.

    Raises:
        ValueError: As :func:`read_prompt_file`.
    """
    if prompts is None:
        return []
    if Path(prompts).suffix.lower() in _READERS:
        return [spec.prompt for spec in read_prompt_file(Path(prompts))]
    return [prompts]


def _parse(entry: Any, place: str, folder: str, base: Path) -> PromptSpec:
    settings = {"prompt": entry} if isinstance(entry, str) else entry
    if not isinstance(settings, Mapping):
        raise ValueError(
            f"{place}: {entry!r} is no text; put it in quotes, or give {', '.join(_KEYS)}"
        )
    unknown = [str(key) for key in settings if key not in _KEYS]
    if unknown:
        raise ValueError(
            f"{place}: unknown key {unknown[0]!r}; known ones are {', '.join(_KEYS)} (a text with "
            "a colon needs quotes)"
        )
    name, image = settings.get("name"), settings.get("image")
    return PromptSpec(
        folder,
        _text(settings.get("prompt"), f"{place}: prompt"),
        folder if name is None else _text(name, f"{place}: name"),
        None if image is None else _file(image, f"{place}: image", base),
        _parse_modified(settings.get("modified"), f"{place}: modified", base),
    )


def _parse_modified(value: Any, place: str, base: Path) -> str | tuple[str, ...] | Path | None:
    if value is None:
        return None
    if isinstance(value, str) and is_embedding_path(value):
        return _file(value.strip(), place, base)
    if not isinstance(value, list):
        return _text(value, place)
    if not value or any(isinstance(item, str) and is_embedding_path(item) for item in value):
        raise ValueError(f"{place} is {value!r}: give texts, or the path of one embedding, no list")
    return tuple(_text(item, place) for item in value)


def _text(value: Any, place: str) -> str:
    if value is not None and not isinstance(value, str):
        raise ValueError(f"{place} is {value!r}, no text; put it in quotes")
    if value is None or not value.strip():
        raise ValueError(f"{place} is missing or empty; give a text or remove the entry")
    return value.strip()


def _file(value: Any, place: str, base: Path) -> Path:
    path = base / Path(_text(value, place)).expanduser()
    in_archive = _ARCHIVE.match(str(path))  # file.npz:key[3]
    if not path.is_file() and not (in_archive and Path(in_archive[1]).is_file()):
        raise ValueError(
            f"{place}: there is no file {path}; paths start at the prompt file's folder"
        )
    return path


def _check_distinct(
    values: list[str], entries: list[tuple[str, Any]], path: Path, what: str
) -> None:
    first: dict[str, str] = {}
    for value, (place, _) in zip(values, entries, strict=True):
        if value in first:
            raise ValueError(
                f"{path}, {place}: the {what} {value!r} is that of {first[value]} too; remove one"
            )
        first[value] = place


def _read_yaml(path: Path) -> Iterable[tuple[str, Any]]:
    import yaml  # type: ignore[import-untyped]

    try:
        return _number(yaml.safe_load(_decode(path)), path)
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is no YAML: {error}") from error


def _read_json(path: Path) -> Iterable[tuple[str, Any]]:
    try:
        return _number(json.loads(_decode(path)), path)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is no JSON: {error}") from error


def _number(content: Any, path: Path) -> Iterable[tuple[str, Any]]:
    if content is not None and not isinstance(content, list):
        raise ValueError(f"{path} must hold a list of prompts, as '- a text' in each line")
    return [(f"entry {index}", entry) for index, entry in enumerate(content or (), start=1)]


def _read_lines(path: Path) -> Iterable[tuple[str, Any]]:
    lines = enumerate(_decode(path).split("\n"), start=1)
    return [(f"line {index}", line) for index, line in lines if line.strip()]


def _read_csv(path: Path) -> Iterable[tuple[str, Any]]:
    rows = csv.DictReader(io.StringIO(_decode(path), newline=""))
    return _read_rows(list(rows), rows.fieldnames or (), path)


def _read_parquet(path: Path) -> Iterable[tuple[str, Any]]:
    from pyarrow import ArrowException, parquet  # type: ignore[import-untyped]

    try:
        columns = parquet.read_schema(path).names
        wanted = [name for name in columns if name.lower() in (*CAPTION_COLUMNS, KIND_COLUMN)]
        return _read_rows(parquet.read_table(path, columns=wanted).to_pylist(), columns, path)
    except ArrowException as error:
        raise ValueError(f"{path} is no parquet file: {error}") from error


def _read_rows(
    rows: list[dict[str, Any]], columns: Iterable[str], path: Path
) -> Iterable[tuple[str, Any]]:
    by_name = {name.lower(): name for name in columns}
    caption = next((by_name[name] for name in CAPTION_COLUMNS if name in by_name), None)
    if caption is None:
        raise ValueError(
            f"{path} has the columns {', '.join(columns)}; name the one with the prompts "
            f"{CAPTION_COLUMNS[0]}"
        )
    kind = by_name.get(KIND_COLUMN)
    found: dict[str, str] = {}
    for index, row in enumerate(rows, start=1):
        text = str(row[caption] or "").strip()
        if text and (kind is None or row[kind] in MEMORISED_KINDS):
            found.setdefault(text, f"row {index}")
    return [(place, text) for text, place in found.items()]


def _decode(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text: save it as UTF-8") from error


_READERS: Mapping[str, Callable[[Path], Iterable[tuple[str, Any]]]] = {
    ".yaml": _read_yaml,
    ".yml": _read_yaml,
    ".json": _read_json,
    ".txt": _read_lines,
    ".csv": _read_csv,
    ".parquet": _read_parquet,
}
