"""The views that a model can be asked through: what there are for samples of some shape.

Each is a :class:`dataunlearn.questions.View`, so it loses nothing and leaves white noise white:
turns and flips of the square, permutations of the channels, wrapped shifts and shears, the
negative, and products of them. Which of them a model does not recognise an image through, has to be
measured: :mod:`dataunlearn.recognition.choosing`.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import permutations
from operator import itemgetter

import torch
from torch import Tensor

from dataunlearn.questions import View

Shape = tuple[int, int, int]
Views = dict[str, View]

# Pixels from a line to the next of sheared pictures.
SLOPES = (0.4, -0.4, 0.6, -0.6)


def moving(shape: Shape, move: Callable[[Tensor], Tensor]) -> View:
    """The view that moves coordinates as ``move`` moves the entries of a ``(C, H, W)`` tensor."""
    size = shape[0] * shape[1] * shape[2]
    order = move(torch.arange(size).reshape(shape)).reshape(-1)
    return View(order, torch.ones(size))


def as_it_is(shape: Shape) -> View:
    """No change: for another conditioning, which is a view of its own."""
    return moving(shape, lambda index: index)


def turns_and_flips(shape: Shape) -> Views:
    """The seven turns and flips of the square; of another rectangle, the three that keep it."""
    moves: dict[str, Callable[[Tensor], Tensor]] = {
        "mirrored": lambda index: index.flip(2),
        "upside down": lambda index: index.flip(1),
        "half turn": lambda index: index.flip(1, 2),
    }
    if shape[1] == shape[2]:
        moves |= {
            "quarter turn left": lambda index: index.rot90(1, (1, 2)),
            "quarter turn right": lambda index: index.rot90(-1, (1, 2)),
            "transposed": lambda index: index.transpose(1, 2),
            "transposed, half turn": lambda index: index.transpose(1, 2).flip(1, 2),
        }
    return {name: moving(shape, move) for name, move in moves.items()}


def channel_permutations(shape: Shape) -> Views:
    """Every other order of up to three channels; none for more, whose channels are no colours."""
    channels = range(shape[0])
    if len(channels) > 3:
        return {}
    letters = "RGB"
    orders = [list(order) for order in permutations(channels) if order != tuple(channels)]
    return {
        f"colours {''.join(letters[c] for c in order)}": moving(shape, itemgetter(order))
        for order in orders
    }


def shifted(shape: Shape, down: int, right: int) -> View:
    """Moved by some pixels; what leaves on one side comes back on the other."""
    return moving(shape, lambda index: index.roll((down, right), (1, 2)))


def sheared(shape: Shape, slope: float, axis: int) -> View:
    """Leaning: each line is moved along by ``slope`` times its distance to the middle, in pixels.

    What leaves on one side comes back on the other, so that nothing is lost or counted twice.

    Args:
        shape: A sample's shape.
        slope: Pixels from a line to the next; positive leans left at the top, or up at the left.
        axis: 2 to move rows to the right, 1 to move columns down.
    """
    middle = (shape[3 - axis] - 1) / 2

    def move(index: Tensor) -> Tensor:
        lines = index.unbind(3 - axis)
        moved = [line.roll(round(slope * (i - middle)), 1) for i, line in enumerate(lines)]
        return torch.stack(moved, 3 - axis)

    return moving(shape, move)


def shears(shape: Shape) -> Views:
    """Leaning to either side, and slanting up or down, a little and a little more."""
    return {
        f"{name} by {abs(slope)}": sheared(shape, slope, axis)
        for slope in SLOPES
        for name, axis in (
            (f"leaning {'left' if slope > 0 else 'right'}", 2),
            (f"slanting {'down' if slope > 0 else 'up'}", 1),
        )
    }


def small_shifts(shape: Shape) -> Views:
    """Moved by a ninth of the height and of the width, in the four directions."""
    down, right = (max(1, round(size / 9)) for size in shape[1:])
    return {
        f"shifted {'down' if y > 0 else 'up'} and {'right' if x > 0 else 'left'}": shifted(
            shape, y * down, x * right
        )
        for y in (1, -1)
        for x in (1, -1)
    }


def negative(shape: Shape) -> View:
    """Every coordinate times -1."""
    size = shape[0] * shape[1] * shape[2]
    return View(torch.arange(size), -torch.ones(size))


def plain_views(shape: Shape) -> Views:
    """All views but products: turns and flips, channel orders, half a shift, the negative."""
    half = shifted(shape, shape[1] // 2, shape[2] // 2)
    others = {"shifted by half": half, "negative": negative(shape)}
    return turns_and_flips(shape) | channel_permutations(shape) | others


def products(first: Views, second: Views) -> Views:
    """Each view of ``second`` seen through each one of ``first``."""
    return {
        f"{outer}, {inner}": view.after(shown)
        for inner, shown in second.items()
        for outer, view in first.items()
    }
