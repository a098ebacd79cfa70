"""Verify answered requests again, in the head as it is now."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from accelerate import Accelerator

from dataunlearn.requests.ledger import held_ledger
from dataunlearn.requests.making import Maker
from dataunlearn.requests.records import Verification
from dataunlearn.requests.schema import LedgerError
from dataunlearn.runtime.progress import Say
from dataunlearn.verification.config import Effort


def verify_head(
    folder: Path,
    numbers: Sequence[int] | None,
    *,
    accelerator: Accelerator,
    say: Say,
    effort: Effort = "quick",
    shown: bool = True,
) -> list[Verification]:
    """Verify requests in a project's head, and note what is found in its ledger.

    Args:
        folder: The project's folder.
        numbers: The requests; None for all that are answered.
        accelerator: The device.
        say: Where lines for a person go.
        effort: How hard it is tried.
        shown: Whether to draw progress.

    Raises:
        LedgerError: If a request is open, there is none, or the ledger was altered.
    """
    with held_ledger(folder) as ledger:
        answered = ledger.answered
        chosen = sorted(answered) if numbers is None else list(numbers)
        for number in chosen:
            if ledger.request(number).id not in answered:
                raise LedgerError(f"request {number} is open: there is nothing to verify yet")
        if not chosen:
            raise LedgerError("no request is answered yet: there is nothing to verify")
        requests = [ledger.request(number) for number in chosen]
        found = Maker(ledger, accelerator, say, effort, shown=shown).verify(ledger.head, requests)
        ledger.verified(found)
        return found
