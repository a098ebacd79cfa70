"""The published layout of a prompt's data (Alberti et al. 2025), read and written as it is.

    DATA/original_prompts.json     {"000": "a text", ...}, or a list by folder number
    DATA/modified_prompts.json     the same with other texts, or paths of prompt embeddings (.pt)
    DATA/000/images/*.png          samples
    DATA/000/kmeans_labels.json    {"0.png": 1, "1.png": 0, ...}, 1 for memorised
    DATA/000/clustering_info.json  {"mem_idx": 1, "frac_deletion": 0.5}

The two files of prompts may also lie beside DATA. Labels may be corrected by hand, so shares are
counted from them; what ``clustering_info.json`` says is for other programs.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor

from dataunlearn.data.folders import IMAGE_SUFFIXES
from dataunlearn.prompts.embeddings import (
    as_embedding,
    is_embedding_path,
    read_embedding,
    write_embedding,
)
from dataunlearn.runtime.files import write_atomically
from dataunlearn.runtime.text_files import decode_file, parse_json

ORIGINAL_FILE = "original_prompts.json"
MODIFIED_FILE = "modified_prompts.json"
LABELS_FILE = "kmeans_labels.json"
CLUSTERING_FILE = "clustering_info.json"
IMAGES_FOLDER = "images"

_EMBEDDING_FILE = "modified_prompt.pt"
_NUM_NAMES = 10

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class PromptData:
    """A prompt with its labelled samples.

    Attributes:
        name: Its folder's name.
        folder: Its folder.
        prompt: The original text.
        modified: A text or an embedding ``(L, D)`` to take in its place; None where there is none.
        files: Its images, sorted by name.
        labels: By file name, 1 for memorised and 0 for others.
    """

    name: str
    folder: Path
    prompt: str
    modified: str | Tensor | None
    files: tuple[Path, ...]
    labels: Mapping[str, int]

    @property
    def memorised_files(self) -> tuple[Path, ...]:
        """Images labelled 1."""
        return tuple(path for path in self.files if self.labels[path.name] == 1)

    @property
    def other_files(self) -> tuple[Path, ...]:
        """Images labelled 0."""
        return tuple(path for path in self.files if self.labels[path.name] == 0)

    @property
    def share_memorised(self) -> float:
        """Share of images labelled 1, in [0, 1]."""
        return len(self.memorised_files) / len(self.files)


def read_prompts(root: Path) -> list[PromptData]:
    """Read the data of all prompts, numbers first, in their order, then names.

    Raises:
        ValueError: If a file is missing or does not hold what it should, an image has no label or
            a label no image; the message says what to do.
    """
    if not root.is_dir():
        raise ValueError(f"there is no folder {root}: give the folder that holds the prompts' data")
    prompts, modified = _read_texts(root, ORIGINAL_FILE), _read_texts(root, MODIFIED_FILE)
    with_images = [path for path in root.iterdir() if (path / IMAGES_FOLDER).is_dir()]
    folders = _by_key([(path.name, path) for path in with_images], str(root))
    _check_known(folders, prompts, f"folders of {root}", f"have no entry in {ORIGINAL_FILE}")
    _check_known(prompts, folders, f"entries of {ORIGINAL_FILE}", f"have no folder in {root}")
    _check_known(modified, prompts, f"entries of {MODIFIED_FILE}", f"are not in {ORIGINAL_FILE}")
    return [
        PromptData(
            folders[key].name,
            folders[key],
            prompts[key],
            _open_modified(modified.get(key), root, folders[key]),
            image_files(folders[key]),
            read_labels(folders[key]),
        )
        for key in sorted(prompts, key=_order)
    ]


def image_files(folder: Path) -> tuple[Path, ...]:
    """The images of a prompt's folder, sorted by name.

    Raises:
        ValueError: If there is none.
    """
    images = folder / IMAGES_FOLDER
    inside = images.iterdir() if images.is_dir() else ()
    found = sorted(
        path
        for path in inside
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")
    )
    if not found:
        raise ValueError(f"{images} has no images: generate the prompt's samples first")
    return tuple(found)


def read_labels(folder: Path) -> dict[str, int]:
    """The labels of a prompt's images by file name, in the images' order.

    Raises:
        ValueError: If the file is missing or no JSON, a label is not 0 or 1, an image has no label
            or a label no image.
    """
    path = folder / LABELS_FILE
    labels = _read_json(path)
    files = image_files(folder)
    if not isinstance(labels, dict):
        raise ValueError(f'{path} must map file names to labels, as {{"0.png": 1, "1.png": 0}}')
    _check_labels(labels, files, str(path))
    return {file.name: labels[file.name] for file in files}


def write_labels(folder: Path, labels: Mapping[str, int], *, memorised_cluster: int = 1) -> None:
    """Write a prompt's labels and what they say about the clusters, replacing earlier ones.

    Args:
        folder: The prompt's folder, with its images.
        labels: By file name, 1 for memorised and 0 for others; one for each image.
        memorised_cluster: Index of the memorised one of two clusters, 0 or 1.

    Raises:
        ValueError: If a label is not 0 or 1, an image has no label or a label no image; nothing is
            written then.
    """
    files = image_files(folder)
    _check_labels(labels, files, "the labels")
    if memorised_cluster not in (0, 1):
        raise ValueError(f"memorised_cluster is {memorised_cluster}: give 0 or 1")
    share = sum(labels.values()) / len(labels)
    clustering = {"mem_idx": memorised_cluster, "frac_deletion": share}
    ordered = {file.name: labels[file.name] for file in files}
    write_atomically(folder / CLUSTERING_FILE, _as_json(clustering))
    write_atomically(folder / LABELS_FILE, _as_json(ordered))


def write_prompts(
    root: Path, prompts: Mapping[str, str], modified: Mapping[str, str | Tensor] | None = None
) -> None:
    """Write the prompts' texts, and the modified ones if given, replacing earlier ones.

    Args:
        root: The data's folder.
        prompts: Texts by folder name.
        modified: Texts, or embeddings ``(L, D)`` or ``(1, L, D)``, by folder name.

    Raises:
        ValueError: If a name is no folder name, a text is empty or would be read as a path, a
            modified prompt has no original, or a tensor is no embedding; nothing is written then.
    """
    for name, value in [*prompts.items(), *(modified or {}).items()]:
        if not name or name.startswith(".") or Path(name).name != name:
            raise ValueError(f"{name!r} is no folder name: give a plain one, such as 007")
        if isinstance(value, Tensor):
            as_embedding(value, f"modified prompt {name}")
        elif not value.strip() or is_embedding_path(value):
            raise ValueError(f"prompt {name} is {value!r}: give a text that does not end in .pt")
    _check_known(modified or {}, prompts, "modified prompts", "have no original")
    if modified is not None:
        entries = {}
        for name, value in modified.items():
            entries[name] = f"{name}/{_EMBEDDING_FILE}" if isinstance(value, Tensor) else value
            if isinstance(value, Tensor):
                write_embedding(root / name / _EMBEDDING_FILE, value)
        write_atomically(root / MODIFIED_FILE, _as_json(entries))
    write_atomically(root / ORIGINAL_FILE, _as_json(dict(prompts)))


def drop_entries(root: Path, names: Collection[str]) -> None:
    """Take prompts, whose folders are gone, out of the files of texts."""
    for file in (root / ORIGINAL_FILE, root / MODIFIED_FILE):
        if names and file.is_file():
            left = {name: text for name, text in _read_json(file).items() if name not in names}
            write_atomically(file, _as_json(left))


def _read_texts(root: Path, name: str) -> dict[str, str]:
    """Texts by folder key; none where there is no file of modified prompts."""
    path = root / name if (root / name).is_file() else root.parent / name
    if name == MODIFIED_FILE and not path.is_file():
        return {}
    content = _read_json(path if path.is_file() else root / name)
    if isinstance(content, list):
        content = dict(enumerate(content))
    if not isinstance(content, dict):
        raise ValueError(f'{path} must map folder names to texts, as {{"000": "a text"}}')
    if name == MODIFIED_FILE:
        content = {key: text for key, text in content.items() if text is not None}
    for key, text in content.items():
        if not isinstance(text, str) or not text.strip():
            raise ValueError(f"{path}: entry {key} is {text!r}: give a text")
    return _by_key([(str(key), text) for key, text in content.items()], str(path))


def _open_modified(value: str | None, root: Path, folder: Path) -> str | Tensor | None:
    """The text, or the embedding: a published path may start at another program's folder."""
    if value is None or not is_embedding_path(value):
        return value
    path = Path(value.strip())
    tried = [root / path, root.parent / path, folder / path.name]
    return read_embedding(next((place for place in tried if place.is_file()), tried[0]))


