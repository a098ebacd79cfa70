"""Progress bars for anything that takes more than a few seconds."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

Say = Callable[[str], None]

LINE_SECONDS = 30
Advance = Callable[..., None]


@contextmanager
def progress_bar(description: str, total: int, *, shown: bool = True) -> Iterator[Advance]:
    """A bar on standard error.

    Args:
        description: What is being done.
        total: Number of items.
        shown: False draws nothing.

    Yields:
        ``advance(count=1, note="")``: count items as done, with a note beside the bar.
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    console = Console(stderr=True)
    if shown and not console.is_terminal:
        yield line_by_line(console, description, total)
        return
    with Progress(*columns, console=console, disable=not shown) as progress:
        task = progress.add_task(description, total=total, note="")

        def advance(count: int = 1, note: str = "") -> None:
            progress.update(task, advance=count, note=note)

        yield advance


@contextmanager
def progress_at_most(description: str, most: int, *, shown: bool = True) -> Iterator[Advance]:
    """A bar for what may be enough before its end: the bar then goes there at once.

    Args:
        description: What is being done.
        most: Largest number of items.
        shown: False draws nothing.
    """
    left = most
    with progress_bar(description, most, shown=shown) as advance:

        def count_down(count: int = 1, note: str = "") -> None:
            nonlocal left
            left -= count
            advance(count, note)

        yield count_down
        if left > 0:
            advance(left, "fewer were enough")


def line_by_line(console: Console, description: str, total: int) -> Advance:
    """Progress for a log file: a line at most every half minute, and one at the end."""
    started, done = time.monotonic(), 0
    last = started

    def advance(count: int = 1, note: str = "") -> None:
        nonlocal done, last
        done += count
        now = time.monotonic()
        if now - last < LINE_SECONDS and done < total:
            return
        last = now
        minutes, seconds = divmod(round(now - started), 60)
        words = f"{description} {done}/{total} {minutes}:{seconds:02d} {note}"
        console.print(words.rstrip(), markup=False, highlight=False, soft_wrap=True)

    return advance
