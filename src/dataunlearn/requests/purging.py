"""Remove what still holds or knows the pictures of answered requests.

Copies of the pictures, reports that show them, and models of the project that still know them. The
first model and the pictures' own files are not the project's: they are named and left alone.
"""

from __future__ import annotations

import datetime
import shutil
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

from dataunlearn.report.run_files import purge_pictures
from dataunlearn.requests.config import MOST_DAYS
from dataunlearn.requests.ledger import Ledger, held_ledger, now
from dataunlearn.requests.models import version_folder
from dataunlearn.requests.pictures import COPIES
from dataunlearn.requests.records import Request, Version, VersionState
from dataunlearn.requests.schema import LedgerError
from dataunlearn.runtime.checks import require
from dataunlearn.runtime.files import replace_folder, temporary_folder, write_atomically
from dataunlearn.runtime.progress import Say
from dataunlearn.runtime.signing import (
    SIGNATURE_FILE,
    check_folder,
    sign_folder,
    signing_key,
)

# What of a version's folder is a model, or says what one knew.
MODELS = ("model", "lora", "checkpoints")
REPORT_FILES = ("report.json", "images.npz", "report.html", "log.jsonl")
REDACTED = ".redacted"


@dataclass(frozen=True)
class Purged:
    """What was removed.

    Attributes:
        requests: Numbers of the requests whose traces were removed.
        versions: Numbers of the versions whose models were.
        left: What holds the pictures and is not the project's to remove, in words.
    """

    requests: tuple[int, ...]
    versions: tuple[int, ...]
    left: tuple[str, ...]


def purge(folder: Path, days: int | None, *, say: Say) -> Purged:
    """Remove the traces of requests that were answered some days ago.

    Killed at any moment, the same call removes the rest.

    Args:
        folder: The project's folder.
        days: How many days ago at least; None for the project's retention.
        say: Where lines for a person go.

    Raises:
        LedgerError: If a version is being made, the head still knows a picture whose time it is, or
            the ledger was altered.
        ValueError: If a report that shows a picture was altered after it was signed.
    """
    require(days is None or 0 <= days <= MOST_DAYS, f"days must be 0 to {MOST_DAYS}")
    with held_ledger(folder) as ledger:
        begun = ledger.begun
        if begun is not None:
            raise LedgerError(
                f"version {begun.id} was begun and not ended: end it by request apply, or give it "
                "up by request apply --restart, and purge then"
            )
        due = _due(ledger, ledger.project.retention_days if days is None else days)
        known = [request.id for request in due if _is_known(ledger, request)]
        if known:
            raise LedgerError(
                f"the head still knows the pictures of request {', '.join(map(str, known))}: "
                "nothing is purged"
            )
        old = _that_know(ledger, [request.id for request in due])
        _require_as_signed(
            ledger, {*ledger.purged, *ledger.withdrawn, *(request.id for request in due)}
        )
        ledger.purge([request.id for request in due], [version.id for version in old])
        _remove_models(ledger)
        _remove_pictures(ledger)
        for request in due:
            say(f"Request {request.id} ({request.reference}): its traces are removed.")
        return Purged(
            tuple(request.id for request in due),
            tuple(version.id for version in old),
            tuple(_left(ledger, due)),
        )


def _due(ledger: Ledger, days: int) -> list[Request]:
    """The answered requests whose time has come and whose traces are still there."""
    latest = datetime.datetime.now(tz=datetime.UTC) - datetime.timedelta(days=days)
    limit = latest.strftime("%Y-%m-%dT%H:%M:%SZ")
    found, purged = [], ledger.purged
    for number, version in ledger.answered.items():
        looks = ledger.verifications(version=version, request=number)
        if number not in purged and looks and looks[0].at <= limit:
            found.append(ledger.request(number))
    return found


def _is_known(ledger: Ledger, request: Request) -> bool:
    looks = ledger.verifications(version=ledger.head.id, request=request.id)
    looks = looks or ledger.verifications(request=request.id)
    return looks[-1].still_known


def _that_know(ledger: Ledger, requests: Sequence[int]) -> list[Version]:
    """The project's versions, without the head, that were not made to forget these requests."""
    answered = ledger.answered
    return [
        version
        for version in ledger.versions
        if version.parent is not None
        and version.id != ledger.head.id
        and version.state is not VersionState.PURGED
        and any(answered[number] not in ancestry(ledger, version) for number in requests)
    ]


