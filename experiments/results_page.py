"""What the scripts of all experiments share: tables in results pages, and the code's commit."""

from __future__ import annotations

import subprocess
from pathlib import Path

from dataunlearn.runtime.files import write_atomically

BEGIN, END = "<!-- table, written by the script -->", "<!-- end of table -->"


def refresh(page: Path, text: str, begin: str = BEGIN) -> None:
    """Put a table into the page, between its markers."""
    head, rest = page.read_text().split(begin)
    tail = rest.split(END, 1)[1]
    write_atomically(page, f"{head}{begin}\n{text}\n{END}{tail}".encode())


def commit() -> str:
    """The commit that the code is at."""
    command = ["git", "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
