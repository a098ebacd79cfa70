"""Benchmarks: the plan of runs, the table's arithmetic, and a tiny one from start to end."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel
from scipy import stats

from dataunlearn.bench.config import Benchmark, cells
from dataunlearn.bench.prompts import summarise
from dataunlearn.bench.run import check_settings, overview
from dataunlearn.bench.table import Estimate, combine, relearning_results
from dataunlearn.cli import main as cli
from dataunlearn.report.pareto import LABEL_PLACES, Point, _free_place, on_front

BASE = {"model": "m", "forget": "f", "keep": "k", "steps": 50}


def benchmark(**changes: Any) -> Benchmark:
    methods = {"SISS, 0.5": {"objective": "SISS"}, "naive": {"objective": "NaiveDeletion"}}
    return Benchmark(**{"out": Path("out"), "base": BASE, "methods": methods, **changes})


def test_every_method_runs_with_every_seed_and_seeds_go_first() -> None:
    runs = cells(benchmark(seeds=(3, 4)))
    assert [(run.method, run.seed) for run in runs] == [
        ("SISS, 0.5", 3),
        ("naive", 3),
        ("SISS, 0.5", 4),
        ("naive", 4),
    ]
    assert runs[0].folder == Path("out/siss_0_5/seed_3")
    assert runs[1].settings == {**BASE, "force": True, "objective": "NaiveDeletion", "seed": 3}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"methods": {}}, "at least one method"),
        ({"seeds": ()}, "at least one seed"),
        ({"seeds": (1, 1)}, "seeds repeat"),
        ({"base": {"model": "m", "forget": "f"}}, "must give keep"),
        ({"base": {**BASE, "seed": 1}}, "must not give seed"),
        ({"methods": {"a b": {}, "A-B": {}}}, r"share a folder name: \['a_b'\]"),
        ({"beside": {"naive": "m"}}, r"share a folder name: \['naive'\]"),
        ({"beside": {"Before": "m"}}, r"share a folder name: \['before'\]"),
        ({"workers": 0}, "workers must be at least 1"),
    ],
)
def test_senseless_benchmarks_are_errors(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        benchmark(**changes)


def test_settings_are_checked_before_any_run() -> None:
    good, bad = cells(benchmark(methods={"a": {}, "b": {"stepz": 3}}, seeds=(0,)))
    check_settings(good)
    with pytest.raises(ValueError, match=r"method b: no option --stepz; did you mean --steps\?"):
        check_settings(bad)


def test_a_dry_run_says_how_far_each_run_is(tmp_path: Path) -> None:
    plan = benchmark(out=tmp_path / "bench", methods={"a": {}, "b": {"steps": 3}}, seeds=(0, 1))
    assert "4 of 4 runs are missing or unfinished. Measured besides: before." in overview(plan)
    assert not plan.out.exists()
    begun, measured, trained, _ = cells(plan)
    (begun.folder / "run").mkdir(parents=True)
    for cell, file in ((measured, "measured/results.json"), (trained, "run/finished")):
        (cell.folder / file).parent.mkdir(parents=True)
        (cell.folder / file).touch()
    states = {
        (begun.method, begun.seed): "begun",
        (measured.method, measured.seed): "measured",
        (trained.method, trained.seed): "trained",
    }
    expected = [
        f"| {method} | " + " | ".join(states.get((method, seed), "–") for seed in (0, 1)) + " |"
        for method in ("a", "b")
    ]
    lines = overview(plan).splitlines()
    assert lines[2:4] == expected
    assert lines[-1].startswith("3 of 4 runs are missing or unfinished.")


def test_seeds_are_combined_with_students_interval() -> None:
    values = [1.0, 2.0, 4.0]
    found = combine([{"value": value, "interval": [0, 9]} for value in values], "kid")
    expected = stats.t.interval(0.95, 2, loc=np.mean(values), scale=stats.sem(values))
    assert found.value == pytest.approx(7 / 3)
    assert found.interval == pytest.approx(expected)
    assert combine([{"value": 1.0, "interval": [0.5, 2]}], "kid").interval == (0.5, 2)
    two = [{"value": 2.0, "interval": [0, 9]}, {"value": 1.0, "interval": None}]
    assert combine(two, "kid") == Estimate(1.5, (1.0, 2.0), (2.0, 1.0))
    runs = [{"value": value, "interval": [0, 1]} for value in (0.0, 0.1, 0.9)]
    assert combine(runs, "kid").interval[0] < 0  # no share, though small
    alike = combine([{"value": 0.0, "interval": [0, end]} for end in (0.1, 0.2, 0.1)], "kid")
    assert alike.interval == (0, 0.2)
    shares = combine(runs, "regeneration_500")
    assert shares.interval[0] == 0
    assert shares.interval[1] == 1
    assert combine([{"value": 1.0, "interval": None}], "kid").interval is None


def test_the_front_holds_what_nothing_beats() -> None:
    points = [Point("a", 0, 5), Point("b", 1, 9), Point("c", 1, 4), Point("d", 0, 5)]
    assert on_front(points, higher=True) == [True, True, False, True]
    assert on_front(points, higher=False) == [True, False, True, True]
    yardstick = Point("never saw it", 0, 0, is_yardstick=True)
    assert on_front([*points, yardstick], higher=False) == [True, False, True, True, False]


def test_relearning_is_a_share_and_steps_that_are_left_out_if_never() -> None:
    def course(*restored: int) -> dict[str, Any]:
        looks = [{"step": 5 * i, "restored": n, "tries": 4} for i, n in enumerate(restored)]
        return {"looks": looks}

    relearned = {
        "keep": {"model": [course(0, 1), course(0, 2)], "returned_after": [None, 5]},
        "image": {"model": [course(0, 4), course(3, 4)], "returned_after": [5, 0]},
    }
    found = {result["name"]: result for result in relearning_results(relearned)}
    assert found["relearning_share_keep"]["value"] == 3 / 8
    low, high = found["relearning_share_keep"]["interval"]
    assert 0.1 < low < 3 / 8 < high < 0.7
    assert "relearning_steps_keep" not in found
    assert found["relearning_share_image"]["value"] == 1
    assert found["relearning_steps_image"]["value"] == 2.5


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    unet = UNet2DModel(
        sample_size=8,
        in_channels=1,
        out_channels=1,
        block_out_channels=(8,),
        down_block_types=("DownBlock2D",),
        up_block_types=("UpBlock2D",),
        layers_per_block=1,
        norm_num_groups=4,
    )
    DDPMPipeline(unet, DDPMScheduler()).save_pretrained(tmp_path / "model")
    pixels = np.random.default_rng(0).integers(0, 256, (12, 8, 8), dtype=np.uint8)
    np.save(tmp_path / "keep.npy", pixels[1:])
    np.save(tmp_path / "forget.npy", pixels[:1])
    return tmp_path


def test_a_label_hides_no_other_point() -> None:
    alone = np.array([[0.0, 0.0], [100.0, 0.0]])
    assert _free_place(alone, 0, 1.0) == LABEL_PLACES[0]
    neighbour_above = np.array([[0.0, 0.0], [9.0, 9.0]])
    assert _free_place(neighbour_above, 0, 1.0) == LABEL_PLACES[1]


@pytest.mark.slow
def test_a_benchmark_from_start_to_end(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two methods, one of them within a budget that its first steps exceed; then one seed more."""
    config = {
        "out": str(folder / "bench"),
        "base": {
            "model": str(folder / "model"),
            "forget": str(folder / "forget.npy"),
            "keep": str(folder / "keep.npy"),
            "steps": 3,
            "batch_pairs": 4,
            "device": "cpu",
        },
        "methods": {
            "naive": {"objective": "NaiveDeletion"},
            "NegGrad": {
                "objective": "NegGrad",
                "learning_rate": 0.1,
                "budget": {"loss_increase": 1e-6, "every_steps": 1, "patience": 0, "num_images": 4},
            },
        },
        "seeds": [0],
        "metrics": "copies,kid",
        "evaluate": {"num_samples": 8, "sampling_steps": 2, "kid": {"embedder": "pixels"}},
        "forgetting": "copy_frequency",
    }
    file = folder / "bench.yaml"
    file.write_text(json.dumps(config))
    assert cli.run(["bench", "--config", str(file)]) == 0, capsys.readouterr().err
    out = folder / "bench"
    found = json.loads((out / "results.json").read_text())
    assert [row["name"] for row in found["rows"]] == ["before", "naive", "NegGrad"]
    costs = {row["name"]: row["costs"] for row in found["rows"]}
    assert costs["naive"]["steps"] == 3
    assert costs["naive"]["forward_rows"] == 12
    assert costs["NegGrad"]["steps"] < 3  # the budget ended it
    run = out / "neggrad" / "seed_0" / "run"
    facts = json.loads((run / "report.json").read_text())
    assert facts["method"]["went_back_to"] < facts["method"]["steps"]
    assert "the model was taken back" in (run / "report.html").read_text()
    assert all(json.loads(line)["damage"] > -1 for line in (run / "log.jsonl").open())
    assert costs["naive"]["peak_memory_mib"] > 10
    with (out / "results.csv").open() as lines:
        assert {line["method"] for line in csv.DictReader(lines)} == {"before", "naive", "NegGrad"}
    assert "| naive | " in (out / "results.md").read_text()
    assert (out / "pareto.png").read_bytes().startswith(b"\x89PNG")
    first = (out / "naive" / "seed_0" / "run" / "report.json").stat().st_mtime_ns
    config["seeds"], config["methods"] = [0, 1], {"naive": {"objective": "NaiveDeletion"}}
    config["beside"] = {"another": str(folder / "model")}
    config["attack"] = {"on": "keep", "steps": 2, "every_steps": 1, "tries": 2, "seeds": [0]}
    config["attack"] |= {"regeneration_steps": 2, "threshold": 9.0}  # all tries are that near
    file.write_text(json.dumps(config))
    assert cli.run(["bench", str(file)]) == 0, capsys.readouterr().err
    assert (out / "naive" / "seed_0" / "run" / "report.json").stat().st_mtime_ns == first
    rows = {row["name"]: row for row in json.loads((out / "results.json").read_text())["rows"]}
    assert list(rows) == ["another", "before", "naive"]
    assert rows["naive"]["runs"] == 2
    for row in rows.values():
        assert row["measures"]["relearning_share_keep"]["value"] == 1
        assert row["measures"]["relearning_steps_keep"]["value"] == 0
    another, before = (rows[name]["measures"]["kid"] for name in ("another", "before"))
    assert another["value"] == before["value"]


