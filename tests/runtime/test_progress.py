"""Progress where there is no terminal: lines for a log file, not too many."""

from __future__ import annotations

import pytest

from dataunlearn.runtime import progress


def test_a_log_gets_the_last_line_and_few_others(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ten items of twelve seconds each: a line after at least half a minute, and the end."""
    now = iter(range(0, 1000, 12))
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(now))
    with progress.progress_bar("drawing", 10) as advance:
        for _ in range(10):
            advance(note="of cats")
    lines = capsys.readouterr().err.splitlines()
    assert [line.split()[1] for line in lines] == ["3/10", "6/10", "9/10", "10/10"]
    assert lines[-1].endswith("of cats")


def test_nothing_is_written_where_nothing_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.progress_bar("drawing", 2, shown=False) as advance:
        advance(2)
    assert not capsys.readouterr().err


@pytest.mark.parametrize(("done", "last"), [(2, "fewer were enough"), (5, "5/5")])
def test_what_is_enough_early_goes_to_the_end(
    done: int, last: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with progress.progress_at_most("scoring", 5) as advance:
        for _ in range(done):
            advance()
    lines = capsys.readouterr().err.splitlines()
    assert len([line for line in lines if "5/5" in line]) == 1
    assert last in lines[-1]
