"""Put a benchmark's results into docs/results/never_seen.md: three tables, all numbers beside it.

    python experiments/never_seen/page.py emoji runs/bench_never_seen_emoji/results.json ...

Results are merged as ``experiments/bench_page.py`` does it, into ``never_seen_NAME.json``; the
tables go between the markers ``NAME, distance``, ``NAME, traces`` and ``NAME, quality``.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dataunlearn.runtime.files import write_atomically

sys.path.append(str(Path(__file__).parents[1]))  # what experiments share
from bench_page import merge, number, words
from results_page import refresh

PAGE = Path("docs/results/never_seen.md")
LEVELS = (100, 200, 300, 400, 500)
# What the floor of d may be read from: another model that never saw the pictures.
FLOORS = ("never saw it, trained again", "never saw any of the twelve")
Row = Mapping[str, Any]
Cell = Callable[[Row], str]


def measure(name: str, kind: str = "number") -> Cell:
    """A measure with its interval."""
    return lambda row: words(row["measures"].get(name), kind, row["runs"])


def over_levels(name: str, floor: Row | None = None) -> Cell:
    """A measure at the five noise levels, without intervals, over the floor's if there is one."""

    def cell(row: Row) -> str:
        names = [f"{name}_{t}" for t in LEVELS]
        if any(each not in row["measures"] for each in names):
            return "–"
        values = [row["measures"][each]["value"] for each in names]
        if floor is not None:
            values = [v / floor["measures"][n]["value"] for v, n in zip(values, names, strict=True)]
        return " ".join(number(value) for value in values)

    return cell


def minutes(row: Row) -> str:
    """Median seconds a step times the steps: looks are not in it."""
    cost = row["costs"]
    return f"{cost['seconds_per_step'] * cost['steps'] / 60:.1f}" if cost else "–"


def rows_run(row: Row) -> str:
    """Rows run forward and backward, and through the frozen model, in thousands."""
    cost, names = row["costs"], ("forward_rows", "backward_rows", "teacher_rows")
    return " / ".join(f"{cost[n] / 1000:.1f}" if n in cost else "–" for n in names)


def memory(row: Row) -> str:
    """The run's peak memory in MiB."""
    return f"{row['costs']['peak_memory_mib']:.0f}" if row["costs"] else "–"


def tables(rows: Sequence[Row]) -> dict[str, dict[str, Cell]]:
    """Each table's columns by heading."""
    floor = next((row for row in rows if row["name"] in FLOORS), None)
    distance = {
        "restored from t=250": measure("regeneration_250", "share"),
        "500": measure("regeneration_500", "share"),
        "750": measure("regeneration_750", "share"),
        "L/L* at t=100 … 500": over_levels("loss_over_reference"),
        "d": over_levels("distance_to_reference"),
    }
    if floor is not None:
        distance["d over the floor"] = over_levels("distance_to_reference", floor)
    traces = {
        "AUC of the loss": measure("membership_auc_held_out"),
        "SimA": measure("membership_sima_auc_held_out"),
        "PIA": measure("membership_pia_auc_held_out"),
        "NLL forgotten": measure("nll_forget"),
        "NLL kept": measure("nll_keep"),
        "restored after training on keep pictures": measure("relearning_share_keep", "share"),
        "steps on the pictures until restored": measure("relearning_steps_image"),
    }
    quality = {
        "KID": measure("kid"),
        "KID to never-saw": measure("reference_kid"),
        "IS": measure("inception_score"),
        "copies among samples": measure("copy_frequency", "share"),
        "minutes": minutes,
        "thousand rows fwd / bwd / teacher": rows_run,
        "MiB": memory,
        "runs": lambda row: str(row["runs"]),
    }
    return {"distance": distance, "traces": traces, "quality": quality}


def table(rows: Sequence[Row], columns: Mapping[str, Cell]) -> str:
    """A Markdown table without the columns that no row has."""
    filled = {
        heading: cells
        for heading, cell in columns.items()
        if set(cells := [cell(row) for row in rows]) != {"–"}
    }
    lines = ["|  | " + " | ".join(filled) + " |", "|---" * (len(filled) + 1) + "|"]
    for row, cells in zip(rows, zip(*filled.values(), strict=True), strict=True):
        lines.append(f"| {row['name']} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Merge, then write the numbers and the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name")
    parser.add_argument("results", type=Path, nargs="*")
    arguments = parser.parse_args()
    kept = PAGE.with_name(f"never_seen_{arguments.name}.json")
    content = merge([*([kept] if kept.is_file() else []), *arguments.results])
    write_atomically(kept, json.dumps(content, indent=1).encode())
    for part, columns in tables(content["rows"]).items():
        text = table(content["rows"], columns)
        refresh(PAGE, text, begin=f"<!-- table {arguments.name}, {part} -->")


if __name__ == "__main__":
    main()
