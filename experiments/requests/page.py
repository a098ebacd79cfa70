"""Put the courses of ``fifty.py`` into docs/results/requests.md: numbers, a table and a figure.

    python experiments/requests/page.py runs/requests/plain runs/requests/rehearsed

Each folder is an arm, as far as it has come. The numbers go into ``requests.json`` beside the page.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from dataunlearn.report.plots import AFTER, BEFORE, FORGET, KEEP, png
from dataunlearn.runtime.files import write_atomically

sys.path.append(str(Path(__file__).parents[1]))  # what experiments share
from results_page import refresh

PAGE = Path("docs/results/requests.md")
COLOURS = {"plain": FORGET, "rehearsed": AFTER, "anchored": KEEP}
LEVEL = 300  # the timestep whose distance and loss are drawn
PARTS = ("training", "measuring", "verification")
EVERY = 10  # a line of the table

Record = Mapping[str, Any]
Arms = Mapping[str, Sequence[Record]]


def forgotten_share(record: Record) -> float:
    """The share of all requests so far whose pictures the head does not know."""
    found: list[str] = list(record["memory"].values())
    return sum(said != "still known" for said in found) / len(found)


def worst_keep_loss(record: Record) -> float | None:
    """By how much pictures to keep lose more than in the first model, where that is most."""
    return None if record["keep_loss"] is None else max(record["keep_loss"]) - 1


def draw(arms: Arms) -> bytes:
    """Four panels over the number of requests."""
    figure = Figure(figsize=(9.6, 6.2), dpi=180, layout="constrained")
    FigureCanvasAgg(figure)
    panels: Sequence[Axes] = figure.subplots(2, 2).flatten().tolist()
    titles = (
        "requests whose pictures are forgotten",
        f"loss over the twin's, forgotten pictures, t={LEVEL}",
        "pictures to keep lose more, at the worst noise level",
        "Inception Score of 512 samples",
    )
    for axes, title in zip(panels, titles, strict=True):
        axes.set_title(title, fontsize=9)
        axes.set_xlabel("requests answered")
        axes.grid(visible=True, alpha=0.3)
    for name, records in arms.items():
        style: dict[str, Any] = {"color": COLOURS.get(name, BEFORE), "label": name}
        number = [record["request"] for record in records]
        panels[0].plot(number, [forgotten_share(record) for record in records], **style)
        ratios = [record["to_twin"][f"loss_over_reference_{LEVEL}"] for record in records]
        panels[1].plot(number, ratios, **style)
        kept = [(record["request"], worst_keep_loss(record)) for record in records]
        panels[2].plot(*_known(kept), **style)
        scored = [(r["request"], r.get("digits", {}).get("inception_score")) for r in records]
        panels[3].plot(*_known(scored), marker="o", markersize=3, **style)
    panels[0].set_ylim(0, 1.03)
    panels[1].axhline(1, color=BEFORE, linewidth=0.8)
    panels[0].legend(frameon=False)
    return png(figure)


def _known(points: Sequence[tuple[int, float | None]]) -> tuple[list[int], list[float]]:
    found = [(number, value) for number, value in points if value is not None]
    return [number for number, _ in found], [value for _, value in found]


def table(arms: Arms) -> str:
    """A line an arm for every tenth request and the last one."""
    said = (
        "arm",
        "requests",
        "forgotten",
        f"loss over the twin's, t={LEVEL}",
        "keep loss",
        "IS",
        "versions",
    )
    heads = [*said, *(f"s of {part}" for part in PARTS), "s in all"]
    lines = [heads, ["---"] * len(heads)]
    for name, records in arms.items():
        shown = [r for r in records if r["request"] % EVERY == 0 or r is records[-1]]
        lines += [[name, *_cells(record, records)] for record in shown]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cells(record: Record, records: Sequence[Record]) -> tuple[str, ...]:
    """A line's cells; seconds are those of the ten requests up to here together."""
    until = [r for r in records if record["request"] - EVERY < r["request"] <= record["request"]]
    scored = [r["digits"]["inception_score"] for r in until if "digits" in r]
    rise = worst_keep_loss(record)
    return (
        str(record["request"]),
        f"{forgotten_share(record):.0%}",
        f"{record['to_twin'][f'loss_over_reference_{LEVEL}']:.2f}",
        "–" if rise is None else f"{rise:+.0%}",
        f"{mean(scored):.2f}" if scored else "–",
        str(
            len(
                {version for r in records[: records.index(record) + 1] for version in r["versions"]}
            )
        ),
        *(f"{sum(own_seconds(r, records)[part] for r in until):.0f}" for part in (*PARTS, "all")),
    )


def own_seconds(record: Record, records: Sequence[Record]) -> dict[str, float]:
    """What a request took; it is noted with all that its version's requests took until then."""
    seconds = dict(record["seconds"])
    before = records[records.index(record) - 1] if record is not records[0] else None
    if before is not None and before["versions"] == record["versions"]:
        seconds |= {part: seconds[part] - before["seconds"][part] for part in PARTS}
    return seconds


def main() -> None:
    """Write the numbers, the figure and the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path)
    files = [folder / "records.json" for folder in parser.parse_args().folders]
    content = [json.loads(file.read_text()) for file in files]
    arms: Arms = {each["arm"]: each["records"] for each in content}
    write_atomically(PAGE.with_suffix(".json"), json.dumps(arms, indent=1).encode())
    write_atomically(PAGE.with_suffix(".png"), draw(arms))
    refresh(PAGE, table(arms))


if __name__ == "__main__":
    main()
