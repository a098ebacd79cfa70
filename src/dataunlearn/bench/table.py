"""The table of a benchmark: means and intervals over seeds, costs, and the Pareto plot."""

from __future__ import annotations

import csv
import io
import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dataunlearn.bench.config import Benchmark, Cell, baselines, cells
from dataunlearn.bench.prompts import COSTS_FILE, costs_of
from dataunlearn.metrics.intervals import student_interval, wilson
from dataunlearn.report.pareto import Point, pareto
from dataunlearn.runtime.files import read_log, write_atomically
from dataunlearn.runtime.sealed import read_sealed

PLOT_FILE, ATTACK_FOLDER, ATTACK_FILE = "pareto.png", "attack", "attack.json"
ROW_COUNTS = ("forward_rows", "backward_rows", "teacher_rows")
# In the names of measures that lie in [0, 1].
SHARE_PREFIX = "regeneration_"
SHARE_WORDS = ("share", "frequency", "fraction", "_auc", "_tpr", "_below_", "_above_", "clip_iqa")


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval, from one run or over several seeds.

    Attributes:
        value: The mean.
        interval: Of one run its own, of two both values, of more Student's.
        values: Each run's number.
    """

    value: float
    interval: tuple[float, float] | None
    values: tuple[float, ...]

    @property
    def num_runs(self) -> int:
        """How many runs there are."""
        return len(self.values)


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        name: The method, or a baseline.
        measures: Each measure's number.
        better: For each measure whether higher is better; None where neither is.
        costs: ``seconds_per_step``, ``steps``, ``peak_memory_mib``, ``forward_rows``,
            ``backward_rows`` and ``teacher_rows`` a run, means over seeds; empty for baselines.
        num_runs: Seeds that are done.
    """

    name: str
    measures: Mapping[str, Estimate]
    better: Mapping[str, bool | None]
    costs: Mapping[str, float]
    num_runs: int


def publish(benchmark: Benchmark) -> Path:
    """Write ``results.md``, ``.csv``, ``.json`` and ``pareto.png`` of what is done.

    Returns:
        The Markdown file.
    """
    rows = collect(benchmark)
    out = benchmark.out
    content = as_json(benchmark, rows)
    write_atomically(out / "results.json", json.dumps(content, indent=1).encode())
    write_atomically(out / "results.csv", as_csv(rows).encode())
    points = pareto_points(content["rows"], benchmark.forgetting, benchmark.quality)
    higher = next(
        (r.better[benchmark.quality] for r in rows if benchmark.quality in r.better), None
    )
    plot = out / PLOT_FILE
    plot.unlink(missing_ok=True)
    if points:
        figure = pareto(points, benchmark.forgetting, benchmark.quality, bool(higher))
        write_atomically(plot, figure)
    page = out / "results.md"
    write_atomically(page, as_markdown(rows).encode())
    return page


def pareto_points(rows: Sequence[Mapping[str, Any]], forgetting: str, quality: str) -> list[Point]:
    """The rows of a results file that have both measures; those without costs are yardsticks."""
    found = []
    for row in rows:
        if {forgetting, quality} <= row["measures"].keys():
            x, y = row["measures"][forgetting], row["measures"][quality]
            at = (x["value"], y["value"], x["interval"], y["interval"])
            found.append(Point(row["name"], *at, is_yardstick=not row["costs"]))
    return found


def collect(benchmark: Benchmark) -> list[Row]:
    """A row for each baseline and method that has results."""
    rows = []
    for baseline in baselines(benchmark):
        path = baseline.folder / "results.json"
        if path.is_file():
            found = [_measured(path)]
            rows.append(Row(baseline.name, _estimates(found), _directions(found), {}, 1))
    runs = cells(benchmark)
    for method in benchmark.methods:
        done = [c for c in runs if c.method == method and results_file(c).is_file()]
        if done:
            found = [_measured(results_file(cell)) for cell in done]
            costs = _mean_costs([run_costs(cell) for cell in done])
            rows.append(Row(method, _estimates(found), _directions(found), costs, len(done)))
    return rows


def run_costs(cell: Cell) -> dict[str, float]:
    """What a finished run cost."""
    kept, run = cell.folder / "measured" / COSTS_FILE, cell.folder / "run"
    if kept.is_file():
        costs: dict[str, float] = json.loads(kept.read_text())
        return costs
    log = read_log(run / "log.jsonl", whole=True)
    report = read_sealed(run / "report.json")
    return costs_of(log, report["peak_memory_bytes"])


def combine(results: Sequence[Mapping[str, Any]], name: str) -> Estimate:
    """One number from the measure of that name of several seeds.

    The interval over seeds is Student's, within [0, 1] where the measure is a share; where all runs
    agree to the last digit, as shares of 0 do, it spans their own. Two runs give no such interval
    worth the name: theirs are the two values. A single run keeps its own.
    """
    values = tuple(found["value"] for found in results)
    if len(values) == 1:
        own = results[0]["interval"]
        return Estimate(values[0], None if own is None else (own[0], own[1]), values)
    mean = statistics.fmean(values)
    if len(values) == 2:
        return Estimate(mean, (min(values), max(values)), values)
    bounds = [bound for found in results for bound in found["interval"] or ()]
    if min(values) == max(values) and bounds:
        return Estimate(mean, (min(bounds), max(bounds)), values)
    error = statistics.stdev(values) / math.sqrt(len(values))
    low, high = student_interval(mean, error, len(values) - 1)
    if name.startswith(SHARE_PREFIX) or any(word in name for word in SHARE_WORDS):
        low, high = max(low, 0.0), min(high, 1.0)
    return Estimate(mean, (low, high), values)


