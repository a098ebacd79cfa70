"""Put benchmarks' results into a results page: the columns that are read, all numbers beside it.

    python experiments/bench_page.py docs/results/mnist_tshirt.md mnist_tshirt RUN/results.json ...

The table goes between the lines ``<!-- table NAME -->`` and ``<!-- end of table -->`` of the page,
and the numbers into ``NAME.json`` beside it. What that file holds already stays: rows of the same
name get the new runs as further seeds, so that a benchmark may be run in several places. Give each
seed once. Without new results table and plot are drawn anew. ``--pareto regeneration_500
inception_score`` draws ``NAME_pareto.png``: forgetting to the right, quality upwards.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dataunlearn.bench.table import combine, pareto_points
from dataunlearn.report.pareto import pareto
from dataunlearn.runtime.files import write_atomically
from results_page import refresh

# Measures by heading, and how they are written.
COLUMNS: Mapping[str, tuple[str, str]] = {
    "regeneration_500": ("restored from t=500", "share"),
    "copy_frequency": ("in samples", "share"),
    "inception_score": ("IS", "number"),
    "never_seen": ("loss over level", "number"),
    "broken_share": ("broken", "share"),
    "similarity_of_regeneration_250": ("similarity from t=250", "number"),
    "similar_share_of_samples": ("similar samples", "share"),
    "kid": ("KID", "number"),
    "reference_kid": ("KID to never-saw", "number"),
    "nll_forget": ("NLL forgotten", "number"),
    "nll_keep": ("NLL kept", "number"),
    "membership_auc_held_out": ("AUC against held-out", "number"),
    "original_memorised_fraction": ("memorised samples", "share"),
    "original_mitigated_share_8": ("clean of 8", "share"),
    "original_mitigated_share_16": ("clean of 16", "share"),
    "original_copy_similarity": ("similarity to the memorised", "number"),
    "unnamed_similarity": ("unnamed: similarity", "number"),
    "unnamed_kid": ("unnamed: KID", "number"),
    "drift": ("unnamed: pixels", "number"),
    "text_noise": ("text noise", "number"),
}

HIGHER_IS_BETTER = {"inception_score"}


def merge(files: Sequence[Path]) -> dict[str, Any]:
    """The results of all files as one, in the order in which rows first appear."""
    contents = [json.loads(file.read_text()) for file in files]
    found: dict[str, dict[str, Any]] = {}
    for content in contents:
        for row in content["rows"]:
            known = found.get(row["name"])
            if known is None:
                found[row["name"]] = row
            elif row["costs"]:
                found[row["name"]] = together(known, row)
            else:  # a yardstick is the same model everywhere: only what was not measured is new
                found[row["name"]] = {**known, "measures": row["measures"] | known["measures"]}
    circumstances = [one for content in contents for one in content["measured_with"]]
    first = contents[0]
    methods = {name: what for content in contents for name, what in content["methods"].items()}
    return {
        **first,
        "methods": methods,
        "measured_with": [c for i, c in enumerate(circumstances) if c not in circumstances[:i]],
        "rows": list(found.values()),
    }


def together(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """A row with the runs of both; costs stay those of the first, since machines differ.

    A measure that only one side has stays as it is: its `num_runs` is then below the row's `runs`.
    Runs that are there already, as all their numbers tell, are no further seeds.
    """
    if are_among(other, one):
        return {**one, "measures": other["measures"] | one["measures"]}
    measures = {}
    for name in {**one["measures"], **other["measures"]}:
        sides = [side["measures"][name] for side in (one, other) if name in side["measures"]]
        runs = [run for side in sides for run in runs_of(side)]
        measures[name] = vars(combine(runs, name)) if len(sides) > 1 else sides[0]
    return {**one, "runs": one["runs"] + other["runs"], "measures": measures}


def are_among(some: Mapping[str, Any], known: Mapping[str, Any]) -> bool:
    """Whether the runs of a row are among another's: all that both measured has the same values."""
    both = some["measures"].keys() & known["measures"].keys()
    values = ([runs_of(row["measures"][name]) for row in (some, known)] for name in both)
    return bool(both) and all(
        {run["value"] for run in own} <= {run["value"] for run in others} for own, others in values
    )


def runs_of(estimate: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The single runs of a number; a file from before values were kept has those of two at most."""
    values = estimate.get("values")
    if values is None:
        values = [estimate["value"]] if estimate["num_runs"] == 1 else estimate["interval"]
    if len(values) == 1:
        return [{"value": values[0], "interval": estimate["interval"]}]
    return [{"value": value, "interval": [value, value]} for value in values]


def table(content: Mapping[str, Any]) -> str:
    """The Markdown table."""
    rows = content["rows"]
    shown = [name for name in COLUMNS if any(name in row["measures"] for row in rows)]
    head = ["", *(COLUMNS[name][0] for name in shown), "s/step", "MiB", "rows fwd", "bwd", "runs"]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for row in rows:
        cells = [words(row["measures"].get(name), COLUMNS[name][1], row["runs"]) for name in shown]
        lines.append("| " + " | ".join([row["name"], *cells, *costs(row), str(row["runs"])]) + " |")
    return "\n".join(lines)


def words(estimate: Mapping[str, Any] | None, kind: str, row_runs: int) -> str:
    """A number with its interval; of two runs both values; marked if not all runs have it."""
    if estimate is None:
        return "–"
    form = (lambda v: f"{100 * v:.3g} %") if kind == "share" else number
    text = form(estimate["value"])
    if estimate["interval"] is None:
        return text
    runs = len(estimate.get("values", [])) or estimate["num_runs"]
    between = " and " if runs == 2 else " to "
    mark = f", {runs} of {row_runs} runs" if runs < row_runs else ""
    return f"{text} ({between.join(form(bound) for bound in estimate['interval'])}{mark})"


def number(value: float) -> str:
    """Three digits, or whole above a hundred."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def costs(row: Mapping[str, Any]) -> list[str]:
    """What a run cost."""
    if not row["costs"]:
        return ["–"] * 4
    known = row["costs"]
    return [
        f"{known['seconds_per_step']:.2f}",
        *(f"{known[name]:.0f}" for name in ("peak_memory_mib", "forward_rows", "backward_rows")),
    ]


def main() -> None:
    """Merge, then write the numbers and the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("page", type=Path)
    parser.add_argument("name")
    parser.add_argument("results", type=Path, nargs="*")
    parser.add_argument("--pareto", nargs=2, metavar=("FORGETTING", "QUALITY"))
    arguments = parser.parse_args()
    kept = arguments.page.parent / f"{arguments.name}.json"
    files = [*([kept] if kept.is_file() else []), *arguments.results]
    content = merge(files)
    write_atomically(kept, json.dumps(content, indent=1).encode())
    refresh(arguments.page, table(content), begin=f"<!-- table {arguments.name} -->")
    if arguments.pareto:
        drawn = pareto_points(content["rows"], *arguments.pareto)
        titles = [COLUMNS[name][0] for name in arguments.pareto]
        picture = pareto(drawn, *titles, arguments.pareto[1] in HIGHER_IS_BETTER)
        write_atomically(kept.with_name(f"{arguments.name}_pareto.png"), picture)


if __name__ == "__main__":
    main()
