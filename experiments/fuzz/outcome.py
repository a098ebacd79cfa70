"""One command in this process, and whether it answered as a command must."""

from __future__ import annotations

import contextlib
import io
import re
import resource
import signal
import time
import traceback
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dataunlearn.cli import main as cli

MOST_SECONDS = 30  # of processor time
MOST_WAITING = 120  # seconds on the wall: other work may run beside
MOST_MIB = 2048
REFUSALS = (1, 2)
ANSWERS = (0, *REFUSALS, 3, 4, 5, 6)
MOST_WORDS = 6000  # of an answer: more hides what it says
# But for what is in brackets by itself, the name of a file.
_NOT_A_NUMBER = re.compile(r"(?<![\w./'\"-])(?!(?<=\()(?:nan|inf)\))(nan|inf)(?![\w./'\"-])")
_BEGUN = re.compile(r"^error: step \d+:", re.MULTILINE)  # it was accepted, and broke on the way
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


class TooSlowError(BaseException):
    """A command took longer than it may; no kind of error that a command handles."""


@dataclass(frozen=True)
class Outcome:
    """What became of a command.

    Attributes:
        code: Its exit code; None if it raised.
        seconds: Its processor time.
        words: What it said.
        fault: What it did that a command must not do; None if nothing.
    """

    code: int | None
    seconds: float
    words: str
    fault: str | None


def run_case(arguments: Sequence[str], folder: Path, given: Path) -> Outcome:
    """Run a command and judge it.

    Args:
        arguments: The command's verb and options.
        folder: What it may write into if it accepts them; nothing of it if it refuses.
        given: What it must never write into.
    """
    before, kept = snapshot(folder), snapshot(given)
    memory, start = _peak_mib(), time.process_time()
    said = io.StringIO()
    code, fault = None, None
    try:
        with _quiet(said), _limited(MOST_WAITING):
            code = _call(arguments)
    except TooSlowError:
        fault = f"hang: over {MOST_WAITING} s"
    except BaseException as error:  # what a command lets through is what is looked for
        last = traceback.extract_tb(error.__traceback__)[-1]
        fault = (
            f"traceback: {type(error).__name__} in {Path(last.filename).name}: {str(error)[:200]}"
        )
    seconds = time.process_time() - start
    words = said.getvalue()
    fault = fault or _fault_of(code, words, seconds)
    if fault is None and _peak_mib() - memory > MOST_MIB:
        fault = f"memory: {_peak_mib() - memory:.0f} MiB more"
    if fault is None and snapshot(given) != kept:
        fault = "wrote into its inputs"
    after = snapshot(folder)
    if fault is None and code in REFUSALS and after != before and not _BEGUN.search(words):
        fault = f"refused, but wrote {sorted(set(after) ^ set(before))[:3]}"
    return Outcome(code, seconds, words, fault)


def snapshot(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and time of all files and folders in a folder."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_dir() and not path.is_symlink():
            found[str(path)] = (0, 0)
        else:
            status = path.lstat()
            found[str(path)] = (status.st_size, status.st_mtime_ns)
    return found


def _call(arguments: Sequence[str]) -> int:
    try:
        return cli.run(list(arguments))
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 1


def _fault_of(code: int | None, words: str, seconds: float) -> str | None:
    if seconds > MOST_SECONDS:
        return f"hang: {seconds:.0f} s of processor time"
    if "Traceback (most recent call last)" in words:
        return "traceback: printed"
    if code not in ANSWERS:
        return f"exit code {code}"
    if code in REFUSALS and "error:" not in words:
        return "refused without a reason"
    control = _CONTROL.search(words.replace("\r", ""))
    if control is not None:
        return f"control character {control.group()!r} printed"
    if code not in REFUSALS and _NOT_A_NUMBER.search(words):
        return "answered with a number that is none"
    if len(words) > MOST_WORDS and code in REFUSALS:
        return f"a refusal of {len(words)} characters"
    return None


@contextlib.contextmanager
def _quiet(said: io.StringIO) -> Iterator[None]:
    with (
        contextlib.redirect_stdout(said),
        contextlib.redirect_stderr(said),
        warnings.catch_warnings(),
    ):
        yield


@contextlib.contextmanager
def _limited(seconds: int) -> Iterator[None]:
    def stop(*_: Any) -> None:
        raise TooSlowError

    previous = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous)


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
