"""Settings as JSON values, and in what two runs' settings differ."""

from __future__ import annotations

import dataclasses
from typing import Any

_WHERE = ("path", "first")


def describe(value: Any) -> Any:
    """A configuration as JSON values; objects of a class hierarchy carry their class's name."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: describe(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {"class": type(value).__name__, **fields}
    if isinstance(value, dict):
        return {str(key): describe(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [describe(item) for item in value]
    if isinstance(value, (str, int, float, bool)) or value is None:
        return value
    return str(value)


def changes(old: Any, new: Any, declared: Any = None, places: tuple[str, ...] = ()) -> list[str]:
    """In what the settings of an unfinished run differ from those of the one that is to go on.

    Args:
        old: The described settings of the unfinished run.
        new: Those that are asked for. Under ``inputs`` they may hold what the inputs are; where the
            old ones do, too, it does not matter where they lie.
        declared: See :func:`differences`.
        places: Settings that say where inputs lie; those inside others with a dot between.
    """
    if isinstance(old, dict) and isinstance(new, dict) and "inputs" in new:
        free = places if "inputs" in old else ("inputs",)
        old, new = _without(old, free), _without(new, free)
    return differences(old, new, declared=declared)


def differences(old: Any, new: Any, name: str = "", declared: Any = None) -> list[str]:
    """Where two described configurations differ, as "name: old -> new".

    Of two descriptions of a file or a model that have a hash, places and names do not count, nor
    what the earlier one did not yet say.

    Args:
        old: The earlier one.
        new: The later one.
        name: What both are called.
        declared: The object that ``new`` describes, if it is at hand. A setting that the earlier
            one does not have, since the version that wrote it knew none of that name, is no
            difference where the later one has its declared default: defaults of new settings are
            what was done before.
    """
    if isinstance(old, dict) and isinstance(new, dict):
        hashed = "sha256" in old and "sha256" in new
        keys = [key for key in dict.fromkeys([*old, *new]) if not (hashed and key in _WHERE)]
        found = []
        for key in keys:
            if key not in old and (hashed or _is_default(declared, key, new[key])):
                continue
            inside = f"{name}.{key}" if name else key
            found += differences(old.get(key), new.get(key), inside, _part(declared, key))
            if key not in old and new[key] is None and dataclasses.is_dataclass(declared):
                found.append(f"{inside}: not known -> None")
        return found
    return [] if old == new else [f"{name}: {old} -> {new}"]


def _without(settings: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    found = dict(settings)
    for name in names:
        outer, _, inner = name.partition(".")
        if inner and isinstance(found.get(outer), dict):
            found[outer] = _without(found[outer], (inner,))
        elif not inner:
            found.pop(outer, None)
    return found


def _part(declared: Any, key: str) -> Any:
    return declared.get(key) if isinstance(declared, dict) else getattr(declared, key, None)


def _is_default(declared: Any, key: str, value: Any) -> bool:
    if not dataclasses.is_dataclass(declared):
        return False
    for field in dataclasses.fields(declared):
        if field.name == key:
            default: Any = field.default
            if field.default_factory is not dataclasses.MISSING:
                default = field.default_factory()
            return default is not dataclasses.MISSING and bool(describe(default) == value)
    return False
