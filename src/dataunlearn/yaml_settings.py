"""Configurations to and from the form that a YAML file holds."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from dataunlearn.combine import Combination
from dataunlearn.objectives import Objective
from dataunlearn.timesteps import TimestepPolicy
from dataunlearn.unlearning_config import Unlearning

Config = TypeVar("Config")

# Settings whose value is an object of a class hierarchy, and the hierarchy's base.
HIERARCHIES: Mapping[str, type[Any]] = {
    "objective": Objective,
    "combination": Combination,
    "timesteps": TimestepPolicy,
}


def as_yaml(config: Any) -> Any:
    """A configuration as a YAML file would hold it: objects of a class hierarchy by class path."""
    if isinstance(config, Path):
        return str(config)
    if not dataclasses.is_dataclass(config) or isinstance(config, type):
        return config
    fields = {f.name: as_yaml(getattr(config, f.name)) for f in dataclasses.fields(config)}
    kind = type(config)
    if issubclass(kind, tuple(HIERARCHIES.values())):
        return {"class_path": f"{kind.__module__}.{kind.__qualname__}", "init_args": fields}
    return fields


def parse_unlearning(settings: Mapping[str, Any]) -> Unlearning:
    """Settings of ``dataunlearn unlearn``, as from a YAML file, to a checked configuration.

    Raises:
        ValueError: If a key or value does not fit.
    """
    return parse_settings(Unlearning, settings)


def parse_settings(kind: type[Config], settings: Mapping[str, Any]) -> Config:
    """Settings of a verb, as from a YAML file, to its checked configuration.

    Raises:
        ValueError: If a key or value does not fit.
    """
    from dataunlearn.command_parser import CommandParser

    parser = CommandParser(exit_on_error=False)
    parser.add_class_arguments(kind, as_group=False)
    try:
        parsed = parser.parse_object(dict(settings))
    except Exception as error:  # jsonargparse raises its own kind
        raise ValueError(parser.reworded(str(error))) from error
    return kind(**parser.instantiate_classes(parsed).as_dict())
