"""The verdict on cases made by hand: every outcome, its exit code, the numbers in its words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch

from dataunlearn.metrics.intervals import wilson
from dataunlearn.metrics.never_seen import OverLevel
from dataunlearn.metrics.regeneration import Regeneration
from dataunlearn.unlearning.measuring import Measurement
from dataunlearn.unlearning.quality import Finding, Quality
from dataunlearn.unlearning.verdict import (
    LEVEL_BAND,
    Memory,
    MemoryFinding,
    NoMemory,
    Verdict,
    against_level,
    against_reference,
    reproduction,
)

TRIES = 200
KEPT = Finding(Quality.KEPT, "draws as well")
LOST = Finding(Quality.LOST, "draws worse by 40 %")
UNSURE = Finding(Quality.CANNOT_TELL, "too few samples")


def over(*rows: tuple[float, float, float]) -> OverLevel:
    """Mean, lower and upper bound at each noise level, of one image."""
    table = torch.tensor(rows, dtype=torch.float64).reshape(-1, 3)
    timesteps = tuple(100 * (number + 1) for number in range(len(rows)))
    return OverLevel(timesteps, table[:, 0][None], table[:, 0], table[:, 1:])


def after(
    shares: dict[int, float], copies: Sequence[bool] = (), samples: int | None = None
) -> Measurement:
    """What was drawn after unlearning."""
    restored = [
        Regeneration(
            t, share, wilson(round(TRIES * share), TRIES), torch.ones(1), torch.ones(1, 1, 2, 2)
        )
        for t, share in shares.items()
    ]
    count = len(copies) if samples is None else samples
    drawn = torch.rand(count, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    return Measurement(drawn, restored, torch.tensor(copies).bool(), {})


@pytest.mark.parametrize(
    ("shares", "copies", "expected", "words"),
    [
        ({250: 1.0, 500: 0.0, 999: 0.0}, [False] * 8, Memory.NEVER_SEEN, "none of the tries"),
        ({250: 1.0, 500: 0.05, 999: 0.0}, [False] * 8, Memory.NEVER_SEEN, "up to 5% of the tries"),
        ({250: 0.0, 500: 0.0, 999: 0.1}, [False] * 8, Memory.STILL_KNOWN, "up to 10% of the tries"),
        ({250: 0.0, 500: 0.0, 999: 0.06}, [False] * 8, Memory.CANNOT_TELL, "too few tries to tell"),
        ({500: 1.0}, [False] * 8, Memory.STILL_KNOWN, "all of the tries"),
        ({500: 0.0}, [False, True, True], Memory.STILL_KNOWN, "2 of 3 fresh samples are copies"),
        ({500: 0.0}, [], Memory.NEVER_SEEN, "none of the tries"),
        ({100: 0.5, 250: 0.0}, [], Memory.STILL_KNOWN, "up to 50% of the tries"),  # all it has
        ({}, [True], Memory.STILL_KNOWN, "1 of 1 fresh samples are copies"),
        ({}, [False], Memory.NEVER_SEEN, "0 of 1 fresh samples are copies"),
        ({}, [], Memory.CANNOT_TELL, "nothing was drawn"),
    ],
)
def test_copies_say_whether_it_is_still_known(
    shares: dict[int, float], copies: list[bool], expected: Memory, words: str
) -> None:
    """From half of the noise on, for certain more than 5 %; any sample that is a copy is one."""
    found = reproduction(after(shares, copies), 500)
    assert found.memory is expected
    assert words in found.words
    assert "nan" not in found.words
    assert ("fresh samples" in found.words) is bool(copies)


@pytest.mark.parametrize(
    ("share", "expected"),
    [(0.1, Memory.NEVER_SEEN), (0.14, Memory.CANNOT_TELL), (0.3, Memory.STILL_KNOWN)],
)
def test_what_a_model_that_never_saw_it_restores_is_no_memory(
    share: float, expected: Memory
) -> None:
    found = reproduction(after({500: share, 999: 0.0}), 500, NoMemory({500: 0.12, 750: 0.0}))
    assert found.memory is expected
    assert "a model that never saw it in 12%" in found.words


@pytest.mark.parametrize(
    ("copies", "as_before", "expected", "words"),
    [
        (0, 0, Memory.NEVER_SEEN, "0 of 100 fresh samples for its prompt are copies"),
        (4, 0, Memory.NEVER_SEEN, "4 of 100 fresh samples for its prompt are copies, none as near"),
        (9, 0, Memory.CANNOT_TELL, "too few samples to tell"),
        (20, 0, Memory.STILL_KNOWN, "20 of 100"),
        (4, 1, Memory.STILL_KNOWN, "copies, 1 as near as before"),
    ],
)
def test_what_is_asked_for_by_name_may_resemble_it(
    copies: int, as_before: int, expected: Memory, words: str
) -> None:
    drawn = after({500: 0.0}, [True] * copies + [False] * (100 - copies))
    found = reproduction(drawn, 500, NoMemory(as_before=as_before))
    assert found.memory is expected
    assert words in found.words


@pytest.mark.parametrize(
    ("share", "expected"),
    [(0.5, Memory.NEVER_SEEN), (0.65, Memory.CANNOT_TELL), (1.0, Memory.STILL_KNOWN)],
)
def test_what_comes_back_as_often_though_never_seen_is_no_memory(
    share: float, expected: Memory
) -> None:
    """A reference that was measured at a noise level counts before the model's own control."""
    found = reproduction(after({500: share, 999: 0.0}), 500, NoMemory(control={500: 0.6}))
    assert found.memory is expected
    assert "as it never saw it, turned, recoloured or without its prompt, in 60%" in found.words
    own = reproduction(after({500: share, 999: 0.0}), 500, NoMemory({500: 0.0}, {500: 0.6}))
    assert own.memory is Memory.STILL_KNOWN
    assert "60%" not in own.words


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([(1.0, 0.9, 1.1), (1.3, 1.0, 1.7)], Memory.NEVER_SEEN),
        ([(0.45, 0.3, 0.6)], Memory.NEVER_SEEN),  # not certainly below, nor far from certain
        ([(1.0, 0.9, 1.1), (0.4, 0.3, 0.49)], Memory.STILL_KNOWN),
        ([(1.0, 0.9, 1.1), (2.5, 2.1, 3.0)], Memory.PUSHED_PAST),
        ([(0.3, 0.2, 0.4), (9.0, 8.0, 10.0)], Memory.STILL_KNOWN),  # that is the worse of the two
        ([(1.0, 0.24, 1.1)], Memory.CANNOT_TELL),
        ([(1.0, 0.9, 4.1)], Memory.CANNOT_TELL),
        ([(1.0, 0.9, 1.1), (math.nan,) * 3], Memory.CANNOT_TELL),
        ([(1.0, 0.9, 1.1), (math.inf, math.nan, math.nan)], Memory.CANNOT_TELL),
        ([], Memory.NEVER_SEEN),
    ],
)
def test_losses_over_levels(rows: list[tuple[float, float, float]], expected: Memory) -> None:
    """The band is 0.5 to 2; an interval that reaches its square, 0.25 or 4, is too wide to tell."""
    assert LEVEL_BAND == (0.5, 2.0)
    assert against_level(over(*rows), [False, True]).memory is expected


