"""Processes that must not outlive the one that started them."""

from __future__ import annotations

import os
import signal
import threading
import time

PARENT_VARIABLE = "DATAUNLEARN_PARENT"
_LOOK_SECONDS = 0.5


def child_environment() -> dict[str, str]:
    """The environment of a command that is to end with this process, however this one ends."""
    return {**os.environ, PARENT_VARIABLE: str(os.getpid())}


def end_with_parent() -> None:
    """Ask this process to stop, as SIGTERM does, once the one that started it for itself is gone.

    A training then ends after its step, with its state saved. Without such a parent this does
    nothing.
    """
    parent = os.environ.pop(PARENT_VARIABLE, "")
    if not parent.isdigit():
        return

    def watch() -> None:
        while os.getppid() == int(parent):
            time.sleep(_LOOK_SECONDS)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="parent", daemon=True).start()
