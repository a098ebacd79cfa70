"""Where a run's pictures come from, in words for its report."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dataunlearn.data.opening import ImageSource


@dataclass(frozen=True, eq=False)
class Sources:
    """Where a run's pictures come from, in words for its report.

    Attributes:
        forget: The forget side's path, or words for pictures in memory.
        keep: The keep side's.
        title: The report's title; None names the pictures.
    """

    forget: str
    keep: str
    title: str | None = None

    @classmethod
    def of(cls, forget: ImageSource, keep: ImageSource) -> Sources:
        """The words for two sources."""
        return cls(*map(_in_words, (forget, keep)))


def _in_words(source: ImageSource) -> str:
    return str(source) if isinstance(source, (str, Path)) else "in memory"