def test_the_words_hold_the_extreme_ratios() -> None:
    found = against_level(over((0.31, 0.2, 0.4), (1.27, 1.0, 1.5), (0.9, 0.8, 1.0)), [False])
    assert "0.31 to 1.3 times" in found.words
    assert "is predicted to lose" in found.words
    known = against_reference(over((0.9, 0.8, 1.0)))
    assert "its loss is 0.9 times what a model that never saw it loses" in known.words
    assert "not finite" in against_level(over((math.nan,) * 3), [False]).words
    assert "did not recognise it" in against_level(over(), [False]).words


def test_a_picture_that_is_familiar_however_it_is_turned_has_no_level() -> None:
    found = against_level(over((0.1, 0.1, 0.1)), [True, True])
    assert found.memory is Memory.CANNOT_TELL
    assert "--reference" in found.words


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ((1.0, 0.9, 1.1), Memory.NEVER_SEEN),
        ((0.45, 0.4, 0.49), Memory.STILL_KNOWN),
        ((2.2, 2.1, 2.3), Memory.PUSHED_PAST),
        ((1.0, 0.24, 1.1), Memory.CANNOT_TELL),
        ((1.0, 0.9, 4.1), Memory.CANNOT_TELL),
    ],
)
def test_a_reference_has_the_same_band(row: tuple[float, float, float], expected: Memory) -> None:
    assert against_reference(over(row)).memory is expected


