"""Does a ledger's record of events tell what its tables hold?

Every event carries a hash over itself and the one before, and a hash of the rows that it made. So
whoever alters a row, or takes the newest events out, leaves tables that the events do not tell of.
Against somebody who writes all of it anew only what lies elsewhere helps: signatures in reports
that were handed out, which state the newest hash of their time.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dataunlearn.requests.records import (
    Event,
    Project,
    Request,
    Verification,
    Version,
    VersionState,
)
from dataunlearn.requests.schema import LedgerError
from dataunlearn.runtime.settings import describe

if TYPE_CHECKING:
    from dataunlearn.requests.reading import LedgerReader


def row_digest(row: Project | Request | Verification | Mapping[str, Any]) -> str:
    """SHA-256 over what a row says; of a request without the place of its pictures.

    A project may be moved, and its pictures are known by their own hashes.
    """
    values = dict(row) if isinstance(row, Mapping) else describe(row)
    values.pop("source", None)
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def version_digest(version: Version) -> str:
    """SHA-256 over what a version's run came to."""
    kept = ("weights_sha256", "settings", "verdict", "seconds")
    return row_digest({name: describe(getattr(version, name)) for name in kept})


@dataclass
class Told:
    """What a record of events tells of the tables, so far.

    Attributes:
        project: The project's digest; empty in ledgers that did not state it yet.
        head: The head's number.
        requests: The digest of each request.
        states: The state of each version.
        answers: Which requests each version answers.
        made: The digest of each version that was made.
        verifications: The digest of each verification, in order.
    """

    project: str = ""
    head: int = 0
    requests: dict[int, str] = field(default_factory=dict)
    states: dict[int, VersionState] = field(default_factory=lambda: {0: VersionState.MADE})
    answers: dict[int, set[int]] = field(default_factory=lambda: {0: set()})
    made: dict[int, str] = field(default_factory=dict)
    verifications: list[str] = field(default_factory=list)

    @classmethod
    def by(cls, events: Iterable[Event]) -> Told:
        """What these events tell.

        Raises:
            KeyError: If one lacks what its kind has.
        """
        found = cls()
        for event in events:
            _TELLING[event.what](found, event.details)
        return found

    def _project(self, details: Mapping[str, Any]) -> None:
        self.project = details.get("sha256", "")

    def _request(self, details: Mapping[str, Any]) -> None:
        self.requests[details["request"]] = details["sha256"]

    def _begun(self, details: Mapping[str, Any]) -> None:
        self.states[details["version"]] = VersionState.BEGUN
        self.answers[details["version"]] = set(details["requests"])

    def _given_up(self, details: Mapping[str, Any]) -> None:
        self.states[details["version"]] = VersionState.GIVEN_UP

    def _made(self, details: Mapping[str, Any]) -> None:
        self.states[details["version"]] = VersionState.MADE
        self.made[details["version"]] = details["sha256"]

    def _answered(self, details: Mapping[str, Any]) -> None:
        self.answers[details["version"]] |= set(details["requests"])

    def _verified(self, details: Mapping[str, Any]) -> None:
        self.verifications.append(details["sha256"])

    def _head(self, details: Mapping[str, Any]) -> None:
        self.head = details["version"]

    def _withdrawn(self, details: Mapping[str, Any]) -> None:
        """The event alone says so: the request's row stays as it was."""

    def _purged(self, details: Mapping[str, Any]) -> None:
        for version in details["versions"]:
            self.states[version] = VersionState.PURGED


_TELLING: Mapping[str, Callable[[Told, Mapping[str, Any]], None]] = {
    "project": Told._project,
    "request": Told._request,
    "begun": Told._begun,
    "given up": Told._given_up,
    "made": Told._made,
    "answered": Told._answered,
    "verified": Told._verified,
    "head": Told._head,
    "withdrawn": Told._withdrawn,
    "purged": Told._purged,
}


def require_as_told(ledger: LedgerReader) -> None:
    """Refuse a ledger whose tables are not what its events tell.

    Raises:
        LedgerError: Naming what was altered.
    """
    try:
        told = Told.by(ledger.events)
    except KeyError as error:
        raise LedgerError(f"{ledger.path}: an event lacks {error}: it was altered") from error
    versions = ledger.versions
    held = Told(
        row_digest(ledger.project) if told.project else "",
        ledger.head.id,
        {request.id: row_digest(request) for request in ledger.requests},
        {version.id: version.state for version in versions},
        {version.id: set(version.requests) for version in versions},
        {version.id: version_digest(version) for version in versions if version.id in told.made},
        [row_digest(each) for each in ledger.verifications()],
    )
    _require_same(ledger, "what the project is about", told.project, held.project)
    for word, name in (("the head", "head"), ("a request", "requests"), ("a version", "states")):
        _require_same(ledger, word, getattr(told, name), getattr(held, name))
    _require_same(ledger, "which requests a version answers", told.answers, held.answers)
    _require_same(ledger, "what a version came to", told.made, held.made)
    _require_same(ledger, "a verification", told.verifications, held.verifications)


def faults(ledger: LedgerReader) -> tuple[str, frozenset[str]]:
    """What is wrong with a ledger, empty if nothing is; and the hashes of its events."""
    try:
        require_as_told(ledger)
        return "", frozenset(event.hash for event in ledger.events)
    except LedgerError as error:
        return str(error), frozenset()


def _require_same(ledger: LedgerReader, word: str, told: Any, held: Any) -> None:
    if told == held:
        return
    where = ""
    if isinstance(told, dict):
        names = sorted(key for key in {*told, *held} if told.get(key) != held.get(key))
        where = f" (number {', '.join(map(str, names))})"
    raise LedgerError(
        f"{ledger.path}: {word}{where} is not as its record of events tells: the ledger was "
        "altered, or its newest events were taken out; put back a copy"
    )
