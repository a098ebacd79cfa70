"""Exit codes of the command, beside 0, 1 for an error and 2 for a wrong option."""

from __future__ import annotations

MEMORISED = 3  # an audit found pictures that the model knows by heart
NOT_FORGOTTEN = 4  # after unlearning the model still reproduces what it had to forget
INTERRUPTED = 130  # as shells report Ctrl-C; the state is saved
