"""The ledger: what is open follows from the chain, and nothing is half written."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from dataunlearn.requests.going_back import roll_back, withdraw
from dataunlearn.requests.ledger import Ledger
from dataunlearn.requests.purging import purge
from dataunlearn.requests.records import (
    NamedPicture,
    Project,
    Verification,
    Version,
    VersionState,
)
from dataunlearn.requests.replay import require_as_told
from dataunlearn.requests.schema import LEDGER_FILE, LedgerError
from dataunlearn.requests.words import listing, shown, state_of

PROJECT = Project("model", "0" * 64, "keep")
PICTURES = (NamedPicture("a.png", "1" * 64, "2" * 64), NamedPicture("b.png", "3" * 64))


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    """A ledger with three requests."""
    found = Ledger.create(tmp_path / "project", PROJECT)
    for name in ("first", "second", "third"):
        found.add(name, "asked", "2026-11-01", f"{name}.png", PICTURES)
    return found


def make(ledger: Ledger, *requests: int, head: bool = True) -> Version:
    """Answer requests by a version."""
    begun = ledger.begin(requests, {"unlearning": {"steps": 3}})
    done = replace(begun, weights_sha256="f" * 64, verdict={"memory": "as if never seen"})
    ledger.conclude(
        done,
        [verification(done.id, request) for request in requests],
        head="made" if head else None,
    )
    return ledger.version(done.id)


def verification(version: int, request: int, memory: str = "as if never seen") -> Verification:
    return Verification(version, request, "quick", "2026-11-02T00:00:00Z", memory, "none", {"a": 1})


def test_what_was_written_is_read(ledger: Ledger) -> None:
    with Ledger(ledger.folder) as again:
        assert replace(again.project, created="") == PROJECT
        assert [request.reference for request in again.requests] == ["first", "second", "third"]
        assert again.request(1).pictures == PICTURES
        assert again.head.id == 0
        assert [event.what for event in again.events] == ["project", *["request"] * 3]


def test_open_is_what_no_version_of_the_chain_answers(ledger: Ledger) -> None:
    assert [request.id for request in ledger.open] == [1, 2, 3]
    make(ledger, 1)
    make(ledger, 2, head=False)  # not accepted
    make(ledger, 3)
    assert [version.id for version in ledger.chain] == [0, 1, 3]
    assert ledger.answered == {1: 1, 3: 3}
    assert [request.id for request in ledger.open] == [2]


def test_rollback_opens_requests_again(ledger: Ledger) -> None:
    for number in (1, 2, 3):
        make(ledger, number)
        require_as_told(ledger)
    opened = roll_back(ledger.folder, 1)
    assert [request.id for request in opened] == [2, 3]
    with Ledger(ledger.folder) as again:
        assert again.head.id == 1
        later = make(again, 2, 3)
        assert later.id == 4
        assert later.parent == 1
    with pytest.raises(LedgerError, match="there are 0, 1"):
        roll_back(ledger.folder, 3)  # beside the chain
    with pytest.raises(LedgerError, match="not before the head"):
        roll_back(ledger.folder, 4)


def test_versions_that_were_purged_are_no_way_back(ledger: Ledger) -> None:
    make(ledger, 1)
    make(ledger, 2)
    ledger.purge([], [1])
    with pytest.raises(LedgerError, match="version 1 was purged"):
        roll_back(ledger.folder, 1)


def test_what_was_purged_does_not_open_again(ledger: Ledger) -> None:
    make(ledger, 1)
    make(ledger, 2)
    make(ledger, 3)
    ledger.purge([2], [1])
    with pytest.raises(LedgerError, match="request 2 was purged: version 0 still knows"):
        roll_back(ledger.folder, 0)
    assert [request.id for request in roll_back(ledger.folder, 2)] == [3]


def test_a_begun_version_is_found_and_given_up(ledger: Ledger) -> None:
    begun = ledger.begin([1, 2], {})
    assert ledger.begun == begun
    assert [request.id for request in ledger.open] == [1, 2, 3]
    ledger.give_up(begun)
    assert ledger.begun is None
    assert ledger.version(begun.id).state is VersionState.GIVEN_UP
    assert ledger.begin([1], {}).id == begun.id + 1  # its folder is its own


def test_each_reference_is_one_request(ledger: Ledger) -> None:
    with pytest.raises(LedgerError, match="request 2 has the reference 'second'"):
        ledger.add("second", "", "2026-11-01", "x.png", PICTURES)
    assert len(ledger.requests) == 3


def test_nothing_to_forget_is_an_answer_of_the_head(ledger: Ledger) -> None:
    ledger.nothing_to_forget([verification(0, 2)])
    assert ledger.answered == {2: 0}
    assert state_of(ledger, ledger.request(2)) == "answered in version 0; as if never seen"


def test_the_state_is_that_of_the_newest_look_at_the_head(ledger: Ledger) -> None:
    make(ledger, 1)
    ledger.verified([verification(1, 1, "still known")])
    assert state_of(ledger, ledger.request(1)) == "answered in version 1; still known"
    make(ledger, 2)
    assert state_of(ledger, ledger.request(1)) == "answered in version 1; not verified since"


def test_a_withdrawn_request_is_not_open_and_stays_on_record(ledger: Ledger) -> None:
    folder = ledger.folder
    ledger._connection.close()
    assert withdraw(folder, 2, " not theirs ", say=print).id == 2
    with Ledger(folder) as again:
        assert [request.id for request in again.open] == [1, 3]
        assert again.withdrawn == {2}
        assert "withdrawn" in listing(again)
        assert again.events[-1].details == {"request": 2, "why": "not theirs"}
        require_as_told(again)
    with pytest.raises(LedgerError, match="already"):
        withdraw(folder, 2, "again", say=print)
    with pytest.raises(LedgerError, match="no request 9"):
        withdraw(folder, 9, "no", say=print)
    with pytest.raises(ValueError, match="--why"):
        withdraw(folder, 1, " ", say=print)


def test_what_is_answered_cannot_be_withdrawn(ledger: Ledger) -> None:
    make(ledger, 1)
    folder = ledger.folder
    ledger._connection.close()
    said: list[str] = []
    with pytest.raises(LedgerError, match=r"answered in version 1.*rollback"):
        withdraw(folder, 1, "no", say=print)
    roll_back(folder, 0)
    assert withdraw(folder, 1, "theirs no more", say=said.append).id == 1
    assert not said


def test_a_version_begun_for_what_is_withdrawn_is_given_up(ledger: Ledger) -> None:
    begun, folder = ledger.begin([2, 3], {}), ledger.folder
    ledger._connection.close()
    said: list[str] = []
    withdraw(folder, 2, "no", say=said.append)
    with Ledger(folder) as again:
        assert again.version(begun.id).state is VersionState.GIVEN_UP
        assert [request.id for request in again.open] == [1, 3]
        assert "withdrawn 20" in shown(again, again.request(2))
        assert ": no\n" in shown(again, again.request(2))
        require_as_told(again)
    assert said == [f"Version {begun.id}, which was begun for it and not ended, is given up."]


def test_words_name_everything(ledger: Ledger) -> None:
    make(ledger, 1)
    text = listing(ledger)
    for part in ("first", "open", "head: version 1", "* version 0", "the first apply makes"):
        assert part in text
    one = shown(ledger, ledger.request(1))
    assert PICTURES[0].digest in one
    assert "version 1, quick: as if never seen: none" in one


@pytest.mark.parametrize("change", ["details = '{}'", "at = '2020'", "hash = 'x'"])
def test_altered_events_are_found(ledger: Ledger, change: str) -> None:
    connection = sqlite3.connect(ledger.folder / LEDGER_FILE)
    connection.execute(f"UPDATE events SET {change} WHERE id = 2")
    connection.commit()
    connection.close()
    with Ledger(ledger.folder) as again, pytest.raises(LedgerError, match="event 2 was altered"):
        listing(again)


def test_events_that_are_lacking_are_found(ledger: Ledger) -> None:
    connection = sqlite3.connect(ledger.folder / LEDGER_FILE)
    connection.execute("DELETE FROM events WHERE id = 2")
    connection.commit()
    connection.close()
    with Ledger(ledger.folder) as again, pytest.raises(LedgerError, match="taken out"):
        listing(again)


def test_damage_is_refused(ledger: Ledger) -> None:
    path = ledger.folder / LEDGER_FILE
    path.write_bytes(b"no database at all" * 100)
    with pytest.raises(LedgerError, match="damaged or no ledger"):
        Ledger(ledger.folder)


def test_an_empty_file_is_no_ledger(tmp_path: Path) -> None:
    (tmp_path / LEDGER_FILE).write_bytes(b"")
    with pytest.raises(LedgerError, match="the first request makes one"):
        Ledger(tmp_path)
    Ledger.create(tmp_path, PROJECT)
    with pytest.raises(LedgerError, match="there already"):
        Ledger.create(tmp_path, PROJECT)


def test_a_later_schema_is_refused(ledger: Ledger) -> None:
    connection = sqlite3.connect(ledger.folder / LEDGER_FILE)
    connection.execute("PRAGMA user_version = 99")
    connection.commit()
    connection.close()
    with pytest.raises(LedgerError, match="schema 99 and this version reads 2"):
        Ledger(ledger.folder)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("UPDATE requests SET received = '2020-01-01' WHERE id = 2", r"a request \(number 2\)"),
        ("UPDATE pictures SET digest = '5' WHERE request = 3", r"a request \(number 3\)"),
        ("DELETE FROM pictures WHERE request = 1 AND position = 1", r"a request \(number 1\)"),
        ("UPDATE versions SET state = 'begun' WHERE id = 2", r"a version \(number 2\)"),
        ("UPDATE versions SET verdict = '{}' WHERE id = 1", r"came to \(number 1\)"),
        ("UPDATE versions SET weights_sha256 = 'e' WHERE id = 2", r"came to \(number 2\)"),
        ("UPDATE verifications SET memory = 'still known'", "a verification"),
        ("UPDATE verifications SET words = 'all is well' WHERE id = 1", "a verification"),
        ("DELETE FROM verifications WHERE id = 2", "a verification"),
        ("DELETE FROM answers WHERE version = 2", r"a version answers \(number 2\)"),
        ("UPDATE project SET head = 1", "the head"),
        ("UPDATE project SET retention_days = 0", "what the project is about"),
        ("UPDATE project SET keep = 'elsewhere'", "what the project is about"),
        ("DELETE FROM events WHERE id = (SELECT max(id) FROM events)", "the head"),
        ("DELETE FROM events WHERE id > 4", "newest events were taken out"),
        ("UPDATE events SET what = 'other' WHERE id = 1", "was altered"),
    ],
)
def test_tables_that_the_events_do_not_tell_of_are_found(
    ledger: Ledger, change: str, said: str
) -> None:
    make(ledger, 1)
    make(ledger, 2)
    ledger.nothing_to_forget([verification(2, 3)])
    roll_back(ledger.folder, 1)
    ledger.move_head(ledger.version(2), "accepted")
    require_as_told(ledger)
    connection = sqlite3.connect(ledger.folder / LEDGER_FILE)
    connection.execute(change)
    connection.commit()
    connection.close()
    for look in (listing, lambda ledger: shown(ledger, ledger.request(1))):
        with Ledger(ledger.folder) as again, pytest.raises(LedgerError, match=said):
            look(again)
    for change_it in (
        lambda: roll_back(ledger.folder, 1),
        lambda: purge(ledger.folder, 0, say=print),
    ):
        with pytest.raises(LedgerError, match=said):
            change_it()


def test_a_project_may_be_moved(ledger: Ledger, tmp_path: Path) -> None:
    """The place of its own copies of pictures is no part of what is compared."""
    ledger.add("fourth", "", "2026-11-01", "./pictures/0004", PICTURES)
    make(ledger, 4)
    ledger.purge([4], [0])
    ledger.folder.rename(tmp_path / "elsewhere")
    with Ledger(tmp_path / "elsewhere") as again:
        require_as_told(again)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("UPDATE versions SET parent = 1 WHERE id = 1", "has no parent"),
        ("DELETE FROM project", "names no project"),
        ("UPDATE versions SET verdict = '[]' WHERE id = 1", "no JSON"),
        ("UPDATE versions SET settings = '{' WHERE id = 1", "no JSON"),
        ("UPDATE verifications SET numbers = 'x'", "no JSON"),
    ],
)
def test_an_edited_ledger_is_refused(ledger: Ledger, change: str, said: str) -> None:
    make(ledger, 1)
    connection = sqlite3.connect(ledger.folder / LEDGER_FILE)
    connection.execute(change)
    connection.commit()
    connection.close()
    with Ledger(ledger.folder) as again, pytest.raises(LedgerError, match=said):
        listing(again)


def test_a_folder_that_another_ledger_left_is_not_taken(ledger: Ledger) -> None:
    (ledger.folder / "versions" / "0001").mkdir(parents=True)
    assert ledger.begin([1], {}).id == 2


WRITER = """
import sys
from pathlib import Path
from dataunlearn.requests.ledger import Ledger
from dataunlearn.requests.records import NamedPicture, Project
folder = Path(sys.argv[1])
ledger = Ledger.create(folder, Project("model", "0" * 64, "keep"))
print("ready", flush=True)
number = 0
while True:
    number += 1
    picture = NamedPicture("a.png", f"{number:064x}")
    ledger.add(f"request {number}", "why", "2026-11-01", "a.png", [picture] * 3)
    ledger.begin([number], {})
    ledger.conclude(ledger.begun, [], head="made")
"""


@pytest.mark.parametrize("moment", [0.0, 0.031, 0.073, 0.14])
def test_kills_leave_whole_transactions(tmp_path: Path, moment: float) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    time.sleep(moment)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    with Ledger(tmp_path) as ledger:
        require_as_told(ledger)
        events = [(event.what, event.details) for event in ledger.events]
        requests = [d["request"] for what, d in events if what == "request"]
        assert [request.id for request in ledger.requests] == requests
        assert all(len(request.pictures) == 3 for request in ledger.requests)
        heads = [details["version"] for what, details in events if what == "head"]
        assert ledger.head.id == (heads[-1] if heads else 0)
        assert len(ledger.open) in (0, 1)
