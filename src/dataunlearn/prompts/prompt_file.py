"""Prompt files: which prompts to look at, and what is known about each."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dataunlearn.prompts.embeddings import is_embedding_path
from dataunlearn.prompts.prompt_readers import ENTRY_KEYS, READERS, read_entries
from dataunlearn.runtime.home import home_path
from dataunlearn.runtime.text_files import check_text, shown

Say = Callable[[str], None]

_MIN_DIGITS = 3
# Of one word: a name with a suffix, of a file or of two, and perhaps a part of it.
_LOOKS_LIKE_A_FILE = re.compile(r"\w\.[A-Za-z][A-Za-z0-9]{1,7}(#\w*)?\s*$")
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


def read_prompt_file(path: Path, say: Say = lambda text: None) -> list[PromptSpec]:
    """Read the prompts of a file.

    * ``.yaml``, ``.json``, ``.jsonl`` (an entry a line): a list; each entry a text, or a mapping
      with ``prompt`` and, if wanted, ``name``, ``image`` (a path, or ``file.npz:key[3]``),
      ``modified`` (a text, a list of texts, or the path of a ``.pt`` embedding). Paths start at the
      file's folder.
    * ``.txt``: one prompt a line; empty lines are left out.
    * ``.csv``, ``.tsv``, ``.parquet``, ``.jsonl``: a table with a column named as in
      ``CAPTION_COLUMNS``, such as the lists of memorised prompts of Webster, "A Reproducible
      Extraction of Training Images from Diffusion Models", arXiv 2305.08694. Rows without a caption
      are left out, and, where there is a column ``overfit_type``, those of other kinds than MV, RV
      and TV; a caption that is repeated counts once.

    Args:
        path: The file.
        say: Where it is said how many prompts were read, and what was left out.

    Raises:
        ValueError: If the file is missing, of another kind or empty, or an entry is empty, has an
            unknown key, repeats a prompt or a name, or names a missing file; the message names it.
    """
    if path.is_dir():
        raise ValueError(f"{path} is a folder: give a file of prompts")
    if not path.is_file():
        raise ValueError(
            f"there is no prompt file {path}: check its path (a prompt of one word that looks like "
            "one goes into a .txt)"
        )
    read = read_entries(path)
    entries, left_out = read.found, ", ".join(read.left_out)
    words = f"; left out: {left_out}" if left_out else ""
    if not entries:
        raise ValueError(f"{path} has no prompts{words}: add some")
    width = max(_MIN_DIGITS, len(str(len(entries) - 1)))
    specs = [
        _parse(entry, f"{path}, {place}", f"{index:0{width}d}", path.parent)
        for index, (place, entry) in enumerate(entries)
    ]
    for what in ("prompt", "name"):
        _check_distinct([getattr(spec, what) for spec in specs], entries, path, what)
    say(f"{path}: {len(specs)} prompts{words}")
    return specs


def texts_of(prompts: str | None, say: Say = lambda text: None) -> list[str]:
    """What a command's ``--prompts`` names: the texts of a prompt file, or one text.

    Args:
        prompts: The path of a file, or a text: what is no file and has words in it, or does not
            look like the path of one.
        say: Where it is said what it was taken for, where that may be asked.

    Raises:
        ValueError: As :func:`read_prompt_file`; or if it is a folder, or the path of nothing.
    """
    if prompts is None:
        return []
    if _is_path(prompts):
        return [spec.prompt for spec in read_prompt_file(home_path(prompts), say)]
    if _has_prompt_suffix(prompts):
        say(f"There is no file {shown(prompts)}, so this is taken for a prompt.")
    elif _is_bare_folder(prompts):
        say(f"{shown(prompts)} is taken for a prompt, although there is a folder of that name.")
    return [check_text(prompts, "the prompt")]


def _is_path(text: str) -> bool:
    """Whether a text that may be a prompt is the path of a file, be it there or not."""
    path = home_path(text)
    try:
        if path.exists():
            return not _is_bare_folder(text)
        in_folder = len(path.parts) > 1 and path.parent.is_dir()
    except (OSError, ValueError):  # too long for a path, or with a zero byte
        return False
    is_bare = not any(letter.isspace() for letter in text.strip())
    if is_bare and ("/" in text or _LOOKS_LIKE_A_FILE.search(text)):
        return True
    return _has_prompt_suffix(text) and (is_bare or in_folder)


def _is_bare_folder(text: str) -> bool:
    """Whether a text is the name of a folder here, which may be a coincidence."""
    try:
        return Path(text).name == text and Path(text).is_dir()
    except (OSError, ValueError):
        return False


def _has_prompt_suffix(text: str) -> bool:
    return text.lower().endswith(tuple(READERS))


def _parse(entry: Any, place: str, folder: str, base: Path) -> PromptSpec:
    settings = {"prompt": entry} if isinstance(entry, str) else entry
    if not isinstance(settings, Mapping):
        raise ValueError(
            f"{place}: {shown(entry)} is no text; put it in quotes, or give {', '.join(ENTRY_KEYS)}"
        )
    unknown = [str(key) for key in settings if key not in ENTRY_KEYS]
    if unknown:
        raise ValueError(
            f"{place}: unknown key {shown(unknown[0])}; known ones are "
            f"{', '.join(ENTRY_KEYS)} (a text with a colon needs quotes)"
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
        raise ValueError(
            f"{place} is {shown(value)}: give texts, or the path of one embedding, no list"
        )
    return tuple(_text(item, place) for item in value)


def _text(value: Any, place: str) -> str:
    if value is not None and not isinstance(value, str):
        raise ValueError(f"{place} is {shown(value)}, no text; put it in quotes")
    if value is None or not value.strip():
        raise ValueError(f"{place} is missing or empty; give a text or remove the entry")
    return check_text(value.strip(), place)


def _file(value: Any, place: str, base: Path) -> Path:
    path = base / home_path(_text(value, place))
    in_archive = _ARCHIVE.match(str(path))  # file.npz:key[3]
    if not path.is_file() and not (in_archive and Path(in_archive[1]).is_file()):
        raise ValueError(
            f"{place}: there is no file {path}; paths start at the prompt file's folder"
        )
    return path


def _check_distinct(
    values: list[str], entries: Sequence[tuple[str, Any]], path: Path, what: str
) -> None:
    first: dict[str, str] = {}
    for value, (place, _) in zip(values, entries, strict=True):
        if value in first:
            raise ValueError(
                f"{path}, {place}: the {what} {shown(value)} is that of {first[value]} too; "
                "remove one"
            )
        first[value] = place
