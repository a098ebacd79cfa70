"""What the quick look says of images whose views tell too little."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from dataunlearn.data import open_images
from dataunlearn.unlearning import quick_look as module
from dataunlearn.unlearning.quick_look import (
    QuickLook,
    recognised_singly,
    require_memorised,
    say_uncertain,
)


def said_of(unfamiliar: list[bool], mixed: list[bool]) -> list[str]:
    pictures = np.random.default_rng(0).integers(0, 256, (len(mixed), 1, 4, 4), dtype=np.uint8)
    weight = torch.tensor(mixed).float()
    levels = SimpleNamespace(unfamiliar=torch.tensor(unfamiliar), keep_weight=weight)
    forget = open_images(pictures, (1, 4, 4))
    job: Any = SimpleNamespace(levels=levels, split=SimpleNamespace(forget=forget))
    lines: list[str] = []
    say_uncertain(job, lines.append)
    return lines


def test_nothing_is_said_of_images_whose_views_tell_enough() -> None:
    assert said_of([True, True], [False, False]) == []


@pytest.mark.parametrize(
    ("unfamiliar", "said"),
    [(False, "looks the same to the model"), (True, "looks unlike all pictures to keep")],
)
def test_of_one_image(unfamiliar: bool, said: str) -> None:
    (line,) = said_of([unfamiliar], [True])
    assert line.startswith(f"The forget image {said}")


def test_of_several_each_is_named_once() -> None:
    """Those that look the same however turned, and others that are of another kind."""
    same, alone = said_of([True, False, True, True], [True, True, True, False])
    assert same.startswith("1 of 4 forget images (") and "[1]) look the same" in same
    assert alone.startswith("2 of 4 forget images (") and "unlike" in alone
    assert "[0]" in alone and "[2])" in alone and "[3]" not in alone
    assert "belong among those to keep" in alone


def job_of(ratios: list[list[float]], unfamiliar: list[bool]) -> Any:
    """Images with these losses over their levels, at noise levels."""
    before = torch.tensor(ratios, dtype=torch.float64)[:, :, None].expand(-1, -1, 2)
    levels = SimpleNamespace(
        before=before,
        level=torch.ones_like(before),
        unfamiliar=torch.tensor(unfamiliar),
        keep_weight=torch.zeros(len(ratios)),
    )
    pictures = np.random.default_rng(0).integers(0, 256, (len(ratios), 1, 4, 4), dtype=np.uint8)
    split = SimpleNamespace(forget=open_images(pictures, (1, 4, 4)))
    return SimpleNamespace(levels=levels, split=split, config=SimpleNamespace(force=False))


def test_one_of_several_is_recognised_by_itself() -> None:
    """At two noise levels; by the mean of all four there is nothing to forget."""
    job = job_of(
        [[0.1, 0.2, 0.9], [0.1, 0.5, 1], [0.9, 1, 1], [0.1, 0.1, 0.1]], [True] * 3 + [False]
    )
    assert recognised_singly(job).tolist() == [True, False, False, False]


@pytest.mark.parametrize(
    ("look", "beginning", "singly"),
    [
        (QuickLook(0.0, 0.0, torch.tensor([False] * 3)), "The model does not restore", "1 of 3"),
        (QuickLook(0.1, 0.0, torch.tensor([False] * 3)), "In 10%", "1 of 3"),
        (QuickLook(0.7, 0.6, torch.tensor([True, False, False])), "The model restores", "2 of 3"),
        (QuickLook(1.0, 1.0, torch.tensor([True, True, True])), "The model restores", None),
    ],
)
def test_known_ones_are_named_among_several(
    look: QuickLook, beginning: str, singly: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "quick_look", lambda job: look)
    lines: list[str] = []
    require_memorised(job_of([[1.0, 1.0], [0.2, 0.2], [1.0, 1.0]], [True] * 3), lines.append)
    assert lines[0].startswith(beginning)
    assert (f"Known singly: {singly}" in lines[0]) if singly else ("singly" not in lines[0])


def test_what_nothing_is_known_of_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    look = QuickLook(0.0, 0.0, torch.tensor([False]))
    monkeypatch.setattr(module, "quick_look", lambda job: look)
    with pytest.raises(module.NotMemorisedError, match="--force"):
        require_memorised(job_of([[0.9, 0.8]], [True]), lambda line: None)


@pytest.mark.parametrize(
    ("ratios", "unfamiliar", "known"),
    [
        ([[0.5, 0.5]], [True], False),  # a single level is uncertain by as much
        ([[0.2, 0.2]], [True], True),
        ([[0.2, 0.2]], [False], False),
        ([[0.5, 0.5], [0.5, 0.5]], [True, True], True),
        ([[0.5, 0.5], [0.5, 0.5]], [True, False], False),
        ([[0.1, 0.1], [1.0, 1.0], [1.0, 1.0], [1.0, 1.0]], [True] * 4, True),
        ([[0.9, 0.9]] * 4, [True] * 4, False),
    ],
)
def test_recognised_by_the_loss(
    ratios: list[list[float]], unfamiliar: list[bool], known: bool
) -> None:
    assert module.is_recognised(job_of(ratios, unfamiliar)) is known
