"""Captions of image files, in the forms that other programs write.

Tables named ``metadata`` or ``captions`` (.jsonl, .csv, .tsv, .parquet, .json), in the folder, in
folders under it, or in its parent; and text files beside the images, ``a.txt``, ``a.caption`` or
``a.png.txt`` of ``a.png``.
"""

from __future__ import annotations

import os
import re
import unicodedata
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dataunlearn.data.folders import TEXT_SUFFIXES, some
from dataunlearn.data.linked import beside_targets
from dataunlearn.data.tables import TABLE_READERS, Row, Table, as_text, read_table
from dataunlearn.runtime.text_files import decode_file, parse_json, shown

TEXT_KEYS = ("text", "caption", "prompt")
_PLURALS = ("texts", "captions", "prompts")
_FILE_KEYS = ("file_name", "filename", "file", "image", "image_path", "path", "filepath", "img")
_TABLE_STEMS = ("metadata", "captions")
_TABLE_SUFFIXES = (*TABLE_READERS, ".json")
_BESIDE_SUFFIXES = (".txt", ".caption")
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+")


class NoCaptionsWarning(UserWarning):
    """Captions were looked for, and what is there is none."""


@dataclass(frozen=True)
class Captions:
    """What was found out about the texts of some pictures.

    Attributes:
        texts: One a picture, None for one without; None where no picture has one.
        remarks: Where they come from, and what was left out, in words.
    """

    texts: tuple[str | None, ...] | None = None
    remarks: tuple[str, ...] = ()


def read_captions(
    folder: Path, paths: Sequence[Path], others: Iterable[Path], *, chosen: bool = False
) -> Captions:
    """Captions of image files, in their order.

    Of several texts of one picture the first counts.

    Args:
        folder: The folder that was opened.
        paths: The image files, each beginning with ``folder``.
        others: The other files there, relative to ``folder``.
        chosen: Whether these are only some of the pictures there.

    Raises:
        ValueError: If a file of captions cannot be read or names no picture, or a picture has two
            different texts; the message says what was found.
    """
    reading = _Reading(folder, {_key(path): place for place, path in enumerate(paths)})
    beside, tables, unused = _sort(paths, [folder / other for other in others])
    linked = beside_targets(paths, beside, _BESIDE_SUFFIXES)
    for file, places in {**beside, **linked}.items():
        text = decode_file(file).strip()
        for place in places:
            reading.add(place, text, file)
    for file in tables:
        reading.add_table(file, about_others=chosen)
    if not tables and not beside:
        for file in sorted(f for f in _files_of(folder.parent) if _is_table(f)):
            reading.add_table(file, about_others=True)
    unused = [] if chosen else [file for file in unused if file not in tables]
    return reading.captions(len(paths), beside, unused)


def warn_of_none(words: str) -> None:
    """Warn that there are texts, but no captions among them."""
    warnings.warn(f"no captions: {words}", NoCaptionsWarning, stacklevel=2)


def text_column(columns: Sequence[str], place: str) -> str | None:
    """The column that holds captions, by its name.

    ``text``, ``caption`` or ``prompt`` in any case, or several of these; else the only one whose
    name has such a word, as ``en_text``.

    Raises:
        ValueError: If several columns could be meant.
    """
    lowered = {column.lower(): column for column in columns}
    for known in (*TEXT_KEYS, *_PLURALS):
        if known in lowered:
            return lowered[known]
    words = {*TEXT_KEYS, *_PLURALS}
    likely = [c for c in columns if words & {w.lower() for w in _WORD.findall(c)}]
    if len(likely) > 1:
        raise ValueError(
            f"{place} has several columns that could hold captions ({', '.join(likely)}): rename "
            f"the one that does {TEXT_KEYS[0]}"
        )
    return likely[0] if likely else None


def first_text(value: Any, place: str) -> str | None:
    """A caption, or the first of several.

    Raises:
        ValueError: If it is no text.
    """
    if isinstance(value, list | tuple):
        value = value[0] if value else None
    return as_text(value, place)


