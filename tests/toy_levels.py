"""Levels made by hand, and objectives prepared with them, for tests without a measured model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from dataunlearn.objectives import OBJECTIVES, Context, Objective
from dataunlearn.process import ForwardProcess
from dataunlearn.recognition.levels import Levels
from dataunlearn.recognition.witness import Pictures
from dataunlearn.views import plain_views

# What trains a model without prompts or classes: all but what learns from the lack of a prompt.
UNPROMPTED = {name: kind for name, kind in OBJECTIVES.items() if name != "WithoutPrompt"}


def levels_by_hand(
    recognition: Sequence[Sequence[float]],
    shape: tuple[int, int, int],
    timesteps: Sequence[int],
    *,
    chosen: Sequence[Sequence[int]] | None = None,
    asks_other: bool = False,
) -> Levels:
    """Levels of K images that are recognised as given, ``(K, T)``.

    The level is 2 and 4 in two draws, before is (1 - recognition) times the level, and image k has
    views number k and k + 1 of all plain ones where none are chosen.
    """
    views = plain_views(shape)
    known = torch.tensor(recognition, dtype=torch.float64)
    level = torch.tensor([2.0, 4.0], dtype=torch.float64).expand(*known.shape, 2)
    own = [(k % len(views), (k + 1) % len(views)) for k in range(len(known))]
    return Levels(
        tuple(timesteps),
        views,
        tuple(own if chosen is None else (tuple(row) for row in chosen)),
        torch.ones(len(known), dtype=torch.bool),
        asks_other,
        (1 - known)[..., None] * level,
        level,
        torch.zeros(len(known)),
    )


def context_by_hand(
    process: ForwardProcess,
    forget: Pictures,
    levels: Levels,
    timesteps: tuple[int, int] | None = None,
) -> Context:
    """What an objective may look at, with these levels and random neighbours."""

    def neighbours(count: int) -> Tensor:
        shape = (len(forget), count, *forget.clean.shape[1:])
        return torch.randn(shape, generator=torch.Generator().manual_seed(11))

    bounds = (process.first_timestep, process.last_timestep)
    return Context(process, forget, timesteps or bounds, lambda: levels, neighbours)


def prepared(objective: Objective, process: ForwardProcess, forget: Tensor, **by: Any) -> Objective:
    """The objective for K forget images, each recognised by another share, less at high noise.

    Their neighbours are random pictures; class 0 stands for "no prompt".

    Args:
        objective: As its constructor makes it.
        process: The forward process.
        forget: The different forget images, ``(K, C, H, W)``.
        **by: Goes to :func:`levels_by_hand`.
    """
    count, last = len(forget), process.last_timestep
    recognition = [[0.9 - 0.5 * k / count, 0.3, 0.0] for k in range(count)]
    channels, height, width = forget.shape[1:]
    levels = levels_by_hand(
        recognition, (channels, height, width), (last // 10, last // 2, last), **by
    )
    nothing = torch.zeros(count, dtype=torch.int64)
    return objective.prepare(context_by_hand(process, Pictures(forget, None, nothing), levels))
