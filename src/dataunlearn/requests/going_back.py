"""Go back: to an earlier version, which opens again what later ones answered, or on a request."""

from __future__ import annotations

from pathlib import Path

from dataunlearn.requests.ledger import held_ledger
from dataunlearn.requests.records import Request, VersionState
from dataunlearn.requests.schema import LedgerError
from dataunlearn.runtime.checks import require
from dataunlearn.runtime.progress import Say


def roll_back(folder: Path, to: int) -> list[Request]:
    """Make an earlier version of the chain the head again.

    Args:
        folder: The project's folder.
        to: The version's number; 0 is the first model.

    Returns:
        The requests that are open again.

    Raises:
        LedgerError: If the version is not in the chain before the head, or its model was purged, or
            the ledger was altered.
    """
    with held_ledger(folder) as ledger:
        chain = ledger.chain
        found = next((version for version in chain[:-1] if version.id == to), None)
        if found is None:
            earlier = ", ".join(str(version.id) for version in chain[:-1]) or "none"
            raise LedgerError(
                f"version {to} is not before the head, version {chain[-1].id}; there are {earlier}"
            )
        if found.state is VersionState.PURGED:
            raise LedgerError(
                f"version {to} was purged: its model still knew what had been forgotten since, and "
                "was removed"
            )
        kept = chain[: chain.index(found) + 1]
        gone = ledger.purged - {request for version in kept for request in version.requests}
        if gone:
            raise LedgerError(
                f"request {', '.join(map(str, sorted(gone)))} was purged: version {to} still knows "
                "its pictures, and nobody could make it forget them again"
            )
        before = {request.id for request in ledger.open}
        ledger.move_head(found, "rolled back")
        return [request for request in ledger.open if request.id not in before]


def withdraw(folder: Path, number: int, why: str, *, say: Say) -> Request:
    """Take back an open request: nobody has to answer it, and its record stays.

    A version that was begun for it and not ended is given up; other requests of it stay open.

    Args:
        folder: The project's folder.
        number: The request's number.
        why: Why, in words.
        say: Where lines for a person go.

    Returns:
        The request.

    Raises:
        LedgerError: If there is no such request, it is answered or withdrawn, or the ledger was
            altered.
        ValueError: If no reason is given.
    """
    require(bool(why.strip()), "say why it is withdrawn: --why 'the picture was not theirs'")
    with held_ledger(folder) as ledger:
        request, begun = ledger.request(number), ledger.begun
        if number in ledger.withdrawn:
            raise LedgerError(f"request {number} is withdrawn already")
        if number in ledger.answered:
            raise LedgerError(
                f"request {number} is answered in version {ledger.answered[number]}: what a model "
                "has forgotten it does not know again; dataunlearn request rollback goes back to "
                "an earlier one"
            )
        if begun is not None and number in begun.requests:
            ledger.give_up(begun)
            say(f"Version {begun.id}, which was begun for it and not ended, is given up.")
        ledger.withdraw(request, why.strip())
        return request
