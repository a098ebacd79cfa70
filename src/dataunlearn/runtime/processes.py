"""Processes that train together: one start for all, and what is said when one of them is lost."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from accelerate.utils import broadcast
from torch import Tensor

if TYPE_CHECKING:
    from accelerate import Accelerator

# Backends name themselves, or what the system said of the connection.
_LOST = ("gloo", "nccl", "by peer", "broken pipe", "remote worker")


class LostProcessError(ConnectionError):
    """Another process of the run ended, so that this one waits in vain for its share."""


@contextmanager
def telling_lost_processes(accelerator: Accelerator | None, folder: Path | None) -> Iterator[None]:
    """Say in words that another process is gone, and how the run goes on.

    Args:
        accelerator: The processes; None is one alone, which loses nobody.
        folder: The run's folder; None keeps nothing.

    Raises:
        LostProcessError: In place of the backend's own error.
    """
    try:
        yield
    except RuntimeError as error:
        alone = accelerator is None or accelerator.num_processes == 1
        if alone or not any(sign in str(error).lower() for sign in _LOST):
            raise
        stays = "nothing was kept"
        if folder is not None:
            stays = (
                f"what training has saved in {folder} stays, and the same command with as many "
                "processes goes on from there"
            )
        raise LostProcessError(f"another process of this run was lost: {stays}") from error


def share(values: Iterable[Tensor], accelerator: Accelerator | None) -> None:
    """Give all processes the main one's values, in place.

    Args:
        values: Tensors, the same number of the same shapes in every process.
        accelerator: The processes; None is one alone, which has them.
    """
    if accelerator is None or accelerator.num_processes == 1:
        return
    for value in values:
        value.copy_(broadcast(value.clone()))


def require_processes(accelerator: Accelerator | None) -> Accelerator:
    """Refuse to split anything in one process alone.

    Returns:
        The processes.

    Raises:
        ValueError: If there are no several ones.
    """
    if accelerator is None or accelerator.num_processes == 1:
        raise ValueError(
            "--shard true splits training among several processes, and this is one alone: start "
            "it with torchrun --nproc-per-node N -m dataunlearn ..., or leave it out"
        )
    return accelerator
