"""The parser library's messages in words of our own: one line, short, and safe for a terminal."""

from __future__ import annotations

import re

_CLASS = re.compile(r"<class '(?:[\w.]+\.)?(\w+)'>")
_CHECKED = re.compile(r"Unvalidated<(.+?)>")
_LITERAL = re.compile(r"typing\.Literal\[(.+)\]")
_NO_LIST = re.compile(r'"?([\w.]{1,99})"?:\s+Expected a (?:tuple|list)\. Got value: (.+)\s*$')
_NO_TYPE = re.compile(
    r'"?([\w.]{1,99})"?:\s+Expected an? ((?!tuple|list|dot )[^.]+)\. Got value: (.*)\s*$'
)
_SUBTYPE_ERROR = re.compile(r"^\s*- (.+)$", re.MULTILINE)
_GIVEN = re.compile(r"Given value: (.*)\s*$")
_OPTION = re.compile(r'(?:Parser key "|--)([\w.]{1,99})')


def plain_types(text: str) -> str:
    """Types as a person would name them: ``Path`` for ``<class 'pathlib.Path'>``."""
    named = _CHECKED.sub(r"\1", _CLASS.sub(r"\1", text)).replace("NoneType", "null")
    return _LITERAL.sub(lambda found: found[1].replace("'", ""), named)


def no_list(message: str) -> str | None:
    """For one value where several belong: how a list is written."""
    found = _NO_LIST.search(message)
    if not found:
        return None
    return f"--{found[1]} takes a list, such as '[{found[2].strip()}]'; got {found[2].strip()!r}"


def no_type(message: str) -> str | None:
    """For a value of another type than the one that an option takes."""
    found = _NO_TYPE.search(message)
    if not found:
        return None
    return f"--{found[1]} takes {found[2].replace(', ', ' or ')}, not {found[3].strip()}"


def no_choice(message: str) -> str | None:
    """For a value of none of the types that an option takes: what it takes, or what is wrong."""
    if "Does not validate against any of the Union subtypes" not in message:
        return None
    option, given = _OPTION.search(message), _GIVEN.search(message)
    problems = _SUBTYPE_ERROR.findall(message)
    expected = [text.removeprefix("Expected a ") for text in problems if "Expected a " in text]
    told = dict.fromkeys(text for text in problems if "Expected a " not in text)
    if told:
        words = "; ".join(told)
        return words if option is None or option[1] in words else f"--{option[1]}: {words}"
    if option is None or given is None:
        return None
    hint = ""
    if given[1].startswith("cuda:"):
        hint = "; CUDA_VISIBLE_DEVICES in the environment chooses one of several GPUs"
    taken = " or ".join(text.partition(":")[0] for text in expected)
    return f"--{option[1]} takes {taken}, not {given[1].strip()}{hint}"
