"""What is refused before a page is printed."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from dataunlearn.cli import main as cli
from dataunlearn.report import pdf
from dataunlearn.report.pdf import print_page
from dataunlearn.report.run_files import page_of

PAGE = b"<!DOCTYPE html><title>a</title>"


def test_without_a_browser_it_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(pdf.shutil, "which", lambda _: None)
    assert cli.run(["report", str(tmp_path), "--pdf", str(tmp_path / "a.pdf")]) == 1
    assert "install chromium" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["a.txt", "a", "there.pdf"])
def test_names_that_do_not_do(name: str, tmp_path: Path) -> None:
    (tmp_path / "there.pdf").write_bytes(b"mine")
    with pytest.raises(ValueError, match=r"ends in \.pdf|there already"):
        pdf.require_pdf_name(tmp_path / name)
    assert (tmp_path / "there.pdf").read_bytes() == b"mine"


def test_a_browser_that_fails_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(command: list[str], **_: Any) -> subprocess.CompletedProcess[bytes]:
        return subprocess.CompletedProcess(command, 21, b"", b"no display")

    monkeypatch.setattr(pdf, "browser", lambda: "chromium")
    monkeypatch.setattr(pdf.subprocess, "run", fails)
    with pytest.raises(ValueError, match=r"printed no PDF \(exit code 21\): no display"):
        print_page(PAGE, tmp_path / "a.pdf")
    assert list(tmp_path.iterdir()) == []


def test_a_browser_that_hangs_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def hangs(command: list[str], *, timeout: float, **_: Any) -> None:
        raise subprocess.TimeoutExpired(command, timeout)

    monkeypatch.setattr(pdf, "browser", lambda: "chromium")
    monkeypatch.setattr(pdf.subprocess, "run", hangs)
    with pytest.raises(ValueError, match="took longer than 180 s"):
        print_page(PAGE, tmp_path / "a.pdf")
    assert list(tmp_path.iterdir()) == []


def test_a_verification_is_printed_as_it_stands(tmp_path: Path) -> None:
    (tmp_path / "verification.html").write_bytes(PAGE)
    assert page_of(tmp_path) == PAGE
    with pytest.raises(ValueError, match="shows no pictures"):
        page_of(tmp_path, pictures="blurred")
