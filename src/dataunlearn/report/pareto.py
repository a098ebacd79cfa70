"""The Pareto plot of a benchmark: forgetting against quality."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from dataunlearn.report.plots import AFTER as FRONT
from dataunlearn.report.plots import BEFORE as SOFT
from dataunlearn.report.plots import INK, figure_and_axes, png

NEIGHBOUR = 12  # in points, as the places of labels
LABEL_PLACES = ((5, 5), (-12, 5), (5, -12), (-12, -12))  # 8 points are a digit's height
WIDE_RANGE = 50


@dataclass(frozen=True)
class Point:
    """One method: forgetting (lower is better) and quality, with intervals where known.

    A yardstick, such as the model before, is drawn as a square and is never on the front.
    """

    label: str
    x: float
    y: float
    x_interval: tuple[float, float] | None = None
    y_interval: tuple[float, float] | None = None
    is_yardstick: bool = False


def on_front(points: Sequence[Point], higher: bool) -> list[bool]:
    """Which points no other one beats: as low in x and as good in y, and better in one."""
    sign = 1 if higher else -1

    def beats(a: Point, b: Point) -> bool:
        better_x, better_y = b.x - a.x, sign * (a.y - b.y)
        return min(better_x, better_y) >= 0 and max(better_x, better_y) > 0

    methods = [point for point in points if not point.is_yardstick]
    return [
        not point.is_yardstick and not any(beats(other, point) for other in methods)
        for point in points
    ]


def pareto(points: Sequence[Point], x_name: str, y_name: str, higher: bool) -> bytes:
    """A PNG; points on the front are filled and joined, numbers are explained at the side.

    Args:
        points: At least one.
        x_name: What lies to the right, lower is better.
        y_name: What lies upwards; its axis is logarithmic where values differ very much.
        higher: Whether higher is better there.
    """
    figure, axes = figure_and_axes(8.4, 4.4)
    heights = [point.y for point in points]
    if min(heights) > 0 and max(heights) > WIDE_RANGE * min(heights):
        axes.set_yscale("log")
    front = on_front(points, higher)
    for point, best in zip(points, front, strict=True):
        axes.errorbar(
            point.x,
            point.y,
            xerr=_reach(point.x, point.x_interval),
            yerr=_reach(point.y, point.y_interval),
            fmt="s" if point.is_yardstick else "o",
            color=FRONT if best else SOFT,
            markerfacecolor=FRONT if best else "white",
            elinewidth=0.8,
        )
    line = sorted((p.x, p.y) for p, best in zip(points, front, strict=True) if best)
    if line:
        axes.step(*zip(*line, strict=True), where="post", color=FRONT, linewidth=0.8)
    axes.set_xlabel(f"{x_name} (lower is better)")
    axes.set_ylabel(f"{y_name} ({'higher' if higher else 'lower'} is better)")
    figure.draw_without_rendering()  # places are known from here on
    _number(axes, points, front)
    return png(figure)


def _number(axes: Axes, points: Sequence[Point], front: Sequence[bool]) -> None:
    """Number the points, neighbours under one label, with a list of names beside the axes."""
    places = axes.transData.transform([(point.x, point.y) for point in points])
    pixels = axes.figure.dpi / 72
    groups: list[list[int]] = []
    for index, place in enumerate(places):
        for group in groups:
            if max(abs(place - places[group[0]])) < NEIGHBOUR * pixels:
                group.append(index)
                break
        else:
            groups.append([index])
    for group in groups:
        first = points[group[0]]
        words = ", ".join(str(index + 1) for index in group)
        axes.annotate(
            words,
            (first.x, first.y),
            _free_place(places, group[0], pixels),
            textcoords="offset points",
            fontsize=8,
            color=INK,
        )
    for index, (point, best) in enumerate(zip(points, front, strict=True)):
        axes.text(
            1.03,
            1 - index / max(16, len(points)),
            f"{index + 1}  {point.label}",
            transform=axes.transAxes,
            fontsize=8,
            color=FRONT if best else INK,
            va="top",
        )


def _free_place(places: NDArray[np.float64], index: int, pixels: float) -> tuple[float, float]:
    """Where a label hides no other point: offset in points; above and to the right if nowhere.

    Args:
        places: The points in pixels ``(N, 2)``.
        index: The point that is labelled.
        pixels: Pixels of a point, the unit of length.
    """
    others = np.delete(places, index, axis=0)
    for place in LABEL_PLACES:
        middle = places[index] + (np.array(place) + 4) * pixels
        if not (np.abs(others - middle).max(axis=1) < 8 * pixels).any():
            return place
    return LABEL_PLACES[0]


def _reach(value: float, interval: tuple[float, float] | None) -> list[list[float]] | None:
    if interval is None:
        return None
    return [[max(0.0, value - interval[0])], [max(0.0, interval[1] - value)]]
