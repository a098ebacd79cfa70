"""Stopping a run between two steps: Ctrl-C and termination signals."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from accelerate import Accelerator

from dataunlearn.runtime.exit_codes import INTERRUPTED

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class InterruptedRunError(Exception):
    """The run was asked to stop; its state is saved."""

    def __init__(self, step: int, folder: Path | None) -> None:
        self.step, self.folder = step, folder
        super().__init__(f"interrupted after step {step}")


@contextmanager
def interrupt_flag(accelerator: Accelerator | None) -> Iterator[threading.Event]:
    """An event that Ctrl-C or a termination signal sets, so that a step is never cut in half.

    A second Ctrl-C interrupts at once. Outside the main thread, and with several processes (which
    could stop at different steps), signals keep their ordinary effect.
    """
    flag = threading.Event()
    alone = accelerator is None or accelerator.num_processes == 1
    if not alone or threading.current_thread() is not threading.main_thread():
        yield flag
        return

    def ask_to_stop(number: int, frame: object) -> None:
        if flag.is_set():
            raise KeyboardInterrupt
        flag.set()

    previous = {number: signal.signal(number, ask_to_stop) for number in STOP_SIGNALS}
    try:
        yield flag
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def end_at_once_on_interrupt() -> None:
    """Until :func:`raise_on_interrupt`, end this process at Ctrl-C: there is nothing to save yet.

    An exception would arise wherever the import of a library happens to be, and some take it for
    an error of their own.
    """
    signal.signal(signal.SIGINT, _end_at_once)


def raise_on_interrupt() -> None:
    """From here on Ctrl-C is a ``KeyboardInterrupt`` again."""
    if signal.getsignal(signal.SIGINT) is _end_at_once:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _end_at_once(number: int, frame: object) -> None:
    os.write(2, b"\nInterrupted before anything was done.\n")
    os._exit(INTERRUPTED)
