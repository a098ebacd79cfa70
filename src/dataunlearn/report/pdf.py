"""A page as PDF, through a headless browser that the machine has."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from dataunlearn.runtime.checks import require
from dataunlearn.runtime.files import UNFINISHED

BROWSERS = (
    *("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome"),
    *("microsoft-edge", "msedge"),
)
MOST_SECONDS = 180
_MOST_WORDS = 300


def browser() -> str | None:
    """The path of a browser that can print; None where there is none."""
    found = (shutil.which(name) for name in BROWSERS)
    return next((path for path in found if path), None)


def require_browser() -> str:
    """The path of a browser that can print.

    Raises:
        ValueError: If there is none.
    """
    found = browser()
    if found is None:
        raise ValueError(
            "a PDF needs Chromium, Chrome or Edge, and none is found: install chromium, or open "
            "the page in any browser and print it from there"
        )
    return found


def require_pdf_name(out: Path) -> None:
    """Refuse a name that a PDF cannot be written to.

    Raises:
        ValueError: If it has another suffix, or is there.
    """
    require(out.suffix.lower() == ".pdf", f"--pdf {out}: give a file that ends in .pdf")
    require(not out.exists(), f"{out} is there already: choose another --pdf")


def print_page(page: bytes, out: Path) -> None:
    """Print a self-contained page to a PDF file; nothing is asked of the network.

    Raises:
        ValueError: If there is no browser, it fails, or the file is there.
    """
    command = require_browser()
    require_pdf_name(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(
        prefix=f".{out.stem}-", suffix=UNFINISHED, dir=out.parent
    ) as place:
        source, target = Path(place) / "page.html", Path(place) / "page.pdf"
        source.write_bytes(page)
        options = [*options_for(Path(place)), "--no-pdf-header-footer", f"--print-to-pdf={target}"]
        found = run_browser([command, *options, source.resolve().as_uri()])
        if not target.is_file() or not target.stat().st_size:
            said = found.stderr.decode(errors="replace").strip()[-_MOST_WORDS:]
            raise ValueError(f"{command} printed no PDF (exit code {found.returncode}): {said}")
        target.replace(out)


def options_for(place: Path) -> list[str]:
    """A browser's options: headless, with its own profile in a folder, and without a network."""
    options = [
        *("--headless", "--disable-gpu", "--no-first-run", "--disable-extensions"),
        *(f"--user-data-dir={place / 'profile'}", "--host-resolver-rules=MAP * ~NOTFOUND"),
    ]
    as_root = hasattr(os, "geteuid") and os.geteuid() == 0
    return [*options, "--no-sandbox"] if as_root else options  # which refuses to run as root


def run_browser(command: list[str]) -> subprocess.CompletedProcess[bytes]:
    """Run it to its end.

    Raises:
        ValueError: If it takes too long or cannot be started.
    """
    try:
        return subprocess.run(command, capture_output=True, timeout=MOST_SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise ValueError(f"{command[0]} took longer than {MOST_SECONDS} s") from error
    except OSError as error:
        raise ValueError(f"{command[0]} cannot be started: {error.strerror}") from error