def _read_json(path: Path) -> Any:
    if not path.is_file():
        raise ValueError(f"{path} is missing: the data is incomplete without it, so add it")
    return parse_json(decode_file(path), str(path))


def _as_json(content: Mapping[str, Any]) -> bytes:
    return (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode()


def _check_labels(labels: Mapping[str, Any], files: Collection[Path], source: str) -> None:
    wrong = [
        name for name, value in labels.items() if type(value) is not int or value not in (0, 1)
    ]
    if wrong:
        raise ValueError(f"{source}: give 1 (memorised) or 0 as label of {_some(wrong)}")
    names = {path.name for path in files}
    _check_known(labels, names, f"{source}: labels of", "have no image: remove them")
    _check_known(names, labels, f"{source}: images", "have no label: add 1 (memorised) or 0")


def _check_known(found: Collection[str], known: Collection[str], what: str, problem: str) -> None:
    unknown = [name for name in sorted(found, key=_order) if name not in known]
    if unknown:
        raise ValueError(f"{what} {_some(unknown)} {problem}")


def _some(names: Collection[str]) -> str:
    shown = ", ".join(list(names)[:_NUM_NAMES])
    rest = len(names) - _NUM_NAMES
    return shown if rest <= 0 else f"{shown} and {rest} more"


def _by_key(items: Collection[tuple[str, T]], source: str) -> dict[str, T]:
    """By folder name without leading zeros, so that "7" and "007" are the same."""
    found: dict[str, T] = {}
    for name, value in items:
        key = str(int(name)) if _is_number(name) else name
        if key in found:
            raise ValueError(f"{source} has {name} twice, with and without zeros: remove one")
        found[key] = value
    return found


def _order(name: str) -> tuple[bool, int, str]:
    return not _is_number(name), int(name) if _is_number(name) else 0, name


def _is_number(name: str) -> bool:
    return name.isascii() and name.isdecimal()
