"""What a benchmark measures of each model: the measures asked for, and attacks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dataunlearn.bench.commands import run_with
from dataunlearn.bench.config import Baseline, Benchmark, reference_settings
from dataunlearn.bench.same import require_same_attack
from dataunlearn.bench.table import ATTACK_FOLDER
from dataunlearn.runtime.own_files import FINISHED_FILE
from dataunlearn.runtime.settings import describe

ATTACKED = ("forget", "keep", "drop_overlap")  # settings of the base that an attack takes, too


def measure_baseline(benchmark: Benchmark, baseline: Baseline) -> None:
    """Measure a model as it is."""
    settings = evaluation_settings(benchmark, baseline.model, baseline.folder, **baseline.settings)
    run_with("evaluate", settings, baseline.folder.with_suffix(".yaml"))
    if not baseline.is_repeated:
        attack(benchmark, baseline.model, baseline.folder)


def measure_run(
    benchmark: Benchmark,
    model: Path,
    images: Mapping[str, Any],
    out: Path,
    environment: Mapping[str, str] | None = None,
) -> None:
    """Measure what a method has made; what is measured already is not measured again.

    Args:
        benchmark: What to measure.
        model: The unlearned model.
        images: The method's own ``forget`` and ``keep``.
        out: Where the measurements go.
        environment: Variables of the commands besides this process's.
    """
    settings = evaluation_settings(benchmark, str(model), out, **images)
    run_with("evaluate", settings, out.with_suffix(".yaml"), environment)
    attack(benchmark, str(model), out, environment)


def evaluation_settings(
    benchmark: Benchmark, model: str, out: Path, **changes: Any
) -> dict[str, Any]:
    """Settings of ``dataunlearn evaluate`` for a model."""
    return {
        **{key: benchmark.base[key] for key in ("forget", "keep")},
        "before": str(benchmark.base["model"]),
        **benchmark.evaluate,
        "model": model,
        "metrics": benchmark.metrics,
        "out": str(out),
        **reference_settings(benchmark),
        **changes,
    }


def attack(
    benchmark: Benchmark,
    model: str,
    measured: Path,
    environment: Mapping[str, str] | None = None,
) -> None:
    """Attack a model, unless none is asked for or it is done.

    Raises:
        ValueError: If it was attacked with other settings.
    """
    if benchmark.attack is None:
        return
    out, config = measured / ATTACK_FOLDER, measured / "attack.yaml"
    settings = {key: benchmark.base[key] for key in ATTACKED if key in benchmark.base}
    settings = describe({**settings, **benchmark.attack, "model": model, "out": str(out)})
    if (out / FINISHED_FILE).is_file():
        require_same_attack(config, settings)
    else:
        run_with("attack", settings, config, environment)