def finding(memory: Memory) -> MemoryFinding:
    return MemoryFinding(memory, f"because {memory.value} 42")


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ([Memory.NEVER_SEEN, Memory.NEVER_SEEN], Memory.NEVER_SEEN),
        ([Memory.NEVER_SEEN, Memory.STILL_KNOWN], Memory.STILL_KNOWN),
        ([Memory.STILL_KNOWN, Memory.PUSHED_PAST], Memory.STILL_KNOWN),
        ([Memory.CANNOT_TELL, Memory.STILL_KNOWN], Memory.STILL_KNOWN),
        ([Memory.NEVER_SEEN, Memory.PUSHED_PAST], Memory.PUSHED_PAST),
        ([Memory.CANNOT_TELL, Memory.PUSHED_PAST], Memory.PUSHED_PAST),
        ([Memory.NEVER_SEEN, Memory.CANNOT_TELL], Memory.CANNOT_TELL),
        ([], Memory.CANNOT_TELL),
    ],
)
def test_the_worst_finding_decides(found: list[Memory], expected: Memory) -> None:
    assert Verdict([finding(memory) for memory in found], [KEPT]).memory is expected


@pytest.mark.parametrize(
    ("memory", "quality", "code"),
    [
        (Memory.NEVER_SEEN, KEPT, 0),
        (Memory.NEVER_SEEN, LOST, 5),
        (Memory.NEVER_SEEN, UNSURE, 5),
        (Memory.PUSHED_PAST, KEPT, 5),
        (Memory.PUSHED_PAST, LOST, 5),
        (Memory.CANNOT_TELL, KEPT, 5),
        (Memory.CANNOT_TELL, UNSURE, 5),
        (Memory.STILL_KNOWN, KEPT, 4),
        (Memory.STILL_KNOWN, LOST, 4),
        (Memory.STILL_KNOWN, UNSURE, 4),
    ],
)
def test_exit_codes(memory: Memory, quality: Finding, code: int) -> None:
    verdict = Verdict([finding(memory)], [quality])
    assert verdict.exit_code == code
    content: dict[str, Any] = verdict.as_json()
    assert content["exit_code"] == code
    assert content["memory"] == memory.value
    assert content["quality"] == quality.quality.value
    assert content["forgotten"] is (memory in (Memory.NEVER_SEEN, Memory.PUSHED_PAST))
    assert content["quality_kept"] is (quality is KEPT)
    assert content["level_band"] == [0.5, 2.0]
    assert content["memory_findings"] == [
        {"memory": memory.value, "words": f"because {memory.value} 42"}
    ]
    assert content["quality_findings"] == [
        {"quality": quality.quality.value, "words": quality.words}
    ]


@pytest.mark.parametrize(
    ("memory", "start"),
    [
        (Memory.STILL_KNOWN, "Still known: "),
        (Memory.NEVER_SEEN, "As if never seen: "),
        (Memory.PUSHED_PAST, "Forgotten, but pushed past what a model that never saw it"),
        (Memory.CANNOT_TELL, "Whether it is as if never seen cannot be told: "),
    ],
)
def test_the_text_begins_with_the_outcome_and_gives_its_reason_first(
    memory: Memory, start: str
) -> None:
    text = Verdict([finding(Memory.NEVER_SEEN), finding(memory)], [KEPT, LOST]).text
    assert text.startswith(start)
    assert text.index(f"because {memory.value} 42") <= text.index("because as if never seen 42")
    assert "The other pictures are worse than before: draws worse by 40 %; draws as well." in text


@pytest.mark.parametrize(
    ("quality", "words"),
    [
        ([KEPT], "The other pictures are as good as before: draws as well."),
        ([KEPT, UNSURE], "cannot be told: too few samples; draws as well."),
        ([], "Whether the other pictures are as good as before cannot be told"),
    ],
)
def test_the_text_ends_with_quality(quality: list[Finding], words: str) -> None:
    assert words in Verdict([finding(Memory.NEVER_SEEN)], quality).text