@dataclass
class _Reading:
    """Texts of pictures as they are found."""

    folder: Path
    places: dict[str, int]
    found: dict[int, tuple[str, Path]] = field(default_factory=dict)
    several: int = 0
    remarks: list[str] = field(default_factory=list)

    def add(self, place: int, text: str, file: Path) -> None:
        """Take the text of a picture, once."""
        known, source = self.found.setdefault(place, (text, file))
        if known != text:
            picture = next(key for key, value in self.places.items() if value == place)
            raise ValueError(
                f"{picture} has two captions, {shown(known)} in {source.name} and {shown(text)} in "
                f"{file.name}: remove one kind"
                if source != file
                else f"{file} names {picture} twice, as {shown(known)} and as {shown(text)}: "
                "remove one"
            )

    def add_table(self, file: Path, *, about_others: bool) -> None:
        """Take the texts of a table, which may be about other pictures alone."""
        entries = list(_entries(file))
        lost = []
        for name, value, where in entries:
            place = self._place_of(file.parent, name)
            if place is None:
                lost.append(name)
                continue
            text = first_text(value, where)
            self.several += isinstance(value, list | tuple) and len(value) > 1
            if text is not None:
                self.add(place, text, file)
        if len(lost) == len(entries) and not about_others:
            raise ValueError(
                f"{file} names no picture that is here: it has {len(entries)} entries "
                f"({some(lost)}), the pictures are {some(self._names())}; a file name starts at "
                "the folder of the table"
            )
        if lost and not about_others:
            self.remarks.append(
                f"{len(lost)} of {len(entries)} entries of {file.name} name no picture "
                f"({some(lost)})"
            )
        if entries and about_others and len(lost) == len(entries):
            self.remarks.append(f"{file} names none of these pictures, so it was not used")

    def captions(
        self, num_pictures: int, beside: Iterable[Path], unused: Sequence[Path]
    ) -> Captions:
        """What was found, with where, and what was left out."""
        remarks = []
        if self.found:
            files = dict.fromkeys(file for _, file in self.found.values())
            texts = {file: f"{file.suffix} files" for file in beside}
            sources = dict.fromkeys(texts.get(file, file.name) for file in files)
            empty = sum(not text for text, _ in self.found.values())
            remarks.append(
                f"{len(self.found)} of {num_pictures} have captions, from {', '.join(sources)}"
                + (f"; {empty} of these are empty" if empty else "")
            )
        if self.several:
            remarks.append(f"{self.several} have several captions, of which the first counts")
        remarks += self.remarks
        if unused:
            names = some(file.relative_to(self.folder) for file in unused)
            remarks.append(f"not used as captions: {names}")
        if remarks and not self.found:
            warn_of_none(f"{self.folder}: {'; '.join(remarks)}")
        texts_or_none = tuple(self.found.get(i, (None,))[0] for i in range(num_pictures))
        return Captions(texts_or_none if self.found else None, tuple(remarks))

    def _place_of(self, start: Path, name: str) -> int | None:
        place = self.places.get(_key(start / name))
        return self.places.get(_key(start / name.replace("\\", "/"))) if place is None else place

    def _names(self) -> list[str]:
        return [os.path.relpath(key, _key(self.folder)) for key in self.places]


def _sort(
    paths: Sequence[Path], others: Sequence[Path]
) -> tuple[dict[Path, list[int]], list[Path], list[Path]]:
    """Texts beside pictures with the pictures' positions, tables, and what else has texts."""
    owners: dict[str, list[int]] = {}
    for place, path in enumerate(paths):
        for stem in dict.fromkeys((path.stem, path.name)):
            owners.setdefault(_key(path.parent / stem), []).append(place)
    beside = {
        file: owners[_key(file.with_suffix(""))]
        for file in others
        if file.suffix.lower() in _BESIDE_SUFFIXES and _key(file.with_suffix("")) in owners
    }
    tables = [file for file in others if _is_table(file)]
    rest = [f for f in others if f.suffix.lower() in TEXT_SUFFIXES and f not in beside]
    return beside, tables, rest


def _is_table(file: Path) -> bool:
    return file.stem.lower() in _TABLE_STEMS and file.suffix.lower() in _TABLE_SUFFIXES


def _files_of(folder: Path) -> list[Path]:
    try:
        return [path for path in folder.iterdir() if path.is_file()]
    except OSError:
        return []  # a parent that we may not look into


def _key(path: Path) -> str:
    """A path as it is compared: absolute, and letters composed in one way."""
    return unicodedata.normalize("NFC", os.path.abspath(path))


def _entries(file: Path) -> Iterator[tuple[str, Any, str]]:
    """File names and captions of a table, with where they stand."""
    if file.suffix.lower() != ".json":
        yield from _table_entries(read_table(file), str(file))
        return
    content = parse_json(decode_file(file), str(file))
    if isinstance(content, list) and all(isinstance(entry, dict) for entry in content):
        columns = dict.fromkeys(name for row in content for name in row)
        rows = tuple((f"entry {index}", row) for index, row in enumerate(content, start=1))
        yield from _table_entries(Table(tuple(columns), rows), str(file))
        return
    if not isinstance(content, dict):
        raise ValueError(f'{file} must map file names to captions, as {{"a.png": "a red cat"}}')
    for name, value in content.items():
        where = f"{file}, {shown(name)}"
        if isinstance(value, dict):
            value = value[_text_key(value, where)]
        yield name, value, where


def _table_entries(table: Table, place: str) -> Iterator[tuple[str, Any, str]]:
    if not table.rows:
        return
    files = table.column(_FILE_KEYS)
    files = files or next((c for c in table.columns if c.lower().endswith("file_name")), None)
    for where, row in table.rows:
        name = None if files is None else row.get(files)
        key = _text_key(row, f"{place}, {where}")
        if not isinstance(name, str) or not _is_caption(row.get(key)):
            raise ValueError(_incomplete(f"{place}, {where}", row))
        yield name, row.get(key), f"{place}, {where}"


def _text_key(row: Row, where: str) -> str:
    given = [column for column in row if column.lower() in TEXT_KEYS]
    key = text_column(list(row), where) if len(given) < 2 else None
    if key is None:
        raise ValueError(_incomplete(where, row))
    return key


def _is_caption(value: Any) -> bool:
    texts = value if isinstance(value, list | tuple) else [value]
    return all(isinstance(text, str | bytes | None) for text in texts)


def _incomplete(where: str, row: Row) -> str:
    return (
        f"{where} needs a file_name and one of {', '.join(TEXT_KEYS)}, both texts; it has "
        f"{shown(str(row))}"
    )
