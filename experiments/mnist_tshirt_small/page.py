"""The results page of the small MNIST model: table, curves and strips from the runs' numbers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from dataunlearn.report.plots import Curve, png, regeneration_curve
from dataunlearn.runtime.files import write_atomically
from results_page import refresh

COLOURS = (
    *("#0b6e99", "#3f93b8", "#7fbad4", "#1b3a4b"),
    *("#2d7d46", "#7a5195", "#c98a1b", "#b5402f", "#555555", "#000000"),
)


def publish(facts: dict[str, Any], runs: Sequence[dict[str, Any]], out: Path, work: Path) -> None:
    """Write what there is so far: numbers, table, curve and samples."""
    command = "python experiments/mnist_tshirt_small/results.py"
    content = {"command": command, **facts, "runs": runs}
    write_atomically(out / "mnist_tshirt_small.json", json.dumps(content, indent=1).encode())
    figure = regeneration_curve(curves(facts["numbers"], runs))
    assert figure is not None
    write_atomically(out / "mnist_tshirt_small_regeneration.png", figure)
    names = ["before", *(found["name"] for found in runs)]
    write_atomically(out / "mnist_tshirt_small_samples.png", strips(names, work))
    refresh(out / "mnist_tshirt_small.md", table(facts["numbers"], runs))


def slug(name: str) -> str:
    """A file name."""
    return name.lower().replace(",", "").replace(" ", "_")


def curves(before: dict[str, Any], runs: Sequence[dict[str, Any]]) -> list[Curve]:
    """Regeneration curves of all runs."""
    sides = [("before", "#8a8f98", before)]
    sides += [(r["name"], colour, r["after"]) for r, colour in zip(runs, COLOURS, strict=False)]
    return [
        Curve(
            label,
            colour,
            {int(t): share for t, share in numbers["regeneration"].items()},
            {int(t): (low, high) for t, (low, high) in numbers["regeneration_interval"].items()},
        )
        for label, colour, numbers in sides
    ]


def percent(share: float) -> str:
    """A share in percent."""
    return f"{100 * share:.1f} %"


def table(before: dict[str, Any], runs: Sequence[dict[str, Any]]) -> str:
    """The Markdown table of all runs."""
    head = (
        "| | T-shirt from t=250 | t=500 | worst t≥500 | in samples | IS | IS after/before (95 %) | "
        "broken | forgotten at step | s | rows fwd / bwd |\n" + "|---" * 11 + "|\n"
    )
    return head + "\n".join(
        [row("before", before, None)] + [row(r["name"], r["after"], r) for r in runs]
    )


def row(name: str, numbers: dict[str, Any], found: dict[str, Any] | None) -> str:
    """One line of the table."""
    shares = numbers["regeneration"]
    worst = max(share for t, share in shares.items() if int(t) >= 500)
    frequency = numbers["tshirt_frequency"]
    median = numbers["regeneration_median_distance"]["250"]
    cells = [
        name,
        f"{percent(shares['250'])} (median L2 {median:.1f})",
        percent(shares["500"]),
        percent(worst),
        f"{round(frequency * numbers['num_samples'])} of {numbers['num_samples']}",
        f"{numbers['inception_score']:.2f}",
    ]
    if found is None:
        return "| " + " | ".join([*cells, "", percent(numbers["broken_share"]), "", "", ""]) + " |"
    change = found["change"]
    low, high = change["score_ratio_interval"]
    cells += [
        f"{change['score_ratio']:.3f} ({low:.3f}–{high:.3f})",
        percent(numbers["broken_share"]),
        str(found.get("settled_after") or "–"),
        f"{found['seconds']:.0f}" if "seconds" in found else "–",
        f"{found['rows_forward']} / {found['rows_backward']}" if "seconds" in found else "–",
    ]
    return "| " + " | ".join(cells) + " |"


def strips(names: Sequence[str], work: Path) -> bytes:
    """All methods' first 16 samples, one labelled line each, as a PNG."""
    figure = Figure(figsize=(9, 0.62 * len(names)), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    for line, name in enumerate(names):
        axes = figure.add_subplot(len(names), 1, line + 1)
        axes.imshow(np.asarray(Image.open(work / f"{slug(name)}.png")))
        axes.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=9)
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
    return png(figure)
