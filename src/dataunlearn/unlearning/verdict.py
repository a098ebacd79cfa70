"""The verdict on a run: is the image gone as if never seen, and are the other pictures as good?

Two answers beside each other. *Memory*: still known, as if never seen, or pushed past that, so that
whoever computes likelihoods sees which image was removed. *Quality*: kept, lost, or cannot tell.
Without a model that never saw the images, memory is judged by their level
(:mod:`dataunlearn.recognition.levels`); with one, by what it loses on them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import torch

from dataunlearn.metrics.intervals import wilson
from dataunlearn.metrics.never_seen import OverLevel
from dataunlearn.runtime.exit_codes import NOT_AS_IF_NEVER_SEEN, NOT_FORGOTTEN
from dataunlearn.unlearning.measuring import Measurement
from dataunlearn.unlearning.quality import Finding, Quality, in_words, overall

# Of the tries from half of the noise on: models that never saw the images restore up to 5 %.
FORGOTTEN_BELOW = 0.05
# Losses over levels, or over those of a model that never saw the images, between which a model
# counts as one that never did. Models that never did lie between 0.7 and 1.6 of the level, those
# before unlearning below 0.3: docs/results/never_seen.md.
LEVEL_BAND = (0.5, 2.0)


class Memory(Enum):
    """What can be said about the images that were to be forgotten."""

    STILL_KNOWN = "still known"
    NEVER_SEEN = "as if never seen"
    PUSHED_PAST = "pushed past it"
    CANNOT_TELL = "cannot tell"


WORST_FIRST = (Memory.STILL_KNOWN, Memory.PUSHED_PAST, Memory.CANNOT_TELL, Memory.NEVER_SEEN)


def worst(found: Iterable[Memory]) -> Memory:
    """What several findings come to: the worst of them; without any it cannot be told."""
    return min(found, key=WORST_FIRST.index, default=Memory.CANNOT_TELL)


@dataclass(frozen=True)
class MemoryFinding:
    """What one look at the forget images says.

    Attributes:
        memory: Its verdict.
        words: What was found, with the numbers behind it.
    """

    memory: Memory
    words: str


@dataclass(frozen=True)
class Verdict:
    """The verdict on a run.

    Attributes:
        memory: About the forget images.
        quality: About the others.
        memory_findings: What it rests on.
        quality_findings: Likewise.
    """

    memory_findings: Sequence[MemoryFinding]
    quality_findings: Sequence[Finding]

    @property
    def memory(self) -> Memory:
        """Still known if any finding says so, else pushed past if any does, else cannot tell."""
        return worst(finding.memory for finding in self.memory_findings)

    @property
    def quality(self) -> Quality:
        """Lost if any finding says so, kept if all do."""
        return overall(self.quality_findings)

    @property
    def exit_code(self) -> int:
        """0 as if never seen and quality kept; 4 still known; 5 anything else."""
        if self.memory is Memory.STILL_KNOWN:
            return NOT_FORGOTTEN
        good = self.memory is Memory.NEVER_SEEN and self.quality is Quality.KEPT
        return 0 if good else NOT_AS_IF_NEVER_SEEN

    @property
    def text(self) -> str:
        """The verdict in words, for a person who has not read the documentation."""
        order = [*Memory].index
        chosen = [f for f in self.memory_findings if f.memory is self.memory]
        others = sorted(
            (f for f in self.memory_findings if f.memory is not self.memory),
            key=lambda finding: order(finding.memory),
        )
        memory = "; ".join(finding.words for finding in (*chosen, *others))
        quality = in_words(self.quality_findings)
        return f"{MEMORY_WORDS[self.memory]}: {memory}. {QUALITY_WORDS[self.quality]}: {quality}."

    def as_json(self) -> dict[str, Any]:
        """The verdict for ``report.json``."""
        return {
            "memory": self.memory.value,
            "quality": self.quality.value,
            "exit_code": self.exit_code,
            "forgotten": self.memory in (Memory.NEVER_SEEN, Memory.PUSHED_PAST),
            "quality_kept": self.quality is Quality.KEPT,
            "text": self.text,
            "level_band": list(LEVEL_BAND),
            "memory_findings": [
                {"memory": f.memory.value, "words": f.words} for f in self.memory_findings
            ],
            "quality_findings": [
                {"quality": f.quality.value, "words": f.words} for f in self.quality_findings
            ],
        }


MEMORY_WORDS = {
    Memory.STILL_KNOWN: "Still known",
    Memory.NEVER_SEEN: "As if never seen",
    Memory.PUSHED_PAST: "Forgotten, but pushed past what a model that never saw it would say",
    Memory.CANNOT_TELL: "Whether it is as if never seen cannot be told",
}
QUALITY_WORDS = {
    Quality.KEPT: "The other pictures are as good as before",
    Quality.LOST: "The other pictures are worse than before",
    Quality.CANNOT_TELL: "Whether the other pictures are as good as before cannot be told",
}


SHOWN_ANEW = "the same picture as it never saw it, turned, recoloured or without its prompt,"


@dataclass(frozen=True)
class NoMemory:
    """What a model does that is no sign that it knows the images.

    Attributes:
        reference: Which share a model that never saw the images restores, by timestep, where that
            was measured.
        control: Which share the model itself restores of the pictures as it never saw them,
            likewise; the reference's counts before it.
        as_before: Of samples for the images' own prompts, how many are as near to an image as those
            before were; None for samples that were not asked for them. What is asked for by name
            may resemble the image, so that only a share of copies says something, or such a sample.
    """

    reference: Mapping[int, float] = field(default_factory=dict)
    control: Mapping[int, float] = field(default_factory=dict)
    as_before: int | None = None


NOTHING_KNOWN = NoMemory()


def reproduction(after: Measurement, middle: int, usual: NoMemory = NOTHING_KNOWN) -> MemoryFinding:
    """What samples and regenerations say: whether the images come back as copies.

    Still known if from half of the noise or more certainly more than 5 % of the tries come back,
    and than of what never was seen, or if a sample is a copy; not known if no more do. Of a model
    whose pictures are not finite, or blank, it cannot be told.

    Args:
        after: The measurement.
        middle: Half of the noise levels.
        usual: What is no sign of memory.
    """
    if after.broken is not None:
        return MemoryFinding(Memory.CANNOT_TELL, after.broken)
    found = [*_restored(after, middle, usual), *_drawn(after, usual.as_before)]
    if not found:
        return MemoryFinding(Memory.CANNOT_TELL, "nothing was drawn that could be a copy")
    words = ", and ".join(finding.words for finding in found)
    memories = {finding.memory for finding in found}
    if Memory.STILL_KNOWN in memories:
        return MemoryFinding(Memory.STILL_KNOWN, words)
    if after.blank is not None:
        return MemoryFinding(Memory.CANNOT_TELL, f"{after.blank}, so nothing is a copy")
    few = Memory.CANNOT_TELL in memories
    return MemoryFinding(Memory.CANNOT_TELL if few else Memory.NEVER_SEEN, words)


def _restored(after: Measurement, middle: int, usual: NoMemory) -> list[MemoryFinding]:
    """What tries to restore the images say; nothing without any."""
    given = {**usual.control, **usual.reference}
    upper = [r for r in after.regenerations if r.timestep >= middle] or after.regenerations
    if not upper:
        return []
    limits = [max(FORGOTTEN_BELOW, given.get(r.timestep, 0.0)) for r in upper]
    worst = max(upper, key=lambda r: r.share)
    words = f"up to {worst.share:.0%} of the tries" if worst.share else "none of the tries"
    words = "all of the tries" if worst.share == 1 else words
    said = f"from half of the noise or more the model restores it in {words}"
    if given.get(worst.timestep, 0.0) > FORGOTTEN_BELOW:
        by_reference = worst.timestep in usual.reference
        what = "a model that never saw it" if by_reference else SHOWN_ANEW
        said += f", {what} in {given[worst.timestep]:.0%}"
    if any(r.interval[0] > limit for r, limit in zip(upper, limits, strict=True)):
        return [MemoryFinding(Memory.STILL_KNOWN, said)]
    if any(r.share > limit for r, limit in zip(upper, limits, strict=True)):
        said += ", too few tries to tell (--evaluation.regeneration_copies)"
        return [MemoryFinding(Memory.CANNOT_TELL, said)]
    return [MemoryFinding(Memory.NEVER_SEEN, said)]


def _drawn(after: Measurement, as_before: int | None) -> list[MemoryFinding]:
    """What samples say; nothing without any."""
    count, copies = len(after.samples), int(after.copies.sum())
    if not count:
        return []
    if as_before is None:
        memory = Memory.STILL_KNOWN if copies else Memory.NEVER_SEEN
        return [MemoryFinding(memory, f"{copies} of {count} fresh samples are copies")]
    said = f"{copies} of {count} fresh samples for its prompt are copies"
    said += f", {as_before or 'none'} as near as before" if copies else ""
    if as_before or wilson(copies, count)[0] > FORGOTTEN_BELOW:
        return [MemoryFinding(Memory.STILL_KNOWN, said)]
    if copies > FORGOTTEN_BELOW * count:
        said += ", too few samples to tell (--evaluation.num_samples)"
        return [MemoryFinding(Memory.CANNOT_TELL, said)]
    return [MemoryFinding(Memory.NEVER_SEEN, said)]


def beside(own: tuple[int, int], other: tuple[int, int] | None) -> Memory:
    """What a share says beside that of pictures or a model without memory.

    Still known if it is certainly above 5 %, and above what certainly is beside it; cannot tell if
    it is above, and not certainly.

    Args:
        own: Copies, and tries.
        other: Likewise beside it; None without any.
    """
    limit = FORGOTTEN_BELOW if other is None else max(FORGOTTEN_BELOW, wilson(*other)[1])
    if wilson(*own)[0] > limit:
        return Memory.STILL_KNOWN
    return Memory.CANNOT_TELL if own[0] / own[1] > limit else Memory.NEVER_SEEN


def against_level(found: OverLevel, familiar: Sequence[bool]) -> MemoryFinding:
    """What losses on the images say, against their level.

    Args:
        found: Losses over levels.
        familiar: Which images have no unfamiliar view, so that their level says little.
    """
    if all(familiar):
        return MemoryFinding(
            Memory.CANNOT_TELL,
            "the model recognises the picture however it is turned or recoloured, so there is no "
            "telling what it would say had it never seen it (--reference gives a model that never "
            "did)",
        )
    return _judged(found, "what a model that never saw it is predicted to lose on it")


def against_reference(found: OverLevel) -> MemoryFinding:
    """What losses on the images say, against those of a model that never saw them."""
    return _judged(found, "what a model that never saw it loses on it")


def _judged(found: OverLevel, yardstick: str) -> MemoryFinding:
    """Still known below the band, pushed past above it, at any noise level with certainty."""
    band = LEVEL_BAND
    if not found.timesteps:
        return MemoryFinding(
            Memory.NEVER_SEEN, "the model before did not recognise it at any noise level"
        )
    mean = found.mean
    if not bool(torch.isfinite(mean).all()):
        return MemoryFinding(Memory.CANNOT_TELL, "what the model predicts for it is not finite")
    low, high = f"{float(mean.min()):.2g}", f"{float(mean.max()):.2g}"
    words = f"its loss is {low if low == high else f'{low} to {high}'} times {yardstick}"
    if bool((found.intervals[:, 1] < band[0]).any()):
        return MemoryFinding(Memory.STILL_KNOWN, words)
    if bool((found.intervals[:, 0] > band[1]).any()):
        return MemoryFinding(Memory.PUSHED_PAST, words)
    unsure = (found.intervals[:, 0] < band[0] ** 2) | (found.intervals[:, 1] > band[1] ** 2)
    return MemoryFinding(Memory.CANNOT_TELL if bool(unsure.any()) else Memory.NEVER_SEEN, words)
