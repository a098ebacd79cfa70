"""Run a benchmark: each method with each seed is an ordinary run, measured like all others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue

import torch

from dataunlearn.bench.commands import run_with, stop_commands, stopping_on_signals
from dataunlearn.bench.config import Benchmark, Cell, baselines, cells
from dataunlearn.bench.measuring import measure_baseline, measure_run
from dataunlearn.bench.prompts import check_prompt_settings, keep_results, prompt_settings
from dataunlearn.bench.same import (
    PLACES,
    content_of,
    lasting,
    require_same_cell,
    settings_file,
    sources,
)
from dataunlearn.bench.table import publish, results_file
from dataunlearn.runtime.exit_codes import UNLEARNED
from dataunlearn.runtime.jobs import executor_for
from dataunlearn.runtime.own_files import FINISHED_FILE
from dataunlearn.runtime.progress import progress_bar
from dataunlearn.runtime.run_folder import check_run_dir, run_folder
from dataunlearn.unlearning.parsing import parse_unlearning

# The measurements come from `evaluate`; the run's own report needs next to none.
LITTLE_EVALUATION = {"num_samples": 0, "regeneration_copies": 1}


def run_benchmark(benchmark: Benchmark, *, overwrite: bool = False, shown: bool = True) -> Path:
    """Run what is missing and write the table; the table is written again after each run.

    Args:
        benchmark: What to run.
        overwrite: Start anew, whatever the folder holds.
        shown: Whether to draw progress.

    Returns:
        The Markdown table's file.

    Raises:
        ValueError: On bad settings before any run; or if a run failed, with its last lines.
    """
    checked_cells(benchmark)
    check_run_dir(benchmark.out, overwrite=overwrite, inputs=sources(benchmark))
    content = content_of(benchmark)
    holding = run_folder(
        benchmark.out, lasting(benchmark), overwrite=overwrite, content=content, places=PLACES
    )
    with stopping_on_signals(), holding as place:
        table = _run_all(replace(benchmark, out=place.folder), shown)
        place.publish()
    return benchmark.out / table.name


def _run_all(benchmark: Benchmark, shown: bool) -> Path:
    runs = cells(benchmark)
    for cell in runs:
        require_same_cell(benchmark, cell)
    before = [] if benchmark.is_of_prompts else baselines(benchmark)
    total = len(before) + len(runs)
    with progress_bar("benchmark", total, shown=shown) as advance:
        for baseline in before:
            measure_baseline(benchmark, baseline)
            advance()
        table = publish(benchmark)

        def finished(cell: Cell) -> None:
            publish(benchmark)
            advance(note=f"{cell.method}, seed {cell.seed}")

        LAUNCHERS[benchmark.launcher](benchmark, runs, finished)
    return table


def overview(benchmark: Benchmark) -> str:
    """How far each run is, as a Markdown table; checks all settings and changes nothing.

    Raises:
        ValueError: On bad settings.
    """
    runs = checked_cells(benchmark)
    seeds = benchmark.seeds
    lines = ["| | " + " | ".join(f"seed {seed}" for seed in seeds) + " |"]
    lines.append("|---" * (len(seeds) + 1) + "|")
    for method in benchmark.methods:
        states = [_progress(cell) for cell in runs if cell.method == method]  # by seed
        lines.append(f"| {method} | " + " | ".join(states) + " |")
    missing = sum(_progress(cell) != "measured" for cell in runs)
    before = [] if benchmark.is_of_prompts else [baseline.name for baseline in baselines(benchmark)]
    besides = f" Measured besides: {', '.join(before)}." if before else ""
    summary = f"{missing} of {len(runs)} runs are missing or unfinished.{besides}"
    return "\n".join([*lines, "", summary])


def _progress(cell: Cell) -> str:
    run = cell.folder / "run"
    if results_file(cell).is_file():
        return "measured"
    if (run / FINISHED_FILE).is_file():
        return "trained"
    return "begun" if run.is_dir() else "–"


def checked_cells(benchmark: Benchmark) -> list[Cell]:
    """All runs, once the settings of each are known to be good.

    Raises:
        ValueError: On bad settings.
    """
    runs = cells(benchmark)
    for cell in runs:
        check_settings(cell)
    return runs


def check_settings(cell: Cell) -> None:
    """Parse a run's settings as its own command will.

    Raises:
        ValueError: If they are not settings of ``dataunlearn unlearn`` (or ``unlearn-prompts``).
    """
    if "prompts" in cell.settings:
        check_prompt_settings(cell)
        return
    try:
        parse_unlearning({**cell.settings, "out": str(cell.folder / "run")})
    except (ValueError, TypeError) as error:
        raise ValueError(f"method {cell.method}: {error}") from error


def run_cell(benchmark: Benchmark, cell: Cell, environment: dict[str, str] | None = None) -> None:
    """Unlearn and measure, each unless it is done.

    Raises:
        ValueError: If a command failed.
    """
    run = cell.folder / "run"
    if benchmark.is_of_prompts:
        run_prompt_cell(benchmark, cell, environment)
        return
    if not (run / FINISHED_FILE).is_file():
        settings = {"evaluation": LITTLE_EVALUATION, **cell.settings, "out": str(run)}
        run_with("unlearn", settings, settings_file(cell), environment, may_return=UNLEARNED)
    images = {key: cell.settings[key] for key in ("forget", "keep")}
    measure_run(benchmark, run / "model", images, cell.folder / "measured", environment)


def run_prompt_cell(
    benchmark: Benchmark, cell: Cell, environment: dict[str, str] | None = None
) -> None:
    """Unlearn the prompts, unless that is done, and keep the report's numbers."""
    if not (cell.folder / "run" / FINISHED_FILE).is_file():
        settings, config = prompt_settings(cell), settings_file(cell)
        run_with("unlearn-prompts", settings, config, environment, may_return=UNLEARNED)
    keep_results(benchmark, cell)


def launch_locally(
    benchmark: Benchmark, runs: Sequence[Cell], finished: Callable[[Cell], None]
) -> None:
    """Some processes at a time, each on its own GPU where there are several."""
    gpus = torch.cuda.device_count()
    workers = benchmark.workers or max(1, gpus)
    places: SimpleQueue[int] = SimpleQueue()
    for place in range(workers):
        places.put(place)

    def work(cell: Cell) -> Cell:
        place = places.get()
        try:
            own = {"CUDA_VISIBLE_DEVICES": str(place % gpus)} if gpus > 1 else None
            run_cell(benchmark, cell, own)
        finally:
            places.put(place)
        return cell

    pool = ThreadPoolExecutor(workers)
    try:
        for cell in pool.map(work, runs):
            finished(cell)
    except KeyboardInterrupt:
        pool.shutdown(wait=False, cancel_futures=True)
        stop_commands()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def launch_with_submitit(
    benchmark: Benchmark, runs: Sequence[Cell], finished: Callable[[Cell], None]
) -> None:
    """One job for each run, through submitit.

    Raises:
        ValueError: If submitit is not installed, or does not know a parameter.
    """
    executor = executor_for(benchmark.out / "jobs", benchmark.submitit)
    jobs = [(cell, executor.submit(run_cell, benchmark, cell)) for cell in runs]
    for cell, job in jobs:
        job.result()
        finished(cell)


LAUNCHERS = {"local": launch_locally, "submitit": launch_with_submitit}
