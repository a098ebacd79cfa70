"""``~`` for the home folder, wherever a path may stand."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any


def home_path(path: str | Path) -> Path:
    """A path in which a leading ``~`` or ``~name`` is a home folder, where there is one."""
    return Path(os.path.expanduser(path))


def with_home(value: Any) -> Any:
    """Settings in which ``~`` and ``~name`` at the start of a path or text are folders.

    A text that begins otherwise stays, as does one that names nobody: it may be no path at all.

    Args:
        value: A path, a text, a list or a mapping of such, or anything else, which stays.

    Raises:
        ValueError: If a path begins with ``~`` and the name of nobody.
    """
    if isinstance(value, dict):
        return {key: with_home(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)([with_home(item) for item in value])
    if not isinstance(value, str | Path) or not str(value).startswith("~"):
        return value
    found = os.path.expanduser(value)
    if isinstance(value, str):
        return found
    if found.startswith("~"):
        raise ValueError(f"{value}: there is nobody called {value.parts[0][1:]!r} here")
    return Path(found)
