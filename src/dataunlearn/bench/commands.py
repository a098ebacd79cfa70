"""Our own commands in processes of their own, none of which outlives the benchmark."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from dataunlearn.runtime.orphan import child_environment

LAST_LINES = 8
_SECONDS_TO_SAVE = 120
_running: set[subprocess.Popen[str]] = set()


def run_command(
    command: Sequence[str],
    environment: Mapping[str, str] | None = None,
    may_return: tuple[int, ...] = (0,),
) -> None:
    """Run one of our commands in a process of its own, and wait for it.

    Args:
        command: The verb and its options.
        environment: Variables that it has besides this process's.
        may_return: Exit codes that are no failure.

    Raises:
        ValueError: If it failed, with its last lines.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", "dataunlearn", *command],
        env={**child_environment(), **(environment or {})},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    )
    _running.add(process)
    try:
        _, said = process.communicate()
    except BaseException:
        _end([process])
        raise
    finally:
        _running.discard(process)
    if process.returncode not in may_return:
        tail = "\n".join(said.strip().splitlines()[-LAST_LINES:])
        words = " ".join(command)
        raise ValueError(f"dataunlearn {words} failed ({process.returncode}):\n{tail}")


def stop_commands() -> None:
    """Have all commands that run save their state and end, and wait for them."""
    _end(list(_running))


@contextmanager
def stopping_on_signals() -> Iterator[None]:
    """SIGTERM as Ctrl-C, so that commands end before this process does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def _end(processes: Sequence[subprocess.Popen[str]]) -> None:
    for process in processes:
        if process.poll() is None:
            process.terminate()
    for process in processes:
        try:
            process.wait(_SECONDS_TO_SAVE)
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            process.kill()
