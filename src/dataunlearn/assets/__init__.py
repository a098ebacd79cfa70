"""Files that ship with the package: a small base model, digits, the T-shirt, a classifier."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path


def asset(name: str) -> Path:
    """The path of a shipped file or folder.

    Raises:
        FileNotFoundError: If the package was installed without it.
    """
    path = Path(str(files("dataunlearn.assets"))) / name
    if not path.exists():
        raise FileNotFoundError(f"{name} is missing from the package's assets: install it again")
    return path
