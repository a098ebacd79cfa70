"""The parser of the command line: jsonargparse's, with help and errors in the user's words."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NoReturn

from jsonargparse import ArgumentParser, DefaultHelpFormatter

_CLASS = re.compile(r"<class '(?:[\w.]+\.)?(\w+)'>")
_CHECKED = re.compile(r"Unvalidated<(.+?)>")


def plain_types(text: str) -> str:
    """Types as a person would name them: ``Path`` for ``<class 'pathlib.Path'>``."""
    return _CHECKED.sub(r"\1", _CLASS.sub(r"\1", text)).replace("NoneType", "null")


class HelpFormatter(DefaultHelpFormatter):
    """Help in which types have their plain names."""

    def _get_type_str(self, action: Any) -> str | None:
        named = super()._get_type_str(action)
        return named if named is None else plain_types(named)


class CommandParser(ArgumentParser):
    """A parser whose errors name options as they are typed, and the choices there are."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        """Take what `ArgumentParser` takes, with our formatter."""
        super().__init__(*arguments, formatter_class=HelpFormatter, **settings)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Say what is wrong, and end the program with exit code 2."""
        missing = re.match(r"the following arguments are required: (\w+)\.", message)
        if missing and self._subcommands_action is not None:
            verb = self._subcommands_action.choices[missing[1]]
            verb.error(f"missing: {verb.options_in(message)}", ex)
        super().error(self.reworded(message), ex)

    def options_in(self, message: str) -> str:
        """The settings that a message lists as ``verb.name``, as they are typed."""
        names = re.findall(r"\w+\.([\w.]+)", message)
        typed = self._option_string_actions
        return ", ".join(f"--{n}" if f"--{n}" in typed else n.upper() for n in names)

    def reworded(self, message: str) -> str:
        """The library's message in the words of the command line."""
        wrong_name = re.search(r'Parser key "([\w.]+)":(?s:.*)Expected a dot import path', message)
        given = re.search(r"(?:path string|Given value): (\w+)\s*$", message)
        choices = self.choices_of(wrong_name[1]) if wrong_name else ()
        if wrong_name and given and choices:
            return f"no {wrong_name[1]} {given[1]!r}; there are {', '.join(choices)}"
        return plain_types(re.sub(r'Parser key "([\w.]+)"', r"--\1", message))

    def choices_of(self, option: str) -> Sequence[str]:
        """Names of the classes that an option takes; empty if it takes something else."""
        from dataunlearn.yaml_settings import HIERARCHIES

        base = HIERARCHIES.get(option.rsplit(".", 1)[-1])
        return [] if base is None else sorted(kind.__name__ for kind in base.__subclasses__())
