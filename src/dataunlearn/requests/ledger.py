"""The ledger of a project: SQLite, one transaction for each thing that happens."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from dataunlearn.requests import schema
from dataunlearn.requests.reading import LedgerReader, event_hash
from dataunlearn.requests.records import (
    VERSIONS,
    HeadMoved,
    NamedPicture,
    Project,
    Request,
    Verification,
    Version,
)
from dataunlearn.requests.replay import require_as_told, row_digest, version_digest
from dataunlearn.requests.schema import LedgerError, require_ledger
from dataunlearn.runtime.lock import locked


def now() -> str:
    """This moment, in UTC."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


class Ledger(LedgerReader):
    """A project's ledger, to be read and written.

    Whatever is changed is changed within one transaction together with its event, so that a ledger
    is consistent whenever its process is killed. Who writes holds the project's folder
    (:func:`dataunlearn.runtime.lock.locked`).
    """

    @classmethod
    def create(cls, folder: Path, project: Project) -> Self:
        """Make the ledger of a new project, whose version 0 is its model.

        Raises:
            LedgerError: If there is one.
        """
        found = cls.__new__(cls)
        found.folder, found._connection = folder, schema.create(folder)
        created = project.created or now()
        with found._changing():
            schema.make_tables(found._connection)
            found._connection.execute(
                "INSERT INTO versions VALUES (0, NULL, 'made', ?, ?, '{}', '{}', '{}')",
                (created, project.model_sha256),
            )
            found._connection.execute(
                "INSERT INTO project VALUES (1, ?, ?, ?, ?, ?, ?, ?, ?, 0)",
                (
                    *(project.model, project.model_sha256, project.keep, project.scheduler),
                    *(project.image_size, project.resize, created, project.retention_days),
                ),
            )
            details = {"model": project.model, "weights": project.model_sha256}
            found._note("project", details | {"sha256": row_digest(found.project)})
        return found

    def add(
        self,
        reference: str,
        reason: str,
        received: str,
        source: str,
        pictures: Sequence[NamedPicture],
    ) -> Request:
        """Put a request into the ledger.

        Raises:
            LedgerError: If there is one with that reference.
        """
        self.require_new(reference)
        with self._changing():
            added = self._connection.execute(
                "INSERT INTO requests VALUES (NULL, ?, ?, ?, ?, ?)",
                (reference, reason, received, now(), source),
            )
            number = int(added.lastrowid or 0)
            self._connection.executemany(
                "INSERT INTO pictures VALUES (?, ?, ?, ?, ?)",
                [(number, i, p.name, p.digest, p.file_sha256) for i, p in enumerate(pictures)],
            )
            digests = [picture.digest for picture in pictures]
            details = {"request": number, "reference": reference, "digests": digests}
            found = self.request(number)
            self._note("request", details | {"sha256": row_digest(found)})
        return found

    def require_new(self, reference: str) -> None:
        """Refuse a reference that a request has already.

        Raises:
            LedgerError: With that request's number.
        """
        known = {request.reference: request.id for request in self.requests}
        if reference in known:
            raise LedgerError(
                f"request {known[reference]} has the reference {reference!r} already: each has one "
                "of its own"
            )

    def begin(self, requests: Sequence[int], settings: Mapping[str, Any]) -> Version:
        """Begin a version that answers requests, made from the head."""
        last = self._one("SELECT max(id) AS id FROM versions")
        number = last["id"] + 1
        while (self.folder / VERSIONS / f"{number:04d}").exists():
            number += 1  # a folder that another ledger, or an earlier state of this one, left
        with self._changing():
            self._connection.execute(
                "INSERT INTO versions VALUES (?, ?, 'begun', ?, '', ?, '{}', '{}')",
                (number, self.head.id, now(), json.dumps(dict(settings))),
            )
            self._connection.executemany(
                "INSERT INTO answers VALUES (?, ?)", [(number, request) for request in requests]
            )
            self._note("begun", {"version": number, "requests": list(requests)})
        return self.version(number)

    def give_up(self, version: Version) -> None:
        """Note that a version that was begun is not to be made; its requests stay open."""
        with self._changing():
            self._connection.execute(
                "UPDATE versions SET state = 'given up' WHERE id = ?", (version.id,)
            )
            self._note("given up", {"version": version.id})

    def nothing_to_forget(self, found: Sequence[Verification]) -> None:
        """Note that the head answers requests as it is, since it does not know their pictures."""
        with self._changing():
            self._connection.executemany(
                "INSERT INTO answers VALUES (?, ?)",
                [(each.version, each.request) for each in found],
            )
            for version in sorted({each.version for each in found}):
                requests = [each.request for each in found if each.version == version]
                self._note("answered", {"version": version, "requests": requests})
            self._verified(found)

    def withdraw(self, request: Request, why: str) -> None:
        """Note that a request is not to be answered."""
        with self._changing():
            self._note("withdrawn", {"request": request.id, "why": why})

    def purge(self, requests: Sequence[int], versions: Sequence[int]) -> None:
        """Note that the traces of requests, and the models of versions, are to be removed."""
        if not requests and not versions:
            return
        with self._changing():
            for version in versions:
                self._connection.execute(
                    "UPDATE versions SET state = 'purged' WHERE id = ?", (version,)
                )
            self._note("purged", {"requests": list(requests), "versions": list(versions)})

    def conclude(
        self, version: Version, verified: Sequence[Verification], *, head: HeadMoved | None
    ) -> None:
        """Note that a version was made and verified.

        Args:
            version: The version with what its run came to.
            verified: What verifying it found.
            head: Why it becomes the head; None if it does not.
        """
        with self._changing():
            self._connection.execute(
                "UPDATE versions SET state = 'made', weights_sha256 = ?, verdict = ?, seconds = ? "
                "WHERE id = ?",
                (
                    version.weights_sha256,
                    json.dumps(dict(version.verdict)),
                    json.dumps(dict(version.seconds)),
                    version.id,
                ),
            )
            details = {"version": version.id, "weights": version.weights_sha256}
            made = self.version(version.id)
            self._note("made", details | {"sha256": version_digest(made)})
            self._verified(verified)
            if head:
                self._move_head(version, head)

    def verified(self, found: Sequence[Verification]) -> None:
        """Note verifications."""
        with self._changing():
            self._verified(found)

    def move_head(self, version: Version, why: HeadMoved) -> None:
        """Make a version the head."""
        with self._changing():
            self._move_head(version, why)

    @contextmanager
    def _changing(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")

    def _verified(self, found: Sequence[Verification]) -> None:
        for each in found:
            added = self._connection.execute(
                "INSERT INTO verifications VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    *(each.version, each.request, each.effort, each.at, each.memory, each.words),
                    *(json.dumps(dict(each.numbers)), each.seconds),
                ),
            )
            details = {"version": each.version, "request": each.request, "memory": each.memory}
            kept = self._connection.execute(
                "SELECT * FROM verifications WHERE id = ?", (added.lastrowid,)
            ).fetchone()
            digest = row_digest(self._verification(kept))
            self._note("verified", details | {"effort": each.effort, "sha256": digest})

    def _move_head(self, version: Version, why: HeadMoved) -> None:
        self._connection.execute("UPDATE project SET head = ?", (version.id,))
        self._note("head", {"version": version.id, "why": why})

    def _note(self, what: str, details: Mapping[str, Any]) -> None:
        last = self._connection.execute(
            "SELECT id, hash FROM events ORDER BY id DESC LIMIT 1"
        ).fetchone()
        number, previous = (1, "") if last is None else (last["id"] + 1, last["hash"])
        at, text = now(), json.dumps(dict(details), sort_keys=True)
        self._connection.execute(
            "INSERT INTO events VALUES (?, ?, ?, ?, ?)",
            (number, at, what, text, event_hash(previous, at, what, text)),
        )


@contextmanager
def held_ledger(folder: Path) -> Iterator[Ledger]:
    """The ledger of a project, whose folder is this process's for as long.

    Raises:
        LedgerError: If there is none, or it was altered.
        FolderInUseError: If another process has the folder.
    """
    require_ledger(folder)
    with locked(folder, instead=""), Ledger(folder) as ledger:
        require_as_told(ledger)
        yield ledger
