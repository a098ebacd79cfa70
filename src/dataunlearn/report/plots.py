"""The report's figures as PNG files in memory.

Every function builds its own `matplotlib.figure.Figure` on the Agg canvas: no pyplot, no display,
no global state. A function returns None where the run holds nothing to draw.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray

BEFORE = "#8a8f98"
AFTER = "#0b6e99"
REFERENCE = "#c98a1b"
KEEP = "#2d7d46"
FORGET = "#b5402f"

_INK = "#30343b"
_GRID = "#e3e5e8"
_DPI = 180
_MAX_HEAT_COLUMNS = 60
_SMOOTH_FROM_STEPS = 60

_BOTH = (("keep", "pictures to keep", KEEP), ("forget", "pictures to forget", FORGET))

Record = Mapping[str, Any]


@dataclass(frozen=True)
class Curve:
    """Shares over timesteps, with intervals where they are known.

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


@dataclass(frozen=True)
class Line:
    """One number of the training log, drawn over steps.

    Attributes:
        key: The log's key.
        label: What the legend says.
        colour: A matplotlib colour.
        positive: Whether 0 means that there was nothing to measure, as for a side without rows.
    """

    key: str
    label: str
    colour: str
    positive: bool = False


def regeneration_curve(curves: Sequence[Curve]) -> bytes | None:
    """How often the picture came back, over how destroyed the start was."""
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
    axes.set_xticks(timesteps)
    axes.set_ylim(-0.03, 1.03)
    axes.yaxis.set_major_formatter(_percent())
    axes.set_xlabel("noise step the picture was destroyed to (higher: less of it is left)")
    axes.set_ylabel("picture restored in")
    _legend(axes)
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
    axes.yaxis.set_major_formatter(_percent())
    axes.set_xlabel("class that the classifier saw in a sample")
    axes.set_ylabel("share of samples")
    axes.grid(visible=False, axis="x")
    axes.margins(y=0.25)
    _legend(axes)
    return png(figure)


def training_figures(log: Sequence[Record]) -> dict[str, bytes | None]:
    """All figures of the training log by name, None where the log lacks the numbers."""
    losses = [Line(f"loss_{side}", label, colour, True) for side, label, colour in _BOTH]
    norms = [Line(f"norm_{side}", label, colour) for side, label, colour in _BOTH]
    return {
        "loss": training_lines(log, losses, "training loss"),
        "norm": training_lines(log, norms, "gradient norm", log_scale=True),
        "cosine": training_lines(log, [Line("cosine", "cosine", AFTER)], "cosine"),
        "u_forget": training_lines(log, [Line("u_forget", "factor", FORGET)], "factor"),
        "ess_keep": sample_size_map(log, "ess_keep"),
        "ess_forget": sample_size_map(log, "ess_forget"),
    }


def training_lines(
    log: Sequence[Record], lines: Sequence[Line], ylabel: str, log_scale: bool = False
) -> bytes | None:
    """Numbers of the training log over steps; lines without a single value are left out.

    Args:
        log: One record per step.
        lines: What to draw.
        ylabel: The label of the vertical axis.
        log_scale: Whether that axis is logarithmic; values that are not positive are left out.
    """
    figure, axes = figure_and_axes(5.2, 2.7)
    num_drawn = 0
    for line in lines:
        points = _points(log, line.key, positive=log_scale or line.positive)  # (S, 2)
        if not len(points):
            continue
        num_drawn += 1
        if len(points) < _SMOOTH_FROM_STEPS:
            axes.plot(*points.T, color=line.colour, linewidth=1.6, label=line.label)
            continue
        axes.plot(*points.T, color=line.colour, linewidth=0.7, alpha=0.35)
        axes.plot(*_smooth(points).T, color=line.colour, linewidth=1.8, label=line.label)
    if not num_drawn:
        return None
    if log_scale:
        axes.set_yscale("log")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    axes.set_xlabel("training step")
    axes.set_ylabel(ylabel)
    axes.margins(y=0.2)
    if num_drawn > 1:
        _legend(axes)
    return png(figure)


