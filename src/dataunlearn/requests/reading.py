"""Reading a project's ledger."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from dataclasses import fields
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from dataunlearn.requests import schema
from dataunlearn.requests.records import (
    OWN,
    Event,
    NamedPicture,
    Project,
    Request,
    Verification,
    Version,
    VersionState,
)
from dataunlearn.requests.schema import LedgerError


class LedgerReader:
    """A project's requests, versions and verifications, as they stand in its ledger.

    Args:
        folder: The project's folder.

    Raises:
        LedgerError: If there is no ledger, or it is damaged or of another version.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._connection = schema.connect(folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._connection.close()

    @property
    def project(self) -> Project:
        """What all requests are about."""
        row = self._one("SELECT * FROM project")
        values = {field.name: row[field.name] for field in fields(Project)}
        return Project(**values | {"resize": bool(row["resize"])})

    @property
    def head(self) -> Version:
        """The newest version in the chain."""
        return self.version(self._one("SELECT head FROM project")["head"])

    @property
    def requests(self) -> list[Request]:
        """All requests, in the order of their numbers."""
        rows = self._connection.execute("SELECT * FROM requests ORDER BY id")
        return [self._request(row) for row in rows]

    @property
    def versions(self) -> list[Version]:
        """All versions, in the order of their numbers."""
        rows = self._connection.execute("SELECT id FROM versions ORDER BY id").fetchall()
        return [self.version(row["id"]) for row in rows]

    @property
    def chain(self) -> list[Version]:
        """The versions from the first model to the head."""
        found = [self.head]
        while found[-1].parent is not None:
            if found[-1].parent >= found[-1].id:
                raise LedgerError(f"{self.path} is damaged: version {found[-1].id} has no parent")
            found.append(self.version(found[-1].parent))
        return found[::-1]

    @property
    def answered(self) -> dict[int, int]:
        """Which version of the chain answers each answered request."""
        return {request: version.id for version in self.chain for request in version.requests}

    @property
    def open(self) -> list[Request]:
        """The requests that no version of the chain answers, without those withdrawn."""
        done = {*self.answered, *self.withdrawn}
        return [request for request in self.requests if request.id not in done]

    @property
    def begun(self) -> Version | None:
        """The version whose run has not ended; None if all have."""
        return next((v for v in self.versions if v.state is VersionState.BEGUN), None)

    @property
    def purged(self) -> set[int]:
        """The requests whose traces were removed, copies of their pictures included."""
        return {
            number
            for event in self.events
            if event.what == "purged"
            for number in event.details["requests"]
        }

    @property
    def withdrawn(self) -> set[int]:
        """The requests that nobody has to answer any more."""
        return {e.details["request"] for e in self.events if e.what == "withdrawn"}

    @property
    def accepted(self) -> set[int]:
        """The versions that a person made the head although their verdict is not good."""
        return {
            event.details["version"]
            for event in self.events
            if event.what == "head" and event.details["why"] == "accepted"
        }

    @property
    def events(self) -> list[Event]:
        """All that happened, in order.

        Raises:
            LedgerError: If an event was altered, or one is lacking.
        """
        found: list[Event] = []
        previous = ""
        for row in self._connection.execute("SELECT * FROM events ORDER BY id"):
            expected = event_hash(previous, row["at"], row["what"], row["details"])
            if row["id"] != len(found) + 1 or row["hash"] != expected:
                raise LedgerError(f"{self.path}: event {len(found) + 1} was altered or taken out")
            found.append(
                Event(row["id"], row["at"], row["what"], self._values(row["details"]), row["hash"])
            )
            previous = row["hash"]
        return found

    def request(self, number: int) -> Request:
        """A request.

        Raises:
            LedgerError: If there is none of that number.
        """
        row = self._connection.execute("SELECT * FROM requests WHERE id = ?", (number,)).fetchone()
        if row is None:
            raise LedgerError(f"there is no request {number} in {self.folder}")
        return self._request(row)

    def version(self, number: int) -> Version:
        """A version.

        Raises:
            LedgerError: If there is none of that number.
        """
        row = self._connection.execute("SELECT * FROM versions WHERE id = ?", (number,)).fetchone()
        if row is None:
            raise LedgerError(f"there is no version {number} in {self.folder}")
        answers = self._connection.execute(
            "SELECT request FROM answers WHERE version = ? ORDER BY request", (number,)
        )
        return Version(
            number,
            row["parent"],
            VersionState(row["state"]),
            row["began"],
            row["weights_sha256"],
            self._values(row["settings"]),
            tuple(answer["request"] for answer in answers),
            self._values(row["verdict"]),
            self._values(row["seconds"]),
        )

    def verifications(
        self, *, version: int | None = None, request: int | None = None
    ) -> list[Verification]:
        """Verifications in order of time, all or those of a version, a request or both."""
        rows = self._connection.execute("SELECT * FROM verifications ORDER BY id")
        return [
            self._verification(row)
            for row in rows
            if version in (None, row["version"]) and request in (None, row["request"])
        ]

    def _verification(self, row: sqlite3.Row) -> Verification:
        return Verification(
            *(row["version"], row["request"], row["effort"], row["at"], row["memory"]),
            *(row["words"], self._values(row["numbers"]), row["seconds"]),
        )

    def _one(self, query: str) -> sqlite3.Row:
        row: sqlite3.Row | None = self._connection.execute(query).fetchone()
        if row is None:
            raise LedgerError(f"{self.path} is damaged: it names no project; put back a copy")
        return row

    @property
    def path(self) -> Path:
        """The ledger's file."""
        return self.folder / schema.LEDGER_FILE

    def _values(self, text: str) -> dict[str, Any]:
        """JSON values of a row.

        Raises:
            LedgerError: If they are none.
        """
        try:
            found = json.loads(text)
        except (ValueError, TypeError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise LedgerError(f"{self.path} is damaged: a row holds no JSON; put back a copy")
        return found

    def _source(self, stored: str) -> str:
        """A source as it can be opened: what lies in the project is stored from its folder on."""
        return str((self.folder / stored).resolve()) if stored.startswith(OWN) else stored

    def _request(self, row: sqlite3.Row) -> Request:
        pictures = self._connection.execute(
            "SELECT * FROM pictures WHERE request = ? ORDER BY position", (row["id"],)
        )
        return Request(
            *(row["id"], row["reference"], row["reason"], row["received"], row["added"]),
            self._source(row["source"]),
            tuple(NamedPicture(p["name"], p["digest"], p["file_sha256"]) for p in pictures),
        )


def event_hash(previous: str, at: str, what: str, details: str) -> str:
    """SHA-256 over an event and the hash of the one before."""
    return hashlib.sha256("\n".join((previous, at, what, details)).encode()).hexdigest()
