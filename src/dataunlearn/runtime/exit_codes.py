"""Exit codes of the command beside 0, 1 for an error and 2 for a wrong option."""

from __future__ import annotations

INTERRUPTED = 130

MEMORISED = 3

NOT_FORGOTTEN = 4
