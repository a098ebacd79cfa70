"""The tables of docs/results/never_seen.md: each row's own numbers, and d over the floor's."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

EXPERIMENTS = Path(__file__).parents[2] / "experiments"


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(EXPERIMENTS / "never_seen"))
    import page as script

    return script


def row(name: str, distances: list[float], **costs: float) -> dict[str, Any]:
    values = {f"distance_to_reference_{100 * (i + 1)}": d for i, d in enumerate(distances)}
    measures = {
        key: {"value": value, "interval": None, "values": [value], "num_runs": 1}
        for key, value in {**values, "regeneration_500": 0.25}.items()
    }
    return {"name": name, "runs": 1, "measures": measures, "costs": costs}


def test_distances_stand_beside_the_floors(page: ModuleType) -> None:
    rows = [row(page.FLOORS[0], [1, 2, 4, 8, 16]), row("ours", [2, 2, 2, 2, 2])]
    text = page.table(rows, page.tables(rows)["distance"]).splitlines()
    assert text[0] == "|  | 500 | d | d over the floor |"
    assert text[2] == f"| {page.FLOORS[0]} | 25 % | 1 2 4 8 16 | 1 1 1 1 1 |"
    assert text[3] == "| ours | 25 % | 2 2 2 2 2 | 2 1 0.5 0.25 0.125 |"


def test_without_a_floor_there_is_no_such_column(page: ModuleType) -> None:
    rows = [row("ours", [1, 1, 1, 1, 1])]
    assert "floor" not in page.table(rows, page.tables(rows)["distance"])


def test_costs_are_of_runs_alone(page: ModuleType) -> None:
    costs = {"seconds_per_step": 2.0, "steps": 90, "peak_memory_mib": 800.4}
    counts = {"forward_rows": 3240, "backward_rows": 3240}
    rows = [row("before", [1] * 5), row("ours", [1] * 5, **costs, **counts)]
    text = page.table(rows, page.tables(rows)["quality"]).splitlines()
    assert text[2] == "| before | – | – / – / – | – | 1 |"
    assert text[3] == "| ours | 3.0 | 3.2 / 3.2 / – | 800 | 1 |"
