"""Arguments as people type them, in the one form that the parser reads."""

from __future__ import annotations

import re
from collections.abc import Sequence


def normalise(arguments: Sequence[str]) -> list[str]:
    """Allow ``--dry-run`` for ``--dry_run``, flags without ``true``, and ``bench FILE``."""
    found: list[str] = []
    skip = -1
    if len(arguments) > 1 and arguments[0] == "bench" and not arguments[1].startswith("-"):
        arguments = ["bench", f"--config={arguments[1]}", *arguments[2:]]
    for index, argument in enumerate(arguments):
        if index == skip:
            continue
        if not argument.startswith("--"):
            found.append(argument)
            continue
        name, equals, value = argument.partition("=")
        name = "--" + name[2:].replace("-", "_")
        following = arguments[index + 1] if index + 1 < len(arguments) else "--"
        if not equals and NEGATIVE.fullmatch(following):  # else it is taken for an option
            skip = index + 1
            found.append(f"{name}={following}")
            continue
        bare = not equals and following.lower() not in ("true", "false", "yes", "no")
        is_flag = name[2:] in FLAGS and bare
        found.append(f"{name}=true" if is_flag else name + equals + value)
    return found


NEGATIVE = re.compile(r"-\d*\.?\d+(e[+-]?\d+)?", re.IGNORECASE)

FLAGS = (
    "dry_run",
    "overwrite",
    "compile",
    "drop_overlap",
    "resize",
    "force",
    "evaluation.digits",
    "gradient_checkpointing",
    "one_run_each",
    "copy",
    "accept",
    "restart",
    "rehearse",
    "nll.dequantise",
    "membership.each_timestep",
)


def without_overwrite(arguments: Sequence[str]) -> list[str]:
    """The command that goes on with what this one has begun, instead of beginning anew."""
    found: list[str] = []
    for argument in arguments:
        is_value = found[-1:] == ["--overwrite"] and argument.lower() in ("true", "false")
        if is_value:
            found.pop()
        elif not argument.startswith("--overwrite="):
            found.append(argument)
    return [argument for argument in found if argument != "--overwrite"]