class TestPrompts:
    """Benchmarks whose runs are ``unlearn-prompts``."""

    BASE: ClassVar[dict[str, Any]] = {"model": "m", "prompts": "p", "unlearning": {"steps": 9}}

    def test_settings_of_the_unlearning_join_the_bases(self) -> None:
        methods = {"a": {"unlearning": {"lam": 1}, "optimise": "always"}, "b": {}}
        first, second = cells(benchmark(base=self.BASE, methods=methods, seeds=(3,)))
        assert first.settings == {
            **self.BASE,
            "optimise": "always",
            "unlearning": {"steps": 9, "lam": 1, "seed": 3},
        }
        assert second.settings["unlearning"] == {"steps": 9, "seed": 3}

    def test_bad_settings_are_refused_before_any_run(self) -> None:
        methods = {"a": {"unlearning": {"stepz": 1}}, "b": {"promptz": 1}, "c": {}}
        bad, worse, good = cells(benchmark(base=self.BASE, methods=methods, seeds=(3,)))
        check_settings(good)
        with pytest.raises(ValueError, match=r"method a: .*stepz"):
            check_settings(bad)
        with pytest.raises(ValueError, match=r"method b: .*promptz"):
            check_settings(worse)
        with pytest.raises(ValueError, match="takes no reference"):
            benchmark(base=self.BASE, reference="r")

    def test_prompts_of_all_runs_count_alike(self) -> None:
        """Runs of two and one prompts: shares 0, 0.5 and 1; two of three are clean."""
        runs = [fake_run([0.0, 0.5], [True, True], 2.0), fake_run([1.0], [False], 4.0)]
        found = {result["name"]: result for result in summarise(runs, "after")}
        assert found["memorised_fraction"]["value"] == 0.5
        assert found["mitigated_share_8"]["value"] == pytest.approx(2 / 3)
        low, high = found["mitigated_share_8"]["interval"]
        assert low < 2 / 3 < high
        assert found["drift"]["value"] == 3.0
        before = {result["name"]: result for result in summarise(runs, "before")}
        assert before["drift"]["value"] == 30.0


def fake_run(shares: list[float], clean: list[bool], drift: float) -> dict[str, Any]:
    measured = {
        "memorised_fraction": {"per_item": shares, "higher_is_better": False},
        "mitigated_share_8": {"per_item": clean, "higher_is_better": True},
    }
    moved = {"value": drift, "interval": [0, 9], "higher_is_better": False}
    return {
        "results": {
            "before": measured,
            "after": measured,
            "drift": moved,
            "drift_of_another_seed": {**moved, "value": 10 * drift},
        }
    }
