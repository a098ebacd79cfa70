"""Our own commands in processes of their own, none of which outlives the benchmark."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dataunlearn.runtime.files import write_atomically
from dataunlearn.runtime.lock import wait_until_free
from dataunlearn.runtime.orphan import child_environment

LAST_LINES = 8
SECONDS_TO_END = 120  # for a run that a killed benchmark leaves behind
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


def run_with(
    verb: str,
    settings: Mapping[str, Any],
    config: Path,
    environment: Mapping[str, str] | None = None,
    may_return: tuple[int, ...] = (0,),
) -> None:
    """Run one of our commands with these settings, once its folder is free.

    Args:
        verb: The command's verb.
        settings: Its settings, with the folder it writes to as ``out``.
        config: Where they are written for it.
        environment: See :func:`run_command`.
        may_return: Likewise.

    Raises:
        ValueError: If it failed, or if another process holds the folder for too long.
    """
    write_atomically(config, json.dumps(settings, indent=1).encode())  # JSON is YAML
    wait_until_free(Path(settings["out"]), SECONDS_TO_END)
    run_command([verb, "--config", str(config)], environment, may_return)


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
