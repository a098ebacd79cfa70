"""Merging benchmarks' results for a page: seeds add up, and what a run lacks is said."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

EXPERIMENTS = Path(__file__).parents[2] / "experiments"


@pytest.fixture
def bench_page(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(EXPERIMENTS))
    import bench_page as script

    return script


def row(**measures: tuple[float, tuple[float, float]]) -> dict[str, Any]:
    found = {
        name: {"value": value, "interval": interval, "values": [value]}
        for name, (value, interval) in measures.items()
    }
    return {"name": "SISS", "runs": 1, "costs": {"steps": 9}, "measures": found}


def test_seeds_of_two_files_are_combined(bench_page: ModuleType) -> None:
    merged = bench_page.together(row(kid=(1.0, (0.5, 1.5))), row(kid=(3.0, (2.5, 3.5))))
    assert merged["runs"] == 2
    assert merged["measures"]["kid"]["value"] == 2
    assert merged["measures"]["kid"]["values"] == (1.0, 3.0)
    assert bench_page.words(merged["measures"]["kid"], "number", 2) == "2 (1 and 3)"


def test_a_measure_that_one_run_lacks_stays_and_is_marked(bench_page: ModuleType) -> None:
    first = row(kid=(1.0, (0.5, 1.5)), nll_keep=(1.25, (1.0, 1.5)))
    merged = bench_page.together(first, row(kid=(3.0, (2.5, 3.5))))
    shown = bench_page.words(merged["measures"]["nll_keep"], "number", merged["runs"])
    assert shown == "1.25 (1 to 1.5, 1 of 2 runs)"
    assert list(merged["measures"]) == ["kid", "nll_keep"]


def test_the_same_runs_given_again_are_no_further_seeds(bench_page: ModuleType) -> None:
    first, second = row(kid=(1.0, (0.5, 1.5))), row(kid=(3.0, (2.5, 3.5)))
    both = bench_page.together(first, second)
    again = bench_page.together(both, row(kid=(3.0, (2.5, 3.5)), broken=(0.1, (0.0, 0.2))))
    assert again["runs"] == 2
    assert again["measures"]["kid"] == both["measures"]["kid"]
    assert again["measures"]["broken"]["values"] == [0.1]
    assert bench_page.together(first, row(kid=(1.0, (0.5, 1.5))))["runs"] == 1


def test_the_plot_has_the_rows_with_both_measures(bench_page: ModuleType) -> None:
    rows = [row(kid=(1.0, (0.5, 1.5))), row(kid=(2.0, (1.5, 2.5)), broken=(0.1, (0.0, 0.2)))]
    assert [point.x for point in bench_page.pareto_points(rows, "kid", "broken")] == [2.0]


def test_a_yardstick_gains_only_what_was_not_measured(
    bench_page: ModuleType, tmp_path: Path
) -> None:
    """It is the same model in every file, not a further seed."""
    files = []
    for place, measures in enumerate(
        ({"kid": (1.0, (0.5, 1.5))}, {"kid": (9.0, (8.5, 9.5)), "nll_keep": (2.0, (1.5, 2.5))})
    ):
        content = {
            "methods": {},
            "measured_with": [],
            "rows": [{**row(**measures), "name": "before", "costs": {}}],
        }
        files.append(tmp_path / f"{place}.json")
        files[-1].write_text(json.dumps(content))
    (found,) = bench_page.merge(files)["rows"]
    assert found["runs"] == 1
    assert {name: one["value"] for name, one in found["measures"].items()} == {
        "kid": 1.0,
        "nll_keep": 2.0,
    }
