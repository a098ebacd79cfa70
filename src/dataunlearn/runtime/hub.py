"""Names that may be on the Hugging Face hub: told from mistyped paths, and asked for once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub import constants

from dataunlearn.runtime.checks import in_one_line

HUB_SECONDS = 5  # to wait for an answer


def require_no_path(name: str) -> None:
    """Refuse ``owner/name`` where ``owner`` is a folder here: it is a path with a slip in it.

    Raises:
        ValueError: If it is.
    """
    owner, _, rest = name.partition("/")
    if Path(owner).is_dir():
        raise ValueError(
            f"there is no {rest!r} in the folder {owner} here; if {name} is meant as a hub id, go "
            "to another folder, or fetch it first (huggingface-cli download) and give its folder"
        )


def no_answer(ask: Callable[..., object], name: str) -> str | None:
    """Why the hub, asked once, says nothing of a name; None if it knows it.

    Args:
        ask: What asks it: a method of ``HfApi`` that takes a name and a ``timeout``.
        name: The name.
    """
    try:
        ask(name, timeout=HUB_SECONDS)
    except Exception as error:  # the hub's client raises many kinds
        return in_one_line(error).partition(" (")[0]  # the rest is advice
    return None


@contextmanager
def without_network() -> Iterator[None]:
    """Let the libraries look at what was fetched earlier alone: each would ask several times."""
    import datasets.config

    before = constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = datasets.config.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE = before
