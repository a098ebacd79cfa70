"""Benchmarks on memorised prompts: each run is ``unlearn-prompts``, its report becomes a row."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dataunlearn.bench.config import Benchmark, Cell
from dataunlearn.metrics.intervals import mean_interval, wilson
from dataunlearn.prompts.config import PromptUnlearning
from dataunlearn.runtime.files import read_log, write_atomically
from dataunlearn.runtime.sealed import read_sealed
from dataunlearn.unlearning.parsing import parse_settings

MIB = 2**20
RESULTS_FILE, COSTS_FILE = "results.json", "costs.json"


def prompt_settings(cell: Cell) -> dict[str, Any]:
    """A run's settings of ``dataunlearn unlearn-prompts``; all share the samples from before."""
    before = cell.folder.parent.parent / "before"
    return {"before": str(before), **cell.settings, "out": str(cell.folder / "run")}


def check_prompt_settings(cell: Cell) -> None:
    """Parse a run's settings as its own command will.

    Raises:
        ValueError: If they are not settings of ``dataunlearn unlearn-prompts``.
    """
    try:
        parse_settings(PromptUnlearning, prompt_settings(cell))
    except (ValueError, TypeError) as error:
        raise ValueError(f"method {cell.method}: {error}") from error


def keep_results(benchmark: Benchmark, cell: Cell) -> None:
    """Turn a finished run's report into the files that the table is made from."""
    run = cell.folder / "run"
    report = read_sealed(run / "report.json")
    for folder, when in ((benchmark.out / "before", "before"), (cell.folder / "measured", "after")):
        content = {
            "machine": report["machine"],
            "versions": report["versions"],
            "measures": {"prompts": {"results": summarise(report["runs"], when)}},
        }
        if when == "after" or not (folder / RESULTS_FILE).is_file():
            write_atomically(folder / RESULTS_FILE, json.dumps(content, indent=1).encode())
    costs = prompt_costs(run, report["runs"])
    write_atomically(cell.folder / "measured" / COSTS_FILE, json.dumps(costs, indent=1).encode())


def summarise(runs: Sequence[Mapping[str, Any]], when: str) -> list[dict[str, Any]]:
    """One number for each measure over all prompts, whatever the number of runs.

    Args:
        runs: The runs of a report.
        when: "before" or "after"; what compares both belongs to "after", its yardstick to "before".
    """
    found = [
        over_prompts(name, [run["results"][when][name] for run in runs])
        for name in runs[0]["results"][when]
    ]
    comparisons = [name for name in runs[0]["results"] if name not in ("before", "after")]
    for name in comparisons:
        plain = name.removesuffix("_of_another_seed")
        if (name == plain) == (when == "after"):
            results = [run["results"][name] for run in runs]
            found.append({**over_runs(results), "name": plain})
    return found


def over_prompts(name: str, results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A measure of single prompts over the prompts of all runs."""
    items = [item for result in results for item in result["per_item"]]
    interval: tuple[float, float] | None
    if all(isinstance(item, bool) for item in items):
        count = sum(items)
        value, interval = count / len(items), wilson(count, len(items))
    else:
        value = statistics.fmean(items)
        interval = mean_interval(np.array(items)) if len(items) > 1 else None
    first = results[0]
    return {
        "name": name,
        "value": value,
        "interval": None if interval is None else list(interval),
        "higher_is_better": first["higher_is_better"],
    }


def over_runs(results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A measure of whole models: their mean; of one run its own interval."""
    first = results[0]
    value = statistics.fmean(result["value"] for result in results)
    interval = first["interval"] if len(results) == 1 else None
    return {
        "value": value,
        "interval": interval,
        "higher_is_better": first["higher_is_better"],
    }


def prompt_costs(folder: Path, runs: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """What all runs of a report cost together; seconds a step are the median."""
    paths = [folder / "run"]
    if not paths[0].is_dir():
        paths = [folder / "runs" / run["prompts"][0] for run in runs]
    records = [record for path in paths for record in read_log(path / "log.jsonl", whole=True)]
    return costs_of(records, max(run["peak_memory_bytes"] for run in runs))


def costs_of(records: Sequence[Mapping[str, Any]], peak_bytes: int) -> dict[str, float]:
    """What the steps of a log cost together; no teacher rows of a log that did not count them."""
    asked = [record["teacher_rows"] for record in records if "teacher_rows" in record]
    teacher = {"teacher_rows": sum(asked)} if len(asked) == len(records) else {}
    return {
        "steps": len(records),
        "seconds_per_step": statistics.median(record["seconds"] for record in records),
        "peak_memory_mib": peak_bytes / MIB,
        "forward_rows": sum(record["forward_rows"] for record in records),
        "backward_rows": sum(record["backward_rows"] for record in records),
        **teacher,
    }
