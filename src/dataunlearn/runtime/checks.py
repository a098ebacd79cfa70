"""What configuration classes are made with: checks, and types that a parser can read."""

from __future__ import annotations

from typing import TypeVar, get_type_hints

Config = TypeVar("Config")


def require(condition: bool, message: str) -> None:
    """Raise a ValueError with ``message`` unless ``condition`` holds."""
    if not condition:
        raise ValueError(message)


def with_inherited_types(kind: type[Config]) -> type[Config]:
    """Resolve a dataclass's annotations, those of fields from other modules' bases included.

    The command line's parser looks names up where the class is defined and in its first bases.
    """
    kind.__init__.__annotations__ = get_type_hints(kind) | {"return": type(None)}
    return kind
