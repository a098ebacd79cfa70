"""What configuration classes are made with: checks, and types that a parser can read."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar, get_type_hints

Config = TypeVar("Config")


def require(condition: bool, message: str) -> None:
    """Raise a ValueError with ``message`` unless ``condition`` holds."""
    if not condition:
        raise ValueError(message)


def in_one_line(error: BaseException) -> str:
    """The first line of what an error says, with its kind where it says little."""
    lines: Iterable[str] = (line.strip() for line in str(error).splitlines())
    first = next((line for line in lines if line), "")
    kind = type(error).__name__
    return first if isinstance(error, (OSError, ValueError)) and first else f"{kind}: {first}"


def with_inherited_types(kind: type[Config]) -> type[Config]:
    """Resolve a dataclass's annotations, those of fields from other modules' bases included.

    The command line's parser looks names up where the class is defined and in its first bases.
    """
    kind.__init__.__annotations__ = get_type_hints(kind) | {"return": type(None)}
    return kind
