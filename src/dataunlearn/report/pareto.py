"""The Pareto plot of a benchmark: forgetting against quality."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dataunlearn.report.plots import figure_and_axes, png

INK, SOFT, FRONT = "#30343b", "#8a8f98", "#0b6e99"


@dataclass(frozen=True)
class Point:
    """One method: forgetting (lower is better) and quality, with intervals where known."""

    label: str
    x: float
    y: float
    x_interval: tuple[float, float] | None = None
    y_interval: tuple[float, float] | None = None


def on_front(points: Sequence[Point], higher: bool) -> list[bool]:
    """Which points no other one beats: as low in x and as good in y, and better in one."""
    sign = 1 if higher else -1

    def beats(a: Point, b: Point) -> bool:
        better_x, better_y = b.x - a.x, sign * (a.y - b.y)
        return min(better_x, better_y) >= 0 and max(better_x, better_y) > 0

    return [not any(beats(other, point) for other in points) for point in points]


def pareto(points: Sequence[Point], x_name: str, y_name: str, higher: bool) -> bytes:
    """A PNG; points on the front are filled and joined.

    Args:
        points: At least one.
        x_name: What lies to the right, lower is better.
        y_name: What lies upwards.
        higher: Whether higher is better there.
    """
    figure, axes = figure_and_axes(6.4, 4.2)
    front = on_front(points, higher)
    for point, best in zip(points, front, strict=True):
        axes.errorbar(
            point.x,
            point.y,
            xerr=_reach(point.x, point.x_interval),
            yerr=_reach(point.y, point.y_interval),
            fmt="o",
            color=FRONT if best else SOFT,
            markerfacecolor=FRONT if best else "white",
            elinewidth=0.8,
        )
        axes.annotate(
            point.label,
            (point.x, point.y),
            (5, 5),
            textcoords="offset points",
            fontsize=8,
            color=INK,
        )
    line = sorted((p.x, p.y) for p, best in zip(points, front, strict=True) if best)
    axes.step(*zip(*line, strict=True), where="post", color=FRONT, linewidth=0.8)
    axes.set_xlabel(f"{x_name} (lower is better)")
    axes.set_ylabel(f"{y_name} ({'higher' if higher else 'lower'} is better)")
    return png(figure)


def _reach(value: float, interval: tuple[float, float] | None) -> list[list[float]] | None:
    if interval is None:
        return None
    return [[max(0.0, value - interval[0])], [max(0.0, interval[1] - value)]]
