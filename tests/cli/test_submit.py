"""A run that is handed in: what is checked before, and what the job then does, on this machine."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dataunlearn.cli import main as cli
from dataunlearn.models import save_model
from dataunlearn.runtime.jobs import OwnCommand, executor_for

submitit = pytest.importorskip("submitit")
LOCAL = '{"cluster": "local", "timeout_min": 5}'


@pytest.fixture
def command(
    tmp_path: Path, make_model: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> list[str]:
    """A run of two steps on a tiny model."""
    monkeypatch.chdir(tmp_path)
    save_model(make_model(), tmp_path / "base")
    pixels = np.random.default_rng(0).integers(0, 256, (4, 8, 8), dtype=np.uint8)
    np.save("forget.npy", pixels[:1])
    np.save("keep.npy", pixels[1:])
    few = ["--steps", "2", "--batch_pairs", "2", "--force", "--evaluation.num_samples", "0"]
    few += ["--evaluation.regeneration_copies", "2", "--evaluation.regeneration_steps", "2"]
    sides = ["--model", "base", "--forget", "forget.npy", "--keep", "keep.npy"]
    return ["unlearn", *sides, "--out", "out", "--device", "cpu", *few]


@pytest.mark.slow
def test_a_job_does_what_the_command_would(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run([*command, "--submit", LOCAL]) == 0
    assert "is handed in" in capsys.readouterr().err
    for _ in range(240):
        if (tmp_path / "out" / "finished").exists():
            break
        time.sleep(0.5)
    assert (tmp_path / "out" / "model" / "model_index.json").is_file()
    assert (tmp_path / "out" / "report.html").is_file()
    logs = list((tmp_path / "out.jobs").glob("*_log.err"))
    assert logs
    assert cli.run([*command, "--submit", LOCAL]) == 1  # a finished run is there


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--submit", '{"cluster": "local", "no_such_thing": 1}'], "submitit:"),
        (["--submit", '{"cluster": "nowhere"}'], "submitit:"),
        (["--submit", "{}", "--dry_run"], "no dry run"),
        (["--submit", LOCAL, "--forget", "nowhere.npy", "--keep", "nowhere.npy"], "the same"),
    ],
)
def test_what_cannot_be_handed_in_is_refused_at_once(
    more: list[str],
    said: str,
    command: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli.run([*command, *more]) == 1
    assert said in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out").exists()


def test_a_job_that_is_handed_in_again_replaces_nothing() -> None:
    """Else the second start would throw away what the first one did."""
    again = OwnCommand(["unlearn", "--config", "a.yaml"], ["--overwrite"]).checkpoint()
    assert again.function == OwnCommand(["unlearn", "--config", "a.yaml"])


def test_the_exit_code_is_the_jobs_result(tmp_path: Path) -> None:
    job = executor_for(tmp_path, {"cluster": "local", "timeout_min": 5}).submit(
        OwnCommand(["unlearn", "--model", "nowhere"])
    )
    assert job.result() in (1, 2)
