"""What a prompt file holds, kind by kind, before its entries are looked at."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dataunlearn.data.tables import Table, as_text, read_table
from dataunlearn.runtime.text_files import decode_file, lines_of, parse_json, parse_yaml, shown

CAPTION_COLUMNS = ("caption", "prompt", "text")
"""Names of a table's column of prompts, in any case; the first one found counts."""

KIND_COLUMN = "overfit_type"
MEMORISED_KINDS = ("MV", "RV", "TV")
"""Matching, retrieved and template verbatims (Webster 2023), in any case; "N" is not memorised."""

OWN_COLUMNS = ("image", "modified")
"""Columns of a table that say more of its prompts, where they hold text."""

ENTRY_KEYS = ("prompt", "name", "image", "modified")


@dataclass(frozen=True)
class Entries:
    """A file's entries, unchecked.

    Attributes:
        found: Each with where it stands, as ``line 3``.
        left_out: What was left out of a table, in words.
    """

    found: tuple[tuple[str, Any], ...]
    left_out: tuple[str, ...] = ()


def read_entries(path: Path) -> Entries:
    """Read the entries of a prompt file.

    Raises:
        ValueError: If the file is of another kind, or cannot be read.
    """
    read = READERS.get(path.suffix.lower())
    if read is None:
        raise ValueError(f"{path} is of no known kind; give one of {' '.join(READERS)}")
    return read(path)


def _read_yaml(path: Path) -> Entries:
    return _numbered(parse_yaml(decode_file(path), str(path)), path)


def _read_json(path: Path) -> Entries:
    return _numbered(parse_json(decode_file(path), str(path)), path)


def _numbered(content: Any, path: Path) -> Entries:
    if content is not None and not isinstance(content, list):
        raise ValueError(f"{path} must hold a list of prompts, as '- a text' in each line")
    numbered = enumerate(content or (), start=1)
    return Entries(tuple((f"entry {index}", entry) for index, entry in numbered))


def _read_lines(path: Path) -> Entries:
    lines = lines_of(decode_file(path))
    return Entries(tuple((f"line {number}", line) for number, line in lines))


def _read_json_lines(path: Path) -> Entries:
    """Texts or mappings as in a list; or rows of a table, whose other columns do not matter."""
    lines = [
        (f"line {number}", parse_json(line, f"{path}, line {number}"))
        for number, line in lines_of(decode_file(path))
    ]
    rows = [(place, entry) for place, entry in lines if isinstance(entry, dict)]
    columns = tuple(dict.fromkeys(name for _, row in rows for name in row))
    if len(rows) < len(lines) or ("prompt" in columns and set(columns) <= {*ENTRY_KEYS}):
        return Entries(tuple(lines))
    return _from_table(Table(columns, tuple(rows)), path)


def _read_table(path: Path) -> Entries:
    wanted = (*CAPTION_COLUMNS, KIND_COLUMN, *OWN_COLUMNS)
    return _from_table(read_table(path, lambda name: name.strip().lower() in wanted), path)


def _from_table(table: Table, path: Path) -> Entries:
    if not table.columns:
        return Entries(())
    caption, kind = table.column(CAPTION_COLUMNS), table.column((KIND_COLUMN,))
    if caption is None:
        raise ValueError(
            f"{path} has the columns {', '.join(table.columns)}; name the one with the prompts "
            f"{CAPTION_COLUMNS[0]}"
        )
    found: dict[str, tuple[str, Any]] = {}
    left: Counter[str] = Counter()
    for place, row in table.rows:
        text = _caption(row.get(caption), f"{path}, {place}: {caption}")
        if not text:
            left["without a caption"] += 1
        elif kind is not None and (found_kind := _kind(row.get(kind))) not in MEMORISED_KINDS:
            left[f"of the kind {shown(found_kind)}"] += 1
        elif text in found:
            left["repeated"] += 1
        else:
            found[text] = place, _with_own(text, table, row, left)
    entries = tuple(found.values())
    return Entries(entries, tuple(f"{count} {why}" for why, count in left.items()))


def _with_own(text: str, table: Table, row: Mapping[str, Any], left: Counter[str]) -> Any:
    """A row's prompt with what else the row says of it; addresses of images are no files here."""
    more: dict[str, Any] = {}
    for name in OWN_COLUMNS:
        column = table.column((name,))
        value = None if column is None else row.get(column)
        if value is None or value == "":
            continue
        if isinstance(value, str | list) and not (name == "image" and "://" in str(value)):
            more[name] = value
        else:
            left[f"{name} that is no file here"] += 1
    return {"prompt": text, **more} if more else text


def _kind(value: Any) -> str:
    return "" if value is None else str(value).strip().upper()


def _caption(value: Any, place: str) -> str | None:
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, list) and value:
        raise ValueError(f"{place} is a list of {len(value)}; give each text a row of its own")
    text = as_text(value or None, place)
    return None if text is None else text.strip()


READERS: Mapping[str, Callable[[Path], Entries]] = {
    ".yaml": _read_yaml,
    ".yml": _read_yaml,
    ".json": _read_json,
    ".jsonl": _read_json_lines,
    ".txt": _read_lines,
    ".csv": _read_table,
    ".tsv": _read_table,
    ".parquet": _read_table,
}
