from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from diffusers import DDPMScheduler, FlowMatchEulerDiscreteScheduler

from dataunlearn.process import ForwardProcess
from dataunlearn.rows import Rows, Term
from dataunlearn.runtime.files import read_log
from dataunlearn.training.importance_weights import (
    effective_sample_size,
    sample_size_by_bucket,
    weight_record,
)
from dataunlearn.training.step_log import StepLog


class TestEffectiveSampleSize:
    def test_by_hand(self) -> None:
        """(1 + 3)^2 / (4 (1 + 9)) = 16/40."""
        assert effective_sample_size(torch.tensor([1.0, 0.0, 3.0, 0.0])) == pytest.approx(0.4)

    @pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
    def test_equal_weights_count_fully_at_any_scale(self, scale: float) -> None:
        assert effective_sample_size(torch.full((7,), scale)) == pytest.approx(1)

    def test_one_row_carries_all(self) -> None:
        assert effective_sample_size(torch.tensor([0.0, 5.0, 0.0, 0.0, 0.0])) == pytest.approx(0.2)

    def test_no_weight_has_no_size(self) -> None:
        assert effective_sample_size(torch.zeros(3)) is None


class TestBuckets:
    def test_a_thousand_timesteps(self) -> None:
        process = ForwardProcess.from_scheduler(DDPMScheduler())
        weights = torch.tensor([1.0, 3.0, 2.0, 0.0, 5.0])
        t = torch.tensor([0, 99, 100, 250, 999])
        assert sample_size_by_bucket(weights, t, process) == {
            "0-99": pytest.approx(16 / 20),
            "100-199": pytest.approx(1),
            "200-299": None,
            "900-999": pytest.approx(1),
        }

    def test_a_number_that_ten_does_not_divide(self) -> None:
        """25 timesteps: width 3, so the ninth bucket is short and the tenth is never reached."""
        process = ForwardProcess.from_scheduler(DDPMScheduler(num_train_timesteps=25))
        sizes = sample_size_by_bucket(torch.ones(25), torch.arange(25), process)
        assert list(sizes) == [f"{low}-{min(low + 2, 24)}" for low in range(0, 25, 3)]

    def test_flow_matching_starts_at_one(self) -> None:
        process = ForwardProcess.from_scheduler(FlowMatchEulerDiscreteScheduler())
        sizes = sample_size_by_bucket(torch.ones(3), torch.tensor([1, 100, 1000]), process)
        assert list(sizes) == ["1-100", "901-1000"]

    def test_both_sides_are_recorded(self) -> None:
        process = ForwardProcess.from_scheduler(DDPMScheduler())
        inputs = torch.zeros(2, 1)
        rows = Rows(
            inputs,
            torch.tensor([5, 6]),
            Term(inputs, torch.tensor([1.0, 1.0])),
            Term(inputs, torch.tensor([0.0, 2.0])),
        )
        assert weight_record(rows, process) == {
            "ess_keep": {"0-99": pytest.approx(1)},
            "ess_forget": {"0-99": pytest.approx(0.5)},
        }


class TestLog:
    def test_without_a_path_records_stay_in_memory(self) -> None:
        log = StepLog(None)
        log.append({"step": 1})
        assert log.records == [{"step": 1}]

    def test_every_record_is_on_disk_at_once(self, tmp_path: Path) -> None:
        path = tmp_path / "run" / "log.jsonl"
        log = StepLog(path)
        for step in (1, 2):
            log.append({"step": step, "loss": 0.1 * step, "cosine": None, "ess": {"0-99": 1.0}})
            assert read_log(path) == log.records

    def test_new_run_drops_old_records(self, tmp_path: Path) -> None:
        path = tmp_path / "log.jsonl"
        StepLog(path).append({"step": 1})
        assert StepLog(path).records == []
        assert path.read_text() == ""

    def test_resuming_drops_the_steps_to_be_done_again(self, tmp_path: Path) -> None:
        path = tmp_path / "log.jsonl"
        log = StepLog(path)
        for step in range(1, 6):
            log.append({"step": step})
        resumed = StepLog(path, resume_step=3)
        assert [record["step"] for record in resumed.records] == [1, 2, 3]
        resumed.append({"step": 4, "again": True})
        assert read_log(path) == [*({"step": s} for s in (1, 2, 3)), {"step": 4, "again": True}]

    @pytest.mark.parametrize("cut", [1, 8, 20])
    def test_cut_off_last_line_is_left_out(self, tmp_path: Path, cut: int) -> None:
        path = tmp_path / "log.jsonl"
        log = StepLog(path)
        for step in (1, 2):
            log.append({"step": step, "loss_keep": 12.5})
        last = json.dumps({"step": 3, "loss_keep": 12.5})
        path.write_text(path.read_text() + last[:cut])
        assert [record["step"] for record in read_log(path)] == [1, 2]
        resumed = StepLog(path, resume_step=2)
        resumed.append({"step": 3})
        assert [record["step"] for record in read_log(path)] == [1, 2, 3]

    def test_cut_off_number_does_not_pass_for_a_record(self, tmp_path: Path) -> None:
        path = tmp_path / "log.jsonl"
        path.write_text('{"step": 1}\n{"step"')
        assert read_log(path) == [{"step": 1}]
