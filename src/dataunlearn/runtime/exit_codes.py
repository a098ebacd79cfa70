"""Exit codes of the command, beside 0, 1 for an error and 2 for a wrong option."""

from __future__ import annotations

MEMORISED = 3  # an audit found pictures that the model knows by heart
NOT_FORGOTTEN = 4  # after unlearning the model still knows what it had to forget
# Forgotten, but pushed past what a model that never saw it would say, or with the other pictures
# worse, or without being able to tell.
NOT_AS_IF_NEVER_SEEN = 5
UNLEARNED = (0, NOT_FORGOTTEN, NOT_AS_IF_NEVER_SEEN)  # of runs that came to their end
ALTERED = 6  # a signed folder is not what was signed
INTERRUPTED = 130  # as shells report Ctrl-C; the state is saved
