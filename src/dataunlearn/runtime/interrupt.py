"""Stopping a run between two steps: Ctrl-C and termination signals."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from accelerate import Accelerator

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