def as_markdown(rows: Sequence[Row]) -> str:
    """The table for people; an arrow tells which way is better."""
    names = list(dict.fromkeys(name for row in rows for name in row.measures))
    arrows = {True: " ↑", False: " ↓", None: ""}
    better = {name: d for row in rows for name, d in row.better.items()}
    costs = ("s/step", "steps", "MiB", "rows fwd / bwd / teacher")
    head = ["", *(name + arrows[better[name]] for name in names), *costs, "runs"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for row in rows:
        measured = [_words(row.measures.get(name)) for name in names]
        words = [row.name, *measured, *_cost_words(row), str(row.num_runs)]
        lines.append("| " + " | ".join(words) + " |")
    return "\n".join(lines) + "\n"


def as_csv(rows: Sequence[Row]) -> str:
    """One line for each method and number."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["method", "name", "value", "low", "high", "runs"])
    for row in rows:
        for name, found in row.measures.items():
            low, high = found.interval or ("", "")
            writer.writerow([row.name, name, found.value, low, high, found.num_runs])
        for name, value in row.costs.items():
            writer.writerow([row.name, name, value, "", "", row.num_runs])
    return text.getvalue()


def as_json(benchmark: Benchmark, rows: Sequence[Row]) -> dict[str, Any]:
    """Everything, with what it was made with."""
    return {
        "base": benchmark.base,
        "methods": benchmark.methods,
        "seeds": list(benchmark.seeds),
        "evaluate": benchmark.evaluate,
        "measured_with": _circumstances(benchmark),
        "rows": [
            {
                "name": row.name,
                "runs": row.num_runs,
                "measures": {name: vars(found) for name, found in row.measures.items()},
                "costs": dict(row.costs),
            }
            for row in rows
        ],
    }


def _circumstances(benchmark: Benchmark) -> list[dict[str, Any]]:
    """Each machine with its versions that measured a part of the table, once."""
    files = [baseline.folder / "results.json" for baseline in baselines(benchmark)]
    files += [results_file(cell) for cell in cells(benchmark)]
    found: list[dict[str, Any]] = []
    for content in (read_sealed(file) for file in files if file.is_file()):
        one = {name: content[name] for name in ("machine", "versions")}
        if one not in found:
            found.append(one)
    return found


def results_file(cell: Cell) -> Path:
    """Where a run's measures go; there once any is done."""
    return cell.folder / "measured" / "results.json"


def _measured(path: Path) -> dict[str, Any]:
    content = read_sealed(path)
    results = [r for measured in content["measures"].values() for r in measured["results"]]
    attacked = path.parent / ATTACK_FOLDER / ATTACK_FILE
    if attacked.is_file():
        results += relearning_results(read_sealed(attacked)["relearned"])
    return {result["name"]: result for result in results}


def relearning_results(relearned: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What an attack found, as results of measures.

    Args:
        relearned: By what was trained on, as ``Relearned.as_json`` writes it.

    Returns:
        For each the restored share at the end, all seeds together (``relearning_share_ON``), and if
        the images returned with every seed, the mean steps to that (``relearning_steps_ON``).
    """
    found = []
    for on, content in relearned.items():
        last = [course["looks"][-1] for course in content["model"]]
        restored, tries = (sum(look[key] for look in last) for key in ("restored", "tries"))
        shared = {"name": f"relearning_share_{on}", "higher_is_better": False}
        found.append(
            {**shared, "value": restored / tries, "interval": list(wilson(restored, tries))}
        )
        steps = content["returned_after"]
        if None not in steps:
            returned = {"name": f"relearning_steps_{on}", "higher_is_better": None}
            found.append({**returned, "value": statistics.fmean(steps), "interval": None})
    return found


def _estimates(found: Sequence[Mapping[str, Any]]) -> dict[str, Estimate]:
    names = [name for name in found[0] if all(name in one for one in found)]
    return {name: combine([one[name] for one in found], name) for name in names}


def _directions(found: Sequence[Mapping[str, Any]]) -> dict[str, bool | None]:
    return {name: result["higher_is_better"] for name, result in found[0].items()}


def _mean_costs(costs: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {
        name: statistics.fmean(one[name] for one in costs)
        for name in costs[0]
        if all(name in one for one in costs)
    }


def _words(found: Estimate | None) -> str:
    if found is None:
        return "–"
    if found.interval is None:
        return f"{found.value:.3g}"
    between = "and" if found.num_runs == 2 else "to"
    return f"{found.value:.3g} ({found.interval[0]:.3g} {between} {found.interval[1]:.3g})"


def _cost_words(row: Row) -> list[str]:
    costs = row.costs
    if not costs:
        return ["–"] * 4
    return [
        f"{costs['seconds_per_step']:.2f}",
        f"{costs['steps']:.0f}",
        f"{costs['peak_memory_mib']:.0f}",
        " / ".join(f"{costs[name]:.0f}" if name in costs else "–" for name in ROW_COUNTS),
    ]
