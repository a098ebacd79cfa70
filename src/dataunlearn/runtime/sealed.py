"""JSON that carries its own checksum, so that damage is noticed when it is read again."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

SEAL = "sha256"


class DamagedFileError(ValueError):
    """A file of a run is not what was written."""


class DamagedFileWarning(UserWarning):
    """A damaged file was left out, and something else took its place."""


def sealed(content: dict[str, Any]) -> dict[str, Any]:
    """JSON values with their checksum under ``sha256``; one that is there is made anew."""
    plain = {key: value for key, value in content.items() if key != SEAL}
    return {**plain, SEAL: _digest(plain)}


def read_sealed(path: Path, *, needs_seal: bool = False) -> dict[str, Any]:
    """The content of a JSON file without its checksum.

    Args:
        path: The file.
        needs_seal: Refuse one without a checksum, as earlier versions wrote.

    Raises:
        DamagedFileError: If it cannot be read, is no JSON object, or its checksum is another.
    """
    return unsealed(_read_text(path), str(path), needs_seal=needs_seal)


def unsealed(text: str, place: str, *, needs_seal: bool = False) -> dict[str, Any]:
    """The content of JSON without its checksum; see :func:`read_sealed`."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DamagedFileError(f"{place} is damaged: it is no JSON") from error
    if not isinstance(content, dict):
        raise DamagedFileError(f"{place} is damaged: it holds no JSON object")
    return opened(content, place, needs_seal=needs_seal)


def opened(content: dict[str, Any], place: str, *, needs_seal: bool = False) -> dict[str, Any]:
    """A JSON object without its checksum, with which it is compared.

    Raises:
        DamagedFileError: If the checksum is another, or needed and missing.
    """
    plain = {key: value for key, value in content.items() if key != SEAL}
    if content.get(SEAL) is None and needs_seal:
        raise DamagedFileError(f"{place} is damaged: it has no checksum")
    if content.get(SEAL) not in (None, _digest(plain)):
        raise DamagedFileError(f"{place} is damaged: its checksum is another")
    return plain


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DamagedFileError(f"{path} is damaged: it cannot be read") from error


def _digest(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
