"""Two processes compute what one does: every objective, a resume, and base training."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from lost_process_steps import LOST
from toy_levels import UNPROMPTED
from two_process_runs import assert_close_to, assert_ends_as_alone, flat, launch
from two_process_steps import NUM_STEPS, make_trainer, result

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).parents[1] / "two_process_steps.py"
LOST_SCRIPT = SCRIPT.with_name("lost_process_steps.py")


@pytest.fixture(scope="module")
def launched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that one launch for all objectives worked in.

    ``--standalone`` chooses a free port. ``accelerate launch --cpu --num_processes 2`` is no
    substitute: it starts a single process unless MPI is set up.
    """
    folder = tmp_path_factory.mktemp("two")
    done = launch(SCRIPT, str(folder))
    assert done.returncode == 0, done.stderr[-4000:]
    return folder


@pytest.fixture(scope="module")
def results(launched: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = torch.load(launched / "results.pt", weights_only=True)
    return loaded


@pytest.mark.parametrize("name", UNPROMPTED)
def test_two_processes_equal_one(results: dict[str, Any], name: str) -> None:
    """The second process starts from other weights, which the first one's replace."""
    assert_ends_as_alone(name, results[name])


def test_the_work_is_shared(results: dict[str, Any]) -> None:
    """Each process runs about half of the rows: 5 keep and 5 forget rows, of which one has 3+3."""
    assert {record["forward_rows"] for record in results["SISSNoIS"]["log"]} == {6}
    alone = make_trainer(UNPROMPTED["SISSNoIS"]())
    assert alone.step(0)["forward_rows"] == 10


def test_lengths_are_estimated_alike(results: dict[str, Any]) -> None:
    """The second and third steps go through one backward pass, by the same factors."""
    alone = make_trainer(UNPROMPTED["SISS"](), every_steps=NUM_STEPS)
    alone.run()
    assert [record["norm"] is None for record in results["lagged"]["log"]] == [True, False, False]
    assert_close_to(result(alone), results["lagged"])


def test_a_resumed_run_of_two_equals_an_uninterrupted_one(
    launched: Path, results: dict[str, Any]
) -> None:
    """Bit for bit: as many processes, so the same sums in the same order.

    The optimizer here has momentum, which is in the checkpoint too.
    """
    whole, resumed = results["SISS"], results["resumed"]
    for name in ("weights", "gradients"):
        assert torch.equal(flat(whole[name]), flat(resumed[name]))
    assert (launched / "resumed" / "log.jsonl").read_text().count("\n") == NUM_STEPS


def by_hand(folder: Path) -> list[subprocess.Popen[bytes]]:
    """Two processes that nobody watches over: a launcher might end the first one, too."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true", "WORLD_SIZE": "2"}
    shared |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    return [
        subprocess.Popen(
            [sys.executable, str(LOST_SCRIPT), str(folder), "die"],
            env=os.environ | shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.DEVNULL,
        )
        for rank in range(2)
    ]


def test_a_lost_process_is_told_and_the_run_goes_on_to_the_same_end(
    results: dict[str, Any], tmp_path: Path
) -> None:
    """The second one is killed after two of three steps; the first one has saved them."""
    first, second = by_hand(tmp_path)
    assert first.wait(timeout=120) == LOST
    assert second.wait(timeout=10) == -signal.SIGKILL
    said = (tmp_path / "said.txt").read_text()
    assert "another process of this run was lost" in said
    assert str(tmp_path / "lost") in said
    assert not (tmp_path / "after_loss.pt").exists()
    done = launch(LOST_SCRIPT, str(tmp_path), "live")
    assert done.returncode == 0, done.stderr[-4000:]
    resumed = torch.load(tmp_path / "after_loss.pt", weights_only=True)
    for name in ("weights", "gradients"):
        assert torch.equal(flat(results["SISS"][name]), flat(resumed[name]))


def test_the_first_process_alone_writes(launched: Path) -> None:
    found = {path.name for path in launched.iterdir()}
    assert found == {"base0", "base1", "rank0", "resumed", "results.pt"}
    runs = {path.name for path in (launched / "rank0").iterdir()}
    assert runs == {*UNPROMPTED, "base"}
    for name in UNPROMPTED:
        run = launched / "rank0" / name
        assert {path.name for path in run.iterdir()} == {"log.jsonl", "checkpoints"}
        assert len((run / "log.jsonl").read_text().splitlines()) == NUM_STEPS


def test_base_training_saves_a_model(launched: Path) -> None:
    run = launched / "rank0" / "base"
    names = {path.name for path in run.iterdir()}
    assert names == {"model", "samples", "log.jsonl", "settings.json", "finished"}
