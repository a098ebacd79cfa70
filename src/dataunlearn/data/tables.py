"""Tables of texts that other programs write: .csv, .tsv, .jsonl and .parquet."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dataunlearn.runtime.text_files import (
    check_text,
    decode_bytes,
    decode_file,
    lines_of,
    parse_json,
    shown,
)

_DELIMITERS = (",", ";", "\t", "|")
_MOST_LETTERS = 2**31 - 1

Row = dict[str, Any]


@dataclass(frozen=True)
class Table:
    """Rows with named values.

    Attributes:
        columns: All names, in order.
        rows: Each with where it stands, as ``line 3`` or ``row 3``.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[str, Row], ...]

    def column(self, names: Sequence[str]) -> str | None:
        """The first column of these names there is, in any case."""
        by_name = {column.strip().lower(): column for column in reversed(self.columns)}
        return next((by_name[name] for name in names if name in by_name), None)


def read_table(path: Path, wanted: Callable[[str], bool] = lambda column: True) -> Table:
    """Read a table.

    Args:
        path: The file; its suffix says which kind it is.
        wanted: Which columns are needed; others may be left out.

    Raises:
        ValueError: If it cannot be read, or a row has more values than there are columns.
    """
    return TABLE_READERS[path.suffix.lower()](path, wanted)


def as_text(value: Any, place: str) -> str | None:
    """A value that is to be a text; None where it is missing.

    Raises:
        ValueError: If it is neither.
    """
    if value is None or value != value:  # NaN stands for nothing in tables
        return None
    if isinstance(value, bytes):
        return decode_bytes(value, place)
    if not isinstance(value, str):
        raise ValueError(f"{place} is {shown(value)}, no text; put it in quotes")
    return check_text(value, place)


def _read_separated(path: Path, wanted: Callable[[str], bool]) -> Table:
    text = decode_file(path)
    header = next((line for _, line in lines_of(text)), "")
    delimiter = "\t" if path.suffix.lower() == ".tsv" else _delimiter_of(header)
    lines = _split(text, delimiter, path)
    columns = [name.strip() for name in next(lines, ("", []))[1]]
    twice = {name for name in columns if name and columns.count(name) > 1}
    if twice:
        raise ValueError(f"{path} has the column {min(twice)} twice: rename one")
    rows = []
    for place, values in lines:
        if len(values) > len(columns):
            raise ValueError(
                f"{path}, {place} has {len(values)} values for {len(columns)} columns "
                f"({shown(delimiter.join(values))}): put a value that holds {delimiter!r} in quotes"
            )
        filled = [value or None for value in values] + [None] * (len(columns) - len(values))
        rows.append((place, dict(zip(columns, filled, strict=True))))
    return Table(tuple(columns), tuple(rows))


def _delimiter_of(header: str) -> str:
    """What stands between most names; a comma where nothing does."""
    found = {mark: len(next(csv.reader([header], delimiter=mark), [])) for mark in _DELIMITERS}
    return max(_DELIMITERS, key=lambda mark: found[mark])


def _split(text: str, delimiter: str, path: Path) -> Iterator[tuple[str, list[str]]]:
    """Rows that are not empty, with the lines on which they begin."""
    usual = csv.field_size_limit(_MOST_LETTERS)
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        begins = 1
        for values in reader:
            if values:
                yield f"line {begins}", values
            begins = reader.line_num + 1
    except csv.Error as error:
        raise ValueError(
            f"{path}, line {begins}: {error}; look at the quotes of that line"
        ) from error
    finally:
        csv.field_size_limit(usual)


def _read_json_lines(path: Path, wanted: Callable[[str], bool]) -> Table:
    rows = []
    for number, line in lines_of(decode_file(path)):
        entry = parse_json(line, f"{path}, line {number}")
        if not isinstance(entry, dict):
            raise ValueError(f"{path}, line {number}: {shown(line)} is no JSON object")
        rows.append((f"line {number}", entry))
    columns = dict.fromkeys(name for _, row in rows for name in row)
    return Table(tuple(columns), tuple(rows))


def _read_parquet(path: Path, wanted: Callable[[str], bool]) -> Table:
    from pyarrow import ArrowException, parquet  # type: ignore[import-untyped]

    try:
        columns = parquet.read_schema(path).names
        chosen = [name for name in columns if wanted(name)]
        rows = parquet.read_table(path, columns=chosen).to_pylist() if chosen else []
    except (ArrowException, OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no parquet file: {error}") from error
    numbered = ((f"row {index}", row) for index, row in enumerate(rows, start=1))
    return Table(tuple(columns), tuple(numbered))


TABLE_READERS: dict[str, Callable[[Path, Callable[[str], bool]], Table]] = {
    ".csv": _read_separated,
    ".tsv": _read_separated,
    ".jsonl": _read_json_lines,
    ".parquet": _read_parquet,
}
