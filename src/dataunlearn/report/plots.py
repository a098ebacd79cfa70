"""The report's figures of measurements, and what all figures share, as PNG files in memory.

Every function builds its own `matplotlib.figure.Figure` on the Agg canvas: no pyplot, no display,
no global state. A function returns None where the run holds nothing to draw.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

BEFORE = "#8a8f98"
AFTER = "#0b6e99"
REFERENCE = "#c98a1b"
KEEP = "#2d7d46"
FORGET = "#b5402f"

INK = "#30343b"
GRID = "#e3e5e8"
_DPI = 180


@dataclass(frozen=True)
class Curve:
    """Shares over timesteps or steps, with intervals where they are known.

    Attributes:
        label: What the legend says.
        colour: A matplotlib colour.
        shares: Timestep to share in [0, 1].
        intervals: Timestep to (low, high); timesteps may be missing.
    """

    label: str
    colour: str
    shares: Mapping[int, float]
    intervals: Mapping[int, tuple[float, float]]


def regeneration_curve(curves: Sequence[Curve]) -> bytes | None:
    """How often the picture came back, over how destroyed the start was."""
    return _restored_shares(
        curves, "noise step the picture was destroyed to (higher: less of it is left)"
    )


def relearning_curve(curves: Sequence[Curve]) -> bytes | None:
    """How often the picture came back, over steps of an attack's training."""
    return _restored_shares(curves, "steps of training", every_tick=False)


def _restored_shares(
    curves: Sequence[Curve], xlabel: str, *, every_tick: bool = True
) -> bytes | None:
    drawn = [curve for curve in curves if curve.shares]
    if not drawn:
        return None
    figure, axes = figure_and_axes(7.2, 3.4)
    timesteps = sorted({t for curve in drawn for t in curve.shares})
    shift = 0.004 * max(timesteps)  # so that intervals at the same timestep stay apart
    for index, curve in enumerate(drawn):
        steps = sorted(curve.shares)
        x = np.array(steps) + shift * (index - (len(drawn) - 1) / 2)
        y = np.array([curve.shares[t] for t in steps])
        bounds = np.array([curve.intervals.get(t, (curve.shares[t],) * 2) for t in steps])
        errors = np.clip([y - bounds[:, 0], bounds[:, 1] - y], 0, 1)  # (2, S)
        drawing = axes.errorbar(x, y, yerr=errors, color=curve.colour, capsize=3, elinewidth=1)
        drawing.lines[0].set(label=curve.label, marker="o", markersize=5, linewidth=1.8)
    if every_tick:
        axes.set_xticks(timesteps)
    axes.set_ylim(-0.03, 1.03)
    axes.yaxis.set_major_formatter(percent())
    axes.set_xlabel(xlabel)
    axes.set_ylabel("picture restored in")
    legend(axes)
    return png(figure)


def level_curve(curves: Sequence[Curve], band: Sequence[float] | None) -> bytes | None:
    """Loss on the forgotten pictures over that of a model that never saw them, by noise step.

    Args:
        curves: Their ``shares`` are the ratios.
        band: Ratios between which a model counts as one that never saw them; None draws none.
    """
    drawn = [curve for curve in curves if curve.shares]
    if not drawn:
        return None
    figure, axes = figure_and_axes(7.2, 3.4)
    if band is not None:
        axes.axhspan(*band, color=AFTER, alpha=0.10, linewidth=0)
    axes.axhline(1, color=INK, linewidth=0.8)
    for curve in drawn:
        steps = sorted(curve.shares)
        y = np.array([curve.shares[t] for t in steps])
        bounds = np.array([curve.intervals.get(t, (curve.shares[t],) * 2) for t in steps])
        errors = np.clip([y - bounds[:, 0], bounds[:, 1] - y], 0, None)  # (2, S)
        drawing = axes.errorbar(steps, y, yerr=errors, color=curve.colour, capsize=3, elinewidth=1)
        drawing.lines[0].set(label=curve.label, marker="o", markersize=5, linewidth=1.8)
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.yaxis.set_minor_formatter(lambda value, _: "")
    axes.set_xlabel("noise step (higher: less of the picture is left)")
    axes.set_ylabel("loss over expected")
    legend(axes)
    return png(figure)


def class_histogram(before: Sequence[float] | None, after: Sequence[float] | None) -> bytes | None:
    """How many samples fall into each class, before and after."""
    pairs = [("before", BEFORE, before), ("after", AFTER, after)]
    drawn = [(label, colour, counts) for label, colour, counts in pairs if counts]
    if not drawn:
        return None
    figure, axes = figure_and_axes(7.2, 2.8)
    width = 0.8 / len(drawn)
    for index, (label, colour, counts) in enumerate(drawn):
        x = np.arange(len(counts)) + width * (index - (len(drawn) - 1) / 2)
        share = np.asarray(counts, dtype=float) / max(1.0, float(np.sum(counts)))
        axes.bar(x, share, width=width * 0.92, color=colour, label=label)
    axes.set_xticks(range(max(len(counts) for _, _, counts in drawn)))
    axes.yaxis.set_major_formatter(percent())
    axes.set_xlabel("class that the classifier saw in a sample")
    axes.set_ylabel("share of samples")
    axes.grid(visible=False, axis="x")
    axes.margins(y=0.25)
    legend(axes)
    return png(figure)


def figure_and_axes(width: float, height: float) -> tuple[Figure, Axes]:
    """A figure of some inches in the house style, with one pair of axes."""
    figure = Figure(figsize=(width, height), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(GRID)
    axes.tick_params(colors=INK, labelsize=8, length=0)
    axes.grid(visible=True, color=GRID, linewidth=0.7)
    axes.set_axisbelow(True)
    for label in (axes.xaxis.label, axes.yaxis.label):
        label.set(size=9, color=INK, parse_math=False)
    return figure, axes


def legend(axes: Axes) -> None:
    """Draw a legend above the axes, so that it hides no data."""
    axes.legend(
        loc="lower left",
        bbox_to_anchor=(0, 1.02),
        ncols=3,
        frameon=False,
        borderaxespad=0,
        fontsize=8.5,
        labelcolor=INK,
    )


def percent() -> FuncFormatter:
    """Ticks of shares, as percentages."""
    return FuncFormatter(lambda value, _: f"{100 * value:.3g} %")


def png(figure: Figure) -> bytes:
    """A figure as a PNG file in memory; a ``$`` in its texts is a dollar, and begins no formula."""
    for axes in figure.axes:
        key = axes.get_legend()
        named = [] if key is None else key.get_texts()
        for text in (*axes.texts, *named):
            text.set_parse_math(False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", facecolor="white", metadata={"Software": None})
    return buffer.getvalue()
