"""What the quick look says of images whose views tell too little."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from dataunlearn.data import open_images
from dataunlearn.unlearning.quick_look import say_uncertain


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
