"""All checks of an effort: what they cost, what they found, and the verdict."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from dataunlearn.metrics.pace import seconds_per_pass
from dataunlearn.models.latents import TextSpace
from dataunlearn.runtime.exit_codes import NOT_AS_IF_NEVER_SEEN, NOT_FORGOTTEN
from dataunlearn.unlearning.verdict import MEMORY_WORDS, Memory, worst
from dataunlearn.verification.check import Check, Checked
from dataunlearn.verification.embedding import EmbeddingCheck
from dataunlearn.verification.level import Level
from dataunlearn.verification.membership import MembershipCheck
from dataunlearn.verification.noise import NoiseCheck
from dataunlearn.verification.prompts import PromptCheck
from dataunlearn.verification.relearning import RelearningCheck
from dataunlearn.verification.reproduction import Reproduction
from dataunlearn.verification.subject import Subject

Keep = Callable[[Checked], None]


@dataclass(frozen=True)
class Planned:
    """A check before it is made.

    Attributes:
        check: The check.
        lacks: Why it cannot be made; None if it can.
        seconds: About how long it takes; 0 if it cannot.
    """

    check: Check
    lacks: str | None
    seconds: float


@dataclass(frozen=True)
class Verified:
    """What verifying a model came to.

    Attributes:
        checks: The checks that were made.
        left_out: Names of the others, and what they lack.
    """

    checks: Sequence[Checked]
    left_out: Mapping[str, str] = field(default_factory=dict)

    @property
    def memory(self) -> Memory:
        """Still known if any check says so, else pushed past if any does, else cannot tell."""
        return worst(each.memory for each in self.checks if each.memory is not None)

    @property
    def text(self) -> str:
        """The verdict in words, with what it rests on."""
        memory = self.memory
        for_it = [each.words for each in self.checks if each.memory is memory]
        words = f"{MEMORY_WORDS[memory]}: {'; '.join(for_it)}." if for_it else MEMORY_WORDS[memory]
        lacking = "; ".join(f"{name} ({lack})" for name, lack in self.left_out.items())
        return f"{words} Not tried: {lacking}." if lacking else words

    @property
    def exit_code(self) -> int:
        """0 as if never seen, 4 still known, 5 anything else."""
        if self.memory is Memory.STILL_KNOWN:
            return NOT_FORGOTTEN
        return 0 if self.memory is Memory.NEVER_SEEN else NOT_AS_IF_NEVER_SEEN


def checks_of(subject: Subject) -> list[Check]:
    """The checks of the subject's effort, the cheap ones first."""
    extent = subject.extent
    found: list[Check] = [Level(), Reproduction()]
    if extent.membership:
        found.append(MembershipCheck())
    if extent.prompts and isinstance(subject.model.space, TextSpace):
        found += [PromptCheck(), EmbeddingCheck()]
    if extent.noises:
        found.append(NoiseCheck())
    return [*found, *(RelearningCheck(on) for on in extent.relearned)]


def planned(subject: Subject) -> list[Planned]:
    """Which checks can be made, and about how long each takes, by a few timed passes."""
    pace = seconds_per_pass(subject.model)
    found = []
    for check in checks_of(subject):
        lacks = check.lacks(subject)
        seconds = 0.0 if lacks is not None else check.cost(subject).total * pace
        found.append(Planned(check, lacks, seconds))
    return found


def make_checks(
    subject: Subject, plans: Iterable[Planned], known: Mapping[str, Checked], keep: Keep
) -> Verified:
    """Make the checks that can be made, and were not made before.

    Args:
        subject: What is verified.
        plans: The checks.
        known: Those that were made before, by name.
        keep: Called with each that is made.
    """
    made, left_out = [], {}
    for plan in plans:
        name = plan.check.name
        if plan.lacks is not None:
            left_out[name] = plan.lacks
            continue
        found = known.get(name)
        if found is None:
            found = plan.check(subject)
            keep(found)
        made.append(found)
    return Verified(made, left_out)
