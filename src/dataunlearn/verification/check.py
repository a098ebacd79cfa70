"""What a check is, and what it comes to."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from dataunlearn.metrics.pace import Cost
from dataunlearn.unlearning.verdict import WORST_FIRST, Memory, MemoryFinding
from dataunlearn.verification.subject import Subject


@dataclass(frozen=True)
class Checked:
    """What a check came to.

    Attributes:
        name: The check's name.
        question: What it asks, in words.
        memory: What it says about the images; None where it says nothing either way.
        words: What was found, with the numbers behind it.
        numbers: The same as JSON values.
        seconds: What it took.
    """

    name: str
    question: str
    memory: Memory | None
    words: str
    numbers: Mapping[str, Any] = field(default_factory=dict, repr=False)
    seconds: float = 0.0

    def as_json(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "name": self.name,
            "question": self.question,
            "memory": None if self.memory is None else self.memory.value,
            "words": self.words,
            "numbers": dict(self.numbers),
            "seconds": self.seconds,
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Checked:
        """What :meth:`as_json` gave."""
        memory = content["memory"]
        return cls(
            content["name"],
            content["question"],
            None if memory is None else Memory(memory),
            content["words"],
            content["numbers"],
            content["seconds"],
        )


class Check(ABC):
    """A check: an attack, or a measure with a verdict."""

    name: ClassVar[str]
    question: ClassVar[str]

    @abstractmethod
    def lacks(self, subject: Subject) -> str | None:
        """Why it cannot be made; None if it can."""

    @abstractmethod
    def cost(self, subject: Subject) -> Cost:
        """What it costs."""

    @abstractmethod
    def look(self, subject: Subject) -> tuple[Sequence[MemoryFinding], dict[str, Any]]:
        """What it finds, and the numbers; no findings where these say nothing either way."""

    def __call__(self, subject: Subject) -> Checked:
        """Make it."""
        started = time.perf_counter()
        findings, numbers = self.look(subject)
        known = sorted(findings, key=lambda finding: WORST_FIRST.index(finding.memory))
        says = numbers.pop("says", "")
        words = "; ".join([*(finding.words for finding in known), *([says] if says else [])])
        memory = known[0].memory if known else None
        seconds = time.perf_counter() - started
        return Checked(self.name, self.question, memory, words, numbers, seconds)