def sample_size_map(log: Sequence[Record], key: str) -> bytes | None:
    """Effective sample size per timestep bucket over training, as a heat map.

    Args:
        log: One record per step; ``record[key]`` maps buckets such as ``"0-99"`` to a share in
            [0, 1], or to None where the step had no picture in that bucket.
        key: ``"ess_keep"`` or ``"ess_forget"``.
    """
    records = [record for record in log if record.get(key)]
    buckets = sorted({name for record in records for name in record[key]}, key=_bucket_start)
    rows = [[_number(record[key].get(name)) for record in records] for name in buckets]
    values = np.array(rows, dtype=float).reshape(len(buckets), len(records))
    if np.isnan(values).all():
        return None
    num_groups = min(len(records), _MAX_HEAT_COLUMNS)
    groups = np.array_split(values, num_groups, axis=1)
    binned = np.stack([_mean_of_known(group) for group in groups], axis=1)
    figure, axes = figure_and_axes(5.2, 2.7)
    first, last = _step(records[0], 1), _step(records[-1], len(records))
    extent = (first - 0.5, max(last, first) + 0.5, -0.5, len(buckets) - 0.5)
    axes.set_facecolor("#c9ccd1")
    axes.grid(visible=False)
    shown = axes.imshow(
        binned, cmap="PuBu", vmin=0, vmax=1, extent=extent, aspect="auto", origin="lower"
    )
    axes.set_yticks(range(len(buckets)), buckets)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    axes.set_xlabel("training step")
    axes.set_ylabel("noise steps")
    bar = figure.colorbar(shown, ax=axes, format=_percent(), pad=0.02)
    bar.ax.tick_params(labelsize=8, colors=_INK)
    bar.outline.set_visible(False)
    return png(figure)


def figure_and_axes(width: float, height: float) -> tuple[Figure, Axes]:
    """A figure of some inches in the house style, with one pair of axes."""
    figure = Figure(figsize=(width, height), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(_GRID)
    axes.tick_params(colors=_INK, labelsize=8, length=0)
    axes.grid(visible=True, color=_GRID, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.xaxis.label.set(size=9, color=_INK)
    axes.yaxis.label.set(size=9, color=_INK)
    return figure, axes


def _legend(axes: Axes) -> None:
    axes.legend(
        loc="lower left",
        bbox_to_anchor=(0, 1.02),
        ncols=3,
        frameon=False,
        borderaxespad=0,
        fontsize=8.5,
        labelcolor=_INK,
    )


def _percent() -> FuncFormatter:
    return FuncFormatter(lambda value, _: f"{100 * value:.3g} %")


def png(figure: Figure) -> bytes:
    """A figure as a PNG file in memory."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", facecolor="white", metadata={"Software": None})
    return buffer.getvalue()


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else float("nan")


def _step(record: Record, default: int) -> float:
    step = _number(record.get("step"))
    return step if np.isfinite(step) else default


def _points(log: Sequence[Record], key: str, positive: bool) -> NDArray[np.float64]:
    steps = [_step(record, index + 1) for index, record in enumerate(log)]
    values = [_number(record.get(key)) for record in log]
    points = np.array([steps, values], dtype=np.float64).T.reshape(-1, 2)
    known = np.isfinite(points[:, 1])
    return points[known & (points[:, 1] > 0)] if positive else points[known]


def _smooth(points: NDArray[np.float64]) -> NDArray[np.float64]:
    window = max(3, len(points) // 25)
    kernel = np.ones(window) / window
    columns = [np.convolve(column, kernel, mode="valid") for column in points.T]
    return np.stack(columns, axis=1)


def _mean_of_known(group: NDArray[np.float64]) -> NDArray[np.float64]:
    known = np.isfinite(group)
    total = np.where(known, group, 0).sum(axis=1)
    count = known.sum(axis=1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _bucket_start(name: str) -> tuple[int, str]:
    start = name.split("-")[0]
    return (int(start) if start.isdigit() else 0, name)
