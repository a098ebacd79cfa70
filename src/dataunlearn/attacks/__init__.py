"""Attacks that train an unlearned model, to see whether what it had to forget comes back.

Attacks that only look at a model are measures: ``dataunlearn.metrics``. Names are imported when
they are first used, so that the settings of the command load without what trains.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dataunlearn.attacks.config import Relearning
    from dataunlearn.attacks.courses import Relearned
    from dataunlearn.attacks.relearning import relearn

__all__ = ["Relearned", "Relearning", "relearn"]

_MODULES = {
    "Relearned": "dataunlearn.attacks.courses",
    "Relearning": "dataunlearn.attacks.config",
    "relearn": "dataunlearn.attacks.relearning",
}

if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """Import a name when it is first used."""
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(_MODULES[name]), name)
        return value
