"""The options of each action of ``dataunlearn request``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

PROJECT = "--project DIR"


def add_project(parser: Any) -> None:
    """The option that every action needs."""
    parser.add_argument(
        "--project",
        type=Path,
        required=True,
        help="Folder of the project: its ledger, its key and the versions of its model.",
    )


def add_device(parser: Any) -> None:
    """Where to run."""
    parser.add_argument(
        "--device",
        type=str | None,
        default=None,
        help="cpu, cuda or mps; without it the best there is.",
    )


def add_add(parser: Any) -> None:
    """Options of ``request add``."""
    from dataunlearn.requests.config import NewProject, NewRequest

    add_project(parser)
    parser.add_class_arguments(NewRequest, as_group=False)
    parser.add_class_arguments(NewProject, as_group=False)
    add_device(parser)


def add_show(parser: Any) -> None:
    """Options of ``request show``."""
    parser.add_argument("number", type=int, help="Number of the request.")
    add_project(parser)


def add_apply(parser: Any) -> None:
    """Options of ``request apply``."""
    from dataunlearn.requests.config import Applying

    add_project(parser)
    parser.add_class_arguments(Applying, as_group=False)
    add_device(parser)


def add_verify(parser: Any) -> None:
    """Options of ``request verify``."""
    from dataunlearn.verification.config import Effort

    add_project(parser)
    parser.add_argument(
        "--requests",
        type=list[int] | None,
        default=None,
        help="Numbers of requests, such as '[1, 4]'; without it all that are answered.",
    )
    parser.add_argument(
        "--effort",
        type=Effort,
        default="quick",
        help="How hard it is tried, as for `dataunlearn verify`: quick, standard or thorough.",
    )
    add_device(parser)


def add_rollback(parser: Any) -> None:
    """Options of ``request rollback``."""
    add_project(parser)
    parser.add_argument(
        "--to", type=int, required=True, help="Number of the version; 0 is the first model."
    )


def add_withdraw(parser: Any) -> None:
    """Options of ``request withdraw``."""
    parser.add_argument("number", type=int, help="Number of the request.")
    add_project(parser)
    parser.add_argument("--why", type=str, required=True, help="Why, in words; for the record.")


def add_purge(parser: Any) -> None:
    """Options of ``request purge``."""
    add_project(parser)
    parser.add_argument(
        "--days",
        type=int | None,
        default=None,
        help="Purge what was answered at least so many days ago; without it the project's "
        "--retention_days.",
    )


ACTIONS: Mapping[str, tuple[Callable[[Any], None], str, str]] = {
    "add": (
        add_add,
        f"{PROJECT} --images IMAGES|--prompts FILE --reference NAME [--model MODEL --keep IMAGES] "
        "[options]",
        "Put a removal request into the ledger; the first one makes the project.",
    ),
    "list": (
        add_project,
        PROJECT,
        "Show all requests, the versions of the model, and the key that reports are signed with.",
    ),
    "show": (add_show, f"NUMBER {PROJECT}", "Show a request and what was found about it."),
    "apply": (
        add_apply,
        f"{PROJECT} [options]",
        "Answer the open requests: make a new version, verify all requests in it, sign it.",
    ),
    "verify": (
        add_verify,
        f"{PROJECT} [--requests '[1, 4]']",
        "Verify answered requests in the newest version again.",
    ),
    "rollback": (
        add_rollback,
        f"{PROJECT} --to VERSION",
        "Go back to an earlier version; what later ones answered is open again.",
    ),
    "withdraw": (
        add_withdraw,
        f"NUMBER {PROJECT} --why TEXT",
        "Take back an open request: its record stays, and apply leaves it out.",
    ),
    "purge": (
        add_purge,
        f"{PROJECT} [--days DAYS]",
        "Remove what still holds the pictures of answered requests: copies, reports that show "
        "them, and earlier versions, which still know them. There is no way back past these.",
    ),
}
