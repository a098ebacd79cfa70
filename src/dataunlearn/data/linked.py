"""Texts of pictures that are links: they lie beside what the links lead to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path


def beside_targets(
    paths: Sequence[Path], beside: Mapping[Path, Sequence[int]], suffixes: Sequence[str]
) -> dict[Path, list[int]]:
    """Text files beside the targets of linked pictures that have none beside the link.

    Args:
        paths: The pictures.
        beside: Text files beside pictures, with these pictures' positions.
        suffixes: Of text files, after the picture's name with or without its own.

    Returns:
        Further text files, with positions likewise.
    """
    known = {place for places in beside.values() for place in places}
    found: dict[Path, list[int]] = {}
    for place, path in enumerate(paths):
        if place in known or not path.is_symlink():
            continue
        target = path.resolve()
        for suffix in suffixes:
            for file in (target.with_suffix(suffix), target.with_name(target.name + suffix)):
                if file.is_file():
                    found.setdefault(file, []).append(place)
    return found
