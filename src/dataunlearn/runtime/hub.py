"""Names that may be on the Hugging Face hub: told from mistyped paths, and asked for once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub import constants

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