def ancestry(ledger: Ledger, version: Version) -> set[int]:
    """The numbers of a version and all that it was made from."""
    found = {version.id}
    while version.parent is not None:
        version = ledger.version(version.parent)
        found.add(version.id)
    return found


def _remove_models(ledger: Ledger) -> None:
    for version in ledger.versions:
        if version.state is VersionState.PURGED:
            for name in MODELS:
                shutil.rmtree(version_folder(ledger.folder, version) / name, ignore_errors=True)


def _remove_pictures(ledger: Ledger) -> None:
    done = ledger.purged | ledger.withdrawn
    still = {r.source for r in ledger.requests if r.id not in done}
    for number in done:
        source = Path(ledger.request(number).source)
        if source.parent == (ledger.folder / COPIES).resolve() and str(source) not in still:
            shutil.rmtree(source, ignore_errors=True)
    for run, version in _runs_that_show(ledger, done):
        if (run / SIGNATURE_FILE).is_file():
            _redact(ledger, run, version)
        else:
            _without_signature(run)


def _runs_that_show(ledger: Ledger, requests: Set[int]) -> Iterator[tuple[Path, Version]]:
    """The versions whose reports show pictures of these requests, with their folders."""
    for version in ledger.versions:
        shown = {*version.requests, *version.settings.get("rehearsed", [])}
        run = version_folder(ledger.folder, version)
        if shown & requests and run.is_dir():
            yield run, version


def _redact(ledger: Ledger, run: Path, version: Version) -> None:
    """Take the pictures out of a version's report, and sign what is left.

    What is to take their place is made in a folder of its own first, so that a call that is cut off
    is completed by the next one, and what somebody altered is never signed.
    """
    new = run / REDACTED
    if not new.is_dir():
        if not _still_shows(ledger, run, version):
            return
        with temporary_folder(new) as place:
            for name in REPORT_FILES:
                shutil.copy2(run / name, place / name)
            purge_pictures(place)
            replace_folder(place, new)
    facts = check_folder(run).facts
    for name in REPORT_FILES:
        write_atomically(run / name, (new / name).read_bytes())
    sign_folder(run, signing_key(ledger.folder), {**facts, "pictures_purged": now()})
    shutil.rmtree(new)


def _require_as_signed(ledger: Ledger, requests: Set[int]) -> None:
    """Refuse, before anything is removed, to sign anew what is not as the project signed it.

    Raises:
        LedgerError: If a report that shows one of these requests' pictures is not.
    """
    for run, version in _runs_that_show(ledger, requests):
        if (run / SIGNATURE_FILE).is_file() and not (run / REDACTED).is_dir():
            _still_shows(ledger, run, version)


def _still_shows(ledger: Ledger, run: Path, version: Version) -> bool:
    """Whether the pictures are still in a version's report.

    Raises:
        LedgerError: If they are, and the report is not as the project signed it.
    """
    found, is_purged = check_folder(run), version.state is VersionState.PURGED
    if found.facts.get("pictures_purged") and found.whole:
        return False
    gone = [name for name in found.missing if not (is_purged and name.split("/")[0] in MODELS)]
    own = found.fingerprint == signing_key(ledger.folder).fingerprint
    if not found.genuine or not own or gone or found.altered:
        raise LedgerError(
            f"{run} is not as this project signed it: see dataunlearn check {run}; its report is "
            "left as it is"
        )
    return True


def _without_signature(run: Path) -> None:
    """Take the pictures out of a version that was never signed: its run was cut off."""
    if all((run / name).is_file() for name in REPORT_FILES):
        purge_pictures(run)
    else:
        for name in ("images.npz", "report.html"):
            (run / name).unlink(missing_ok=True)


def _left(ledger: Ledger, due: Sequence[Request]) -> list[str]:
    """What holds the pictures, or knows them, and lies outside the project."""
    if not due:
        return []
    copies = (ledger.folder / COPIES).resolve()
    sources = sorted({r.source for r in due if Path(r.source).parent != copies})
    return [
        f"{ledger.project.model} (the first model)",
        *(f"{each} (pictures)" for each in sources),
    ]
