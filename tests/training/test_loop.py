"""The loop on its own: a stepper that counts, without a network."""

from __future__ import annotations

import os
import signal
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch

from dataunlearn.runtime.files import read_log
from dataunlearn.runtime.interrupt import InterruptedRunError
from dataunlearn.training.checkpoint import Checkpoint
from dataunlearn.training.config import Training
from dataunlearn.training.loop import Loop

CONFIG = Training(steps=5, batch_pairs=1, learning_rate=1.0, checkpoint_every_steps=2)


class Counter:
    """Adds a step's number to its only weight."""

    def __init__(self) -> None:
        self.steps_done, self.ended, self.seconds = 0, False, 0.0
        self.weight = torch.zeros(1)

    def step(self, number: int) -> dict[str, Any]:
        self.weight += number
        return {"step": number + 1}

    def note(self, record: dict[str, Any]) -> str:
        return ""

    def state(self) -> Checkpoint:
        return Checkpoint(self.steps_done, {"model.weight": self.weight}, {})

    def restore(self, checkpoint: Checkpoint) -> None:
        self.weight = checkpoint.part("model")["weight"]
        self.steps_done = checkpoint.step


def run(counter: Counter, folder: Path | None, stop_at: int = 0, problem: bool = False) -> Loop:
    loop = Loop(CONFIG, folder, shown=False)
    loop.resume(counter)
    with closing(loop.steps(counter)) as steps:
        for record in steps:
            record["seen"] = True
            if record["step"] == stop_at:
                if problem:
                    raise RuntimeError("looking failed")
                counter.ended = True
    return loop


def test_all_steps_are_done_and_logged_with_what_was_seen(tmp_path: Path) -> None:
    counter = Counter()
    loop = run(counter, tmp_path)
    assert counter.weight.item() == 0 + 1 + 2 + 3 + 4
    assert [record["step"] for record in loop.log.records] == [1, 2, 3, 4, 5]
    assert all(record["seen"] for record in read_log(tmp_path / "log.jsonl"))
    assert counter.seconds > 0


def test_who_looks_can_end_the_run(tmp_path: Path) -> None:
    counter = Counter()
    loop = run(counter, tmp_path, stop_at=3)
    assert (counter.steps_done, len(loop.log.records)) == (3, 3)
    assert loop.store is not None
    assert loop.store.steps()[-1] == 3


def test_a_step_whose_look_failed_is_logged_and_done_again(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="looking failed"):
        run(Counter(), tmp_path, stop_at=3, problem=True)
    assert [record["step"] for record in read_log(tmp_path / "log.jsonl")] == [1, 2, 3]
    again = Counter()
    run(again, tmp_path)
    assert again.weight.item() == 10
    assert [record["step"] for record in read_log(tmp_path / "log.jsonl")] == [1, 2, 3, 4, 5]


def test_a_signal_ends_it_after_the_step_with_the_state_saved(tmp_path: Path) -> None:
    counter, loop = Counter(), Loop(CONFIG, tmp_path, shown=False)
    loop.resume(counter)
    with (
        pytest.raises(InterruptedRunError, match="after step 3"),
        closing(loop.steps(counter)) as steps,
    ):
        for record in steps:
            if record["step"] == 3:
                os.kill(os.getpid(), signal.SIGTERM)
    resumed = Counter()
    Loop(CONFIG, tmp_path, shown=False).resume(resumed)
    assert (resumed.steps_done, resumed.weight.item()) == (3, 0 + 1 + 2)


def test_without_a_folder_nothing_is_kept() -> None:
    loop = run(Counter(), None)
    assert loop.store is None
    assert len(loop.log.records) == 5
