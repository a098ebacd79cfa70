"""A project's requests and versions, as a person reads them."""

from __future__ import annotations

from collections.abc import Sequence

from dataunlearn.requests.ledger import Ledger
from dataunlearn.requests.records import Request, Verification, Version, VersionState
from dataunlearn.requests.replay import require_as_told
from dataunlearn.runtime.signing import KEY_FILE, PUBLIC_KEY_FILE, signing_key

_REFERENCE_WIDTH = 32


def listing(ledger: Ledger) -> str:
    """All requests in a table, then the chain of versions and the key that reports are signed with.

    Raises:
        LedgerError: If the ledger or its record of events was altered.
    """
    require_as_told(ledger)
    requests = ledger.requests
    rows = [("no.", "reference", "received", "pictures", "state")]
    rows += [
        (
            str(request.id),
            shortened(request.reference),
            request.received,
            str(len(request.pictures)),
            state_of(ledger, request),
        )
        for request in requests
    ]
    lines = table(rows) if requests else ["no requests"]
    return "\n".join([*lines, "", *_versions(ledger), "", _key(ledger)])


def shown(ledger: Ledger, request: Request) -> str:
    """One request with its pictures and everything that was found about it.

    Raises:
        LedgerError: If the ledger or its record of events was altered.
    """
    require_as_told(ledger)
    lines = [
        f"request {request.id}: {request.reference}",
        f"received {request.received}, added {request.added}",
        f"reason: {request.reason or 'none given'}",
        f"state: {_withdrawn(ledger, request) or state_of(ledger, request)}",
        f"pictures, from {request.source}:",
        *(f"  {p.name}  pixels {p.digest}  file {p.file_sha256 or '-'}" for p in request.pictures),
    ]
    found = ledger.verifications(request=request.id)
    lines += ["verified:", *map(verification_line, found)] if found else ["never verified"]
    return "\n".join(lines)


def _withdrawn(ledger: Ledger, request: Request) -> str | None:
    """When and why a request was withdrawn; None if it was not."""
    events = (e for e in ledger.events if e.what == "withdrawn")
    found = next((e for e in events if e.details["request"] == request.id), None)
    return None if found is None else f"withdrawn {found.at}: {found.details['why']}"


def state_of(ledger: Ledger, request: Request) -> str:
    """Whether a request is open, and what it came to at the newest verification of the head."""
    answered = ledger.answered.get(request.id)
    if request.id in ledger.withdrawn:
        return "withdrawn"
    if answered is None:
        return "open"
    found = ledger.verifications(version=ledger.head.id, request=request.id)
    memory = found[-1].memory if found else "not verified since"
    purged = "; purged" if request.id in ledger.purged else ""
    return f"answered in version {answered}; {memory}{purged}"


def verification_line(found: Verification) -> str:
    """A verification in a line."""
    return (
        f"  {found.at}, version {found.version}, {found.effort}: {found.memory}: {found.words} "
        f"({found.seconds:.0f} s)"
    )


def version_words(version: Version) -> str:
    """A version in a line."""
    if version.parent is None:
        return f"version {version.id}: the first model"
    numbers = ", ".join(str(number) for number in version.requests)
    made = f"version {version.id}, from {version.parent}, {version.began}, for request {numbers}"
    if version.state is VersionState.MADE:
        drift = version.verdict.get("drift")
        far = "" if drift is None else f", loss on kept pictures {drift['worst']:.2f} of the first"
        verdict = version.verdict
        return f"{made}: {verdict.get('memory')}, quality {verdict.get('quality')}{far}"
    return f"{made}: {version.state.value}"


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines with aligned columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def counted(number: int, noun: str) -> str:
    """A number with its noun, which takes an s."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def shortened(text: str) -> str:
    """Text that fits a column."""
    fits = len(text) <= _REFERENCE_WIDTH
    return text if fits else text[: _REFERENCE_WIDTH - 1] + "…"


def _versions(ledger: Ledger) -> list[str]:
    chain = {version.id for version in ledger.chain}
    head = ledger.head.id
    marks = {version.id: "*" if version.id in chain else " " for version in ledger.versions}
    by_hand = ledger.accepted
    lines = [
        f"{marks[version.id]} {version_words(version)}"
        + ("; taken by --accept" if version.id in by_hand else "")
        for version in ledger.versions
    ]
    return [*lines, f"head: version {head}; * in its chain"]


def _key(ledger: Ledger) -> str:
    if not (ledger.folder / KEY_FILE).exists():
        return "reports are signed with a key that the first apply makes"
    return (
        f"reports are signed with the key {signing_key(ledger.folder).fingerprint}\n"
        f"(public half: {ledger.folder / PUBLIC_KEY_FILE}; tell it to whoever checks a report by "
        "another way)"
    )
