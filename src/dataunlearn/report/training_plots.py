"""The report's figures of a run's training log, one record per step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from dataunlearn.report.plots import AFTER, FORGET, INK, KEEP, figure_and_axes, legend, percent, png

_MAX_HEAT_COLUMNS = 60
_SMOOTH_FROM_STEPS = 60

_BOTH = (("keep", "pictures to keep", KEEP), ("forget", "pictures to forget", FORGET))

Record = Mapping[str, Any]


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


def training_figures(log: Sequence[Record]) -> dict[str, bytes | None]:
    """All figures of the training log by name, None where the log lacks the numbers."""
    losses = [Line(f"loss_{side}", label, colour, True) for side, label, colour in _BOTH]
    norms = [Line(f"norm_{side}", label, colour) for side, label, colour in _BOTH]
    norms.append(Line("norm", "both together", AFTER))
    looks = [
        Line("restored", "picture restored in", FORGET),
        Line("damage", "pictures to keep denoised worse by", KEEP),
    ]
    return {
        "looks": training_lines(log, looks, "", share=True),
        "loss": training_lines(log, losses, "training loss"),
        "norm": training_lines(log, norms, "gradient norm", log_scale=True),
        "cosine": training_lines(log, [Line("cosine", "cosine", AFTER)], "cosine"),
        "u_forget": training_lines(log, [Line("u_forget", "factor", FORGET)], "factor"),
        "ess_keep": sample_size_map(log, "ess_keep"),
        "ess_forget": sample_size_map(log, "ess_forget"),
    }


def training_lines(
    log: Sequence[Record],
    lines: Sequence[Line],
    ylabel: str,
    *,
    log_scale: bool = False,
    share: bool = False,
) -> bytes | None:
    """Numbers of the training log over steps; lines without a single value are left out.

    Args:
        log: One record per step.
        lines: What to draw.
        ylabel: The label of the vertical axis.
        log_scale: Whether that axis is logarithmic; values that are not positive are left out.
        share: Whether it is in percent of 1.
    """
    figure, axes = figure_and_axes(5.2, 2.7)
    num_drawn = 0
    for line in lines:
        points = _points(log, line.key, positive=log_scale or line.positive)  # (S, 2)
        if not len(points):
            continue
        num_drawn += 1
        if len(points) < _SMOOTH_FROM_STEPS:
            marker = "o" if len(points) < len(log) else ""
            (drawn,) = axes.plot(*points.T, color=line.colour, linewidth=1.6, label=line.label)
            drawn.set(marker=marker, markersize=4)
            continue
        axes.plot(*points.T, color=line.colour, linewidth=0.7, alpha=0.35)
        axes.plot(*_smooth(points).T, color=line.colour, linewidth=1.8, label=line.label)
    if not num_drawn:
        return None
    if log_scale:
        axes.set_yscale("log")
    axes.margins(y=0.04 if share else 0.2)
    if share:
        axes.yaxis.set_major_formatter(percent())
        axes.update_datalim([(0, 0), (0, 1)])
        axes.autoscale_view()
        axes.set_xlim(left=0)  # the first look comes some steps after the start
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    axes.set_xlabel("training step")
    axes.set_ylabel(ylabel)
    if num_drawn > 1 or share:
        legend(axes)
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
    bar = figure.colorbar(shown, ax=axes, format=percent(), pad=0.02)
    bar.ax.tick_params(labelsize=8, colors=INK)
    bar.outline.set_visible(False)
    return png(figure)


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
