"""Configurations to and from the form that a YAML file holds."""

from __future__ import annotations

import dataclasses
import difflib
import itertools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar, get_args

import yaml  # type: ignore[import-untyped]
from jsonargparse import ArgumentParser, DefaultHelpFormatter, Namespace, get_loader, set_loader

from dataunlearn.runtime.home import with_home
from dataunlearn.runtime.text_files import parse_yaml, printable, shown
from dataunlearn.unlearning.messages import no_choice, no_list, no_type, plain_types

if TYPE_CHECKING:
    from dataunlearn.unlearning.config import Unlearning

_UNKNOWN = re.compile(
    r"unrecognized arguments: (--[\w.-]+)|does not accept option '([\w.]+)'"
    r"|^Option '([\w.]+)' is not accepted"
)
_MISSING = "the following arguments are required: "
Config = TypeVar("Config")


def hierarchies() -> Mapping[str, type[Any]]:
    """Settings whose value is an object of a class hierarchy, and the hierarchy's base.

    Imported when asked for: the command's own help has no use for them, and they take seconds.
    """
    from dataunlearn.combine import Combination
    from dataunlearn.objectives import Objective
    from dataunlearn.timesteps import TimestepPolicy

    return {"objective": Objective, "combination": Combination, "timesteps": TimestepPolicy}


def as_yaml(config: Any) -> Any:
    """A configuration as a YAML file would hold it: objects of a class hierarchy by class path."""
    if isinstance(config, Path):
        return str(config)
    if not dataclasses.is_dataclass(config) or isinstance(config, type):
        return config
    fields = {f.name: as_yaml(getattr(config, f.name)) for f in dataclasses.fields(config)}
    kind = type(config)
    if issubclass(kind, tuple(hierarchies().values())):
        return {"class_path": f"{kind.__module__}.{kind.__qualname__}", "init_args": fields}
    return fields


def parse_unlearning(settings: Mapping[str, Any]) -> Unlearning:
    """Settings of ``dataunlearn unlearn``, as from a YAML file, to a checked configuration.

    Raises:
        ValueError: If a key or value does not fit.
    """
    from dataunlearn.unlearning.config import Unlearning

    return parse_settings(Unlearning, settings)


def parse_settings(kind: type[Config], settings: Mapping[str, Any]) -> Config:
    """Settings of a verb, as from a YAML file, to its checked configuration.

    Raises:
        ValueError: If a key or value does not fit.
    """
    parser = CommandParser(exit_on_error=False)
    parser.add_class_arguments(kind, as_group=False)
    try:
        parsed = parser.checked(parser.parse_object(dict(settings)))
    except Exception as error:  # jsonargparse raises its own kind
        raise ValueError(parser.reworded(str(error))) from error
    return kind(**parser.instantiate_classes(parsed).as_dict())


def check_given(parser: Any, config: Namespace) -> None:
    """Refuse nothing where a setting needs something, which the library lets pass.

    Raises:
        ValueError: With the setting's name.
    """
    defaults = parser.get_defaults()
    names = [name for name in parser._option_string_actions if name.startswith("--")]
    groups = {name[2:].rpartition(".")[0] for name in names} - {""}
    for group in sorted(groups):
        value = config.get(group)
        if not isinstance(value, Namespace | dict) and isinstance(defaults.get(group), Namespace):
            raise ValueError(
                f"{group} has settings of its own, such as {_example(group, names)}; "
                f"it cannot be {shown(value)}"
            )
    for action in {id(a): a for a in parser._option_string_actions.values()}.values():
        kind, value = getattr(action, "_typehint", None), config.get(action.dest, ...)
        if value is None and kind is not None and not _may_be_nothing(kind, action):
            raise ValueError(f"{action.dest} must not be null: leave it out for its default")


def _example(group: str, names: Sequence[str]) -> str:
    own = (name[2:] for name in names if name.startswith(f"--{group}."))
    return next((name for name in own if not name.endswith(".help")), f"{group}.class_path")


def _may_be_nothing(kind: Any, action: Any) -> bool:
    return kind is Any or type(None) in get_args(kind) or action.default is None


def load_yaml(text: str) -> Any:
    """What the library reads, if it is not so nested or aliased that this would take for ever."""
    if len(text) > _MOST_TRUSTED or "&" in text or "\n" in text:
        try:
            parse_yaml(text, "this file or value")
        except ValueError as error:
            raise yaml.YAMLError(str(error)) from error
    return _with_names(_load(text))


def _with_names(content: Any) -> Any:
    """Content in which keys are names: YAML takes a key `on` for the value true.

    A class whose own settings have none is refused: the library stumbles on it.
    """
    if isinstance(content, list):
        return [_with_names(item) for item in content]
    if not isinstance(content, dict):
        return content
    found = {}
    for key, inner in content.items():
        if key in ("init_args", "dict_kwargs") and not isinstance(inner, dict | type(None)):
            raise yaml.YAMLError(f"{key} takes settings by their names, not {shown(inner)}")
        found[_TRUTHS[key] if isinstance(key, bool) else key] = _with_names(inner)
    return found


_TRUTHS = {True: "on", False: "off"}
_MOST_TRUSTED = 100
_load = get_loader("yaml")
set_loader("yaml", load_yaml, (yaml.YAMLError,))


def command_in(usage: str) -> str:
    """The command that a usage line begins with."""
    words = itertools.takewhile(re.compile(r"[a-z][a-z-]*").fullmatch, usage.split())
    return " ".join(words)


