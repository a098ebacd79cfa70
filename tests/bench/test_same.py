"""A benchmark goes on only with what it was begun with: by content and by settings."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dataunlearn.bench.commands import run_command
from dataunlearn.bench.config import Benchmark, cells
from dataunlearn.bench.measuring import attack
from dataunlearn.bench.same import (
    PLACES,
    content_of,
    hash_source,
    lasting,
    require_same_cell,
    settings_file,
)
from dataunlearn.runtime.settings import changes, describe


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    (tmp_path / "in" / "model").mkdir(parents=True)
    for name in ("model/weights", "forget.png", "keep.npz"):
        (tmp_path / "in" / name).write_text(name)
    return tmp_path / "in"


def benchmark(inputs: Path, **methods: dict[str, Any]) -> Benchmark:
    base = {
        "model": str(inputs / "model"),
        "forget": str(inputs / "forget.png"),
        "keep": f"{inputs / 'keep.npz'}:key[3]",
    }
    return Benchmark(inputs.parent / "out", base, methods or {"a": {"steps": 3}}, seeds=(0,))


def changed(old: Benchmark, new: Benchmark) -> list[str]:
    known, asked = ({**lasting(each), "inputs": content_of(each)} for each in (old, new))
    return changes(known, asked, places=PLACES)


def test_inputs_may_move(inputs: Path) -> None:
    plan = benchmark(inputs)
    before = {**lasting(plan), "inputs": content_of(plan)}
    moved = inputs.rename(inputs.with_name("elsewhere"))
    after = {**lasting(benchmark(moved)), "inputs": content_of(benchmark(moved))}
    assert before["base"] != after["base"]
    assert changes(before, after, places=PLACES) == []


@pytest.mark.parametrize("name", ["model/weights", "forget.png", "keep.npz"])
def test_other_content_at_the_same_place_is_another_benchmark(inputs: Path, name: str) -> None:
    plan = benchmark(inputs)
    before = {**lasting(plan), "inputs": content_of(plan)}
    (inputs / name).write_text("replaced")
    after = {**lasting(plan), "inputs": content_of(plan)}
    (line,) = changes(before, after, places=PLACES)
    assert line.startswith(f"inputs.{name.partition('/')[0].partition('.')[0]}.sha256: ")


def test_parts_of_a_file_are_told_apart(inputs: Path) -> None:
    first, second = (hash_source(f"{inputs / 'keep.npz'}:key[{index}]") for index in (1, 2))
    assert first["sha256"] == second["sha256"]
    assert first["part"] != second["part"]
    assert hash_source("google/ddpm") == "google/ddpm"


def test_a_finished_run_of_other_settings_is_refused(inputs: Path) -> None:
    plan = benchmark(inputs)
    (cell,) = cells(plan)
    (cell.folder / "run").mkdir(parents=True)
    ran = {"evaluation": {}, **cell.settings, "out": "somewhere"}
    settings_file(cell).write_text(json.dumps(describe(ran)))
    more = benchmark(inputs, a={"steps": 4})
    require_same_cell(more, cells(more)[0])  # not finished: its own command compares
    (cell.folder / "run" / "finished").touch()
    require_same_cell(plan, cell)
    elsewhere = benchmark(inputs.rename(inputs.with_name("elsewhere")))
    require_same_cell(elsewhere, cells(elsewhere)[0])
    with pytest.raises(ValueError, match=r"method a, seed 0 was run with .*steps: 3 -> 4"):
        require_same_cell(more, cells(more)[0])


def test_a_finished_attack_of_other_settings_is_refused(inputs: Path) -> None:
    plan = replace(benchmark(inputs), attack={"on": "keep", "tries": 2})
    out = inputs.parent / "measured"
    (out / "attack").mkdir(parents=True)
    (out / "attack" / "finished").touch()
    own = {"forget": "f", "keep": "k", "model": "old", "out": "old", "on": "keep", "tries": 2}
    (out / "attack.yaml").write_text(json.dumps(own))
    attack(plan, "m", out)
    with pytest.raises(ValueError, match=r"attacked with other settings \(tries: 2 -> 3\)"):
        attack(replace(plan, attack={"on": "keep", "tries": 3}), "m", out)


def test_a_command_that_fails_is_told_by_its_last_lines() -> None:
    with pytest.raises(ValueError, match=r"dataunlearn unlern failed \(2\):(.|\n)*unlern"):
        run_command(["unlern"])
    run_command(["--help"])
