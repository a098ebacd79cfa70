"""What counts say: more outside than by chance, sooner in every pair, back by itself."""

from __future__ import annotations

import pytest
import torch

from dataunlearn.attacks.config import Relearning
from dataunlearn.attacks.courses import Course, Look, Relearned
from dataunlearn.metrics.membership_names import Attack
from dataunlearn.metrics.result import Result
from dataunlearn.unlearning.verdict import Memory
from dataunlearn.verification.battery import Verified
from dataunlearn.verification.check import Checked
from dataunlearn.verification.membership import chance_of, judged
from dataunlearn.verification.relearning import came_back, in_their_time


def results(attack: str, below: int, above: int, images: int = 12) -> dict[str, Result]:
    prefix = "membership" if attack == "loss" else f"membership_{attack}"
    found = {f"{prefix}_auc_held_out": Result(f"{prefix}_auc_held_out", 0.5, None, None, {}, None)}
    for tail, count in (("below", below), ("above", above)):
        outside = torch.arange(images) < count
        name = f"{prefix}_{tail}_held_out"
        found[name] = Result(name, count / images, None, None, {}, outside)
    return found


def test_chance_is_binomial() -> None:
    assert chance_of(0, 12) == 1
    assert chance_of(1, 1) == pytest.approx(0.025)
    assert chance_of(12, 12) == pytest.approx(0.025**12)
    assert chance_of(1, 2) == pytest.approx(1 - 0.975**2)


@pytest.mark.parametrize(
    ("attack", "below", "above", "memory"),
    [
        ("loss", 12, 0, Memory.STILL_KNOWN),
        ("loss", 0, 12, Memory.PUSHED_PAST),
        ("sima", 1, 1, Memory.NEVER_SEEN),
        ("inversion", 12, 0, Memory.PUSHED_PAST),
    ],
)
def test_membership_counts(attack: Attack, below: int, above: int, memory: Memory) -> None:
    findings, says = judged(results(attack, below, above), {}, [attack])
    assert [finding.memory for finding in findings] == [memory]
    assert f"{attack} 0.50" in says


def test_what_the_reference_shows_too_proves_nothing() -> None:
    own = results("loss", 12, 0)
    assert judged(own, results("loss", 12, 0), ["loss"])[0][0].memory is Memory.NEVER_SEEN
    assert judged(own, results("loss", 0, 0), ["loss"])[0][0].memory is Memory.STILL_KNOWN


def test_one_image_says_nothing() -> None:
    findings, says = judged(results("loss", 1, 0, images=1), {}, ["loss"])
    assert findings == []
    assert "so few images" in says


def course(*restored: int, tries: int = 64, seed: int = 0) -> Course:
    looks = (Look(10 * i, count, tries) for i, count in enumerate(restored))
    return Course(seed, tuple(looks))


def relearned(on: str, own: list[Course], beside: list[Course]) -> Relearned:
    settings = Relearning(on=on, steps=60, seeds=tuple(range(len(own))))  # type: ignore[arg-type]
    kind = "reference" if beside else None
    return Relearned(settings, tuple(own), tuple(beside), kind)


@pytest.mark.parametrize(
    ("own", "beside", "memory"),
    [
        ([0, 0, 0], None, Memory.NEVER_SEEN),
        ([0, 9, 60], None, Memory.STILL_KNOWN),
        ([0, 2, 4], None, Memory.CANNOT_TELL),  # 6 %, between 2 % and 15 %
        ([0, 9, 60], [0, 8, 60], Memory.NEVER_SEEN),
        ([0, 9, 40], [0, 2, 3], Memory.STILL_KNOWN),
    ],
)
def test_back_by_itself(own: list[int], beside: list[int] | None, memory: Memory) -> None:
    found = relearned("keep", [course(*own)], [] if beside is None else [course(*beside)])
    ((finding,), _) = came_back(found)
    assert finding.memory is memory
    assert "60 steps on keep images" in finding.words


@pytest.mark.parametrize(
    ("pairs", "sooner", "memory"),
    [(5, 5, Memory.STILL_KNOWN), (5, 4, Memory.NEVER_SEEN), (3, 3, None)],
)
def test_sooner_in_every_pair(pairs: int, sooner: int, memory: Memory | None) -> None:
    own = [course(0, 64, 64) if i < sooner else course(0, 0, 64) for i in range(pairs)]
    found = relearned("image", own, [course(0, 0, 64) for _ in range(pairs)])
    findings, says = in_their_time(found)
    assert [finding.memory for finding in findings] == ([] if memory is None else [memory])
    assert "after 10, 10" in (says or findings[0].words)


@pytest.mark.parametrize(
    ("own", "other", "memory"),
    [
        ((0, 0, 0, 64), (0, 64), Memory.PUSHED_PAST),  # after 30 steps where it was 10
        ((0, 0, 64), (0, 64), Memory.PUSHED_PAST),  # 20: twice as many
        ((0, 0, 0, 64), (0, 0, 64), Memory.NEVER_SEEN),  # 30 where it was 20
        ((0, 0, 0, 0), (0, 64), Memory.PUSHED_PAST),  # never, within sixty steps
        ((0, 0, 0, 0), (0, 0, 0, 0), Memory.NEVER_SEEN),  # never, either
        ((0, 64), (0, 0, 0, 0), Memory.STILL_KNOWN),
    ],
)
def test_later_in_every_pair(own: tuple[int, ...], other: tuple[int, ...], memory: Memory) -> None:
    found = relearned("image", [course(*own)] * 5, [course(*other)] * 5)
    ((finding,), _) = in_their_time(found)
    assert finding.memory is memory
    mixed = relearned("image", [course(*own)] * 4 + [course(*other)], [course(*other)] * 5)
    ((finding,), _) = in_their_time(mixed)
    assert finding.memory is Memory.NEVER_SEEN  # four of five pairs may be chance


def checked(name: str, memory: Memory | None) -> Checked:
    return Checked(name, "?", memory, f"{name} was found")


@pytest.mark.parametrize(
    ("memories", "memory", "code"),
    [
        ([Memory.NEVER_SEEN, None], Memory.NEVER_SEEN, 0),
        ([Memory.NEVER_SEEN, Memory.STILL_KNOWN, Memory.PUSHED_PAST], Memory.STILL_KNOWN, 4),
        ([Memory.NEVER_SEEN, Memory.PUSHED_PAST], Memory.PUSHED_PAST, 5),
        ([Memory.NEVER_SEEN, Memory.CANNOT_TELL], Memory.CANNOT_TELL, 5),
        ([None], Memory.CANNOT_TELL, 5),
        ([], Memory.CANNOT_TELL, 5),
    ],
)
def test_the_worst_check_decides(memories: list[Memory | None], memory: Memory, code: int) -> None:
    found = Verified([checked(str(i), each) for i, each in enumerate(memories)], {"other": "why"})
    assert found.memory is memory
    assert found.exit_code == code
    assert found.text.endswith("Not tried: other (why).") or not memories
