"""Types of an objective's fields that the command line's parser can read."""

from __future__ import annotations

from contextlib import suppress
from inspect import get_annotations
from typing import Any, get_type_hints


class TypedFields:
    """Base of classes whose fields the parser must check, wherever they are defined.

    It looks the names in inherited annotations up in the subclass's module, and checks nothing of a
    class where one is not known there. So annotations become types as soon as a class is defined.
    One with names that exist for type checkers alone is left as it is.
    """

    def __init_subclass__(cls, **arguments: Any) -> None:
        """Resolve the class's own annotations."""
        super().__init_subclass__(**arguments)
        with suppress(NameError):
            types = get_type_hints(cls)
            own = get_annotations(cls)
            cls.__annotations__ = {name: types[name] for name in own}
