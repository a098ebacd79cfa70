"""Text, JSON and YAML that others wrote: decoded, and refused where they would take for ever."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

MOST_LEVELS = 100
MOST_REPEATED = 100_000
"""Entries that the aliases of a YAML file may stand for, beyond those it spells out."""

_MOST_LETTERS_SHOWN = 80
_LONG_WORD = re.compile(r"\S{1000,}")
_UTF16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def decode_file(path: Path) -> str:
    """A file's text: UTF-8, or UTF-16 with its byte-order mark, which is no part of it.

    Lines end as on Unix, however they do in the file.

    Raises:
        ValueError: If it cannot be read, or is in another encoding.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error
    return decode_bytes(content, str(path))


def decode_bytes(content: bytes, place: str) -> str:
    """The text of :func:`decode_file`; ``place`` names it in messages."""
    encoding = "utf-16" if content.startswith(_UTF16_MARKS) else "utf-8"
    try:
        text = content.decode(encoding).removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise ValueError(f"{place} is not UTF-8 text: save it as UTF-8") from error
    if "\0" in text:
        raise ValueError(f"{place} is not text, it holds zero bytes: save it as UTF-8")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def lines_of(text: str) -> Iterator[tuple[int, str]]:
    """Numbered lines that are not blank, split where a file's lines end and nowhere else."""
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield number, line


def shown(value: Any) -> str:
    """A value for a message: printable, and cut where it is long."""
    text = value if isinstance(value, str) else repr(value)
    cut = text if len(text) <= _MOST_LETTERS_SHOWN else f"{text[:_MOST_LETTERS_SHOWN]}..."
    return repr(cut) if isinstance(value, str) else cut


def printable(text: str) -> str:
    """A message for a terminal: control characters written out, and words without end cut.

    File names may hold what moves the cursor or changes the title of a window.
    """
    cut = _LONG_WORD.sub(lambda found: f"{found[0][:_MOST_LETTERS_SHOWN]}...", text)
    return "".join(
        letter if letter.isprintable() or letter in "\n\t" else ascii(letter)[1:-1]
        for letter in cut
    )


def as_page(text: str) -> bytes:
    """A page as UTF-8; what no encoding has, such as parts of odd file names, is written out."""
    return text.encode("utf-8", "backslashreplace")


def check_text(text: str, place: str) -> str:
    """The text, if it can be written down.

    Raises:
        ValueError: If it holds half a surrogate pair, which no file and no tokenizer takes.
    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{place} holds {text[error.start]!r}, half of a character: correct the text"
        ) from error
    return text


def parse_json(text: str, place: str) -> Any:
    """JSON, in which a key is given once or with one value.

    Raises:
        ValueError: If it is none, is nested too deeply, or gives a key two values.
    """
    try:
        content = json.loads(text, object_pairs_hook=_distinct)
    except RecursionError as error:
        raise ValueError(f"{place} is nested more than {MOST_LEVELS} levels deep") from error
    except ValueError as error:
        raise ValueError(f"{place} is no JSON: {error}") from error
    _check_levels(content, place)
    return content


def parse_yaml(text: str, place: str) -> Any:
    """YAML of plain values.

    Raises:
        ValueError: If it is none, is nested too deeply, or its aliases hold themselves or stand for
            too many entries (a few lines can stand for more than a memory holds).
    """
    import yaml  # type: ignore[import-untyped]

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        spelled: dict[int, int] = {}
        size = _num_entries(node, spelled, 0, place)
        if size > len(spelled) + MOST_REPEATED:
            raise ValueError(
                f"{place}: its aliases stand for {shown(size)} entries: write them out, or fewer"
            )
        return loader.construct_document(node)
    except yaml.YAMLError as error:
        raise ValueError(f"{place} is no YAML: {error}") from error
    except RecursionError as error:
        raise ValueError(f"{place} is nested more than {MOST_LEVELS} levels deep") from error
    finally:
        loader.dispose()


def _num_entries(node: Any, known: dict[int, int], level: int, place: str) -> int:
    """Nodes under a node of YAML, those under an alias as often as it stands there."""
    found = known.get(id(node))
    if found == 0:
        raise ValueError(f"{place}: an alias holds itself ({node.start_mark}): write it out")
    if found is not None:
        return found
    if level > MOST_LEVELS:
        raise ValueError(f"{place} is nested more than {MOST_LEVELS} levels deep")
    known[id(node)] = 0  # being counted
    inside = node.value if isinstance(node.value, list) else ()
    _check_keys([item[0] for item in inside if isinstance(item, tuple)], place)
    parts = (part for item in inside for part in (item if isinstance(item, tuple) else (item,)))
    known[id(node)] = 1 + sum(_num_entries(part, known, level + 1, place) for part in parts)
    return known[id(node)]


def _check_keys(keys: list[Any], place: str) -> None:
    seen: set[str] = set()
    for key in keys:
        name = key.value if isinstance(key.value, str) else ""
        if name in seen and name:
            mark = key.start_mark
            raise ValueError(f"{place}, line {mark.line + 1}: {shown(name)} is given twice")
        seen.add(name)


def _check_levels(content: Any, place: str) -> None:
    level: list[Any] = [content]
    for _ in range(MOST_LEVELS):
        inside = [x.values() if isinstance(x, dict) else x for x in level]
        level = [x for values in inside if not isinstance(values, _LEAVES) for x in values]
        if not level:
            return
    raise ValueError(f"{place} is nested more than {MOST_LEVELS} levels deep")


_LEAVES = (str, int, float, type(None))


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if found.setdefault(key, value) != value:
            raise ValueError(f"{shown(key)} is given twice, with {shown(found[key])} and another")
    return found