def no_action(message: str) -> str | None:
    """For a verb whose action is not named."""
    found = re.fullmatch(
        r'expected "(\w+)\.action" to be one of .*, but it was not provided\.', message
    )
    return found and f"{found[1]} what? See dataunlearn {found[1]} --help"


# What other tools call our options.
_ELSEWHERE = {
    **dict.fromkeys(("method", "loss", "algorithm"), "objective"),
    **dict.fromkeys(("epochs", "iterations", "max_steps", "max_train_steps"), "steps"),
    **dict.fromkeys(("output", "output_dir", "save_dir"), "out"),
    **dict.fromkeys(("retain", "remain", "train_data"), "keep"),
    **dict.fromkeys(("erase", "delete", "remove"), "forget"),
    **dict.fromkeys(("pretrained_model_name_or_path", "checkpoint"), "model"),
    **dict.fromkeys(("batch_size", "train_batch_size"), "batch_pairs"),
    **dict.fromkeys(("gpu", "cuda"), "device"),
    **dict.fromkeys(("mixed_precision", "dtype"), "precision"),
    "lr": "learning_rate",
}


class HelpFormatter(DefaultHelpFormatter):
    """Help in which types have their plain names."""

    def _get_type_str(self, action: Any) -> str | None:
        named = super()._get_type_str(action)
        return named if named is None else plain_types(named)


class CommandParser(ArgumentParser):
    """A parser whose errors name options as they are typed, and the choices there are."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        """Take what `ArgumentParser` takes, with our formatter and no shortened options."""
        chosen = {"formatter_class": HelpFormatter, "allow_abbrev": False, **settings}
        super().__init__(*arguments, **chosen)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Say what is wrong, and end the program with exit code 2."""
        missing = re.match(rf"{_MISSING}([\w-]+)\.", message)
        unknown = re.match(r"Subcommand '([\w-]+)' does not accept", message)
        if unknown and self._subcommands_action is not None:
            self._subcommands_action.choices[unknown[1]].error(message, ex)
        if missing and self._subcommands_action is not None:
            inner = message.removeprefix(_MISSING).replace(f"{missing[1]}.", "")
            self._subcommands_action.choices[missing[1]].error(f"{_MISSING}{inner}", ex)
        for parser in (self, getattr(ex, "subcommand_parser", None)):
            if parser is not None:
                parser.prog = command_in(parser.usage or parser.prog)  # named by the advice
        super().error(self.reworded(message), ex)

    def checked(self, config: Any) -> Any:
        """Parsed settings in which ``~`` is the home folder, however they were given.

        Raises:
            ValueError: If nothing, or one value, is given for what has settings of its own.
        """
        subcommands = self._subcommands_action
        if subcommands is None:
            check_given(self, config)
        elif config.get(subcommands.dest) is not None:
            chosen = config[subcommands.dest]
            subcommands.choices[chosen].checked(config[chosen])
        for name, value in list(config.items()):
            config[name] = with_home(value)
        return config

    def missing(self, message: str) -> str | None:
        """For settings that are required: how they are typed."""
        if not message.startswith(_MISSING):
            return None
        names = re.findall(r"[\w.-]+", message.removeprefix(_MISSING))
        typed = self._option_string_actions
        said = [f"--{n}" if f"--{n}" in typed else n if n[0] == "-" else n.upper() for n in names]
        return f"missing: {', '.join(said)}"

    def reworded(self, message: str) -> str:
        """The library's message in the words of the command line."""
        rewordings = (
            self.missing,
            no_action,
            self.unknown_class,
            self.unknown_option,
            no_list,
            no_type,
            no_choice,
        )
        plain = plain_types(printable(message))
        found = next((said for reword in rewordings if (said := reword(plain))), plain)
        return re.sub(r'Parser key "([\w.]+)"', r"--\1", found)

    def unknown_class(self, message: str) -> str | None:
        """For a name that no class of the hierarchy has: the names there are."""
        option = re.search(r'Parser key "([\w.]+)":(?s:.*)Expected a dot import path', message)
        given = re.search(r"(?:path string|Given value): (\w+)\s*$", message)
        choices = self.choices_of(option[1]) if option else ()
        if not (option and given and choices):
            return None
        return f"no {option[1]} {given[1]!r}; there are {', '.join(choices)}"

    def unknown_option(self, message: str) -> str | None:
        """For an option or a key of a YAML file that does not exist: the nearest there is."""
        found = _UNKNOWN.search(message)
        if not found:
            return None
        name = (found[1] or found[2] or found[3]).removeprefix("--")
        known = [o.removeprefix("--") for o in self._option_string_actions if o.startswith("--")]
        ours = _ELSEWHERE.get(name, name)
        near = [ours] if ours in known else self.unlearning_option(ours)
        near = near or difflib.get_close_matches(name, known, n=1)
        return f"no option --{name}" + (f"; did you mean --{near[0]}?" if near else "")

    def unlearning_option(self, name: str) -> list[str]:
        """Where a setting of ``unlearn`` is found in a command that nests them; empty if not."""
        if "--unlearning" not in self._option_string_actions:
            return []
        from dataunlearn.unlearning.config import Unlearning

        settings = {field.name for field in dataclasses.fields(Unlearning)}
        return [f"unlearning.{name}"] if name.split(".")[0] in settings else []

    def choices_of(self, option: str) -> Sequence[str]:
        """Names of the public classes that an option takes; empty if it takes something else."""
        base = hierarchies().get(option.rsplit(".", 1)[-1])
        names = [] if base is None else [kind.__name__ for kind in base.__subclasses__()]
        return sorted(name for name in names if not name.startswith("_"))
