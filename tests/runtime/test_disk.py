"""A full disk is told with what was needed, what there is, and where the state is."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors import SafetensorError

from dataunlearn.runtime.disk import DiskFullError, is_full, state_stays, writing

FULL = OSError(errno.ENOSPC, "No space left on device")
OF_SAFETENSORS = SafetensorError(
    'Error while serializing: I/O error: Os { code: 28, message: "No space left on device" }'
)


@pytest.mark.parametrize("error", [FULL, OSError(errno.EFBIG, "File too large"), OF_SAFETENSORS])
def test_what_is_needed_and_where_the_state_is(tmp_path: Path, error: Exception) -> None:
    with (
        pytest.raises(DiskFullError) as found,
        state_stays(tmp_path),
        writing("a checkpoint", tmp_path, 3 * 2**20),
    ):
        raise error
    words = str(found.value)
    assert f"No space left for a checkpoint in {tmp_path}: it needs about 3.0 MiB" in words
    assert "MiB are free there" in words
    assert words.endswith("make room, and the same command goes on from there")


def test_what_was_not_known_to_write_is_told_too(tmp_path: Path) -> None:
    with pytest.raises(DiskFullError, match="the same command"), state_stays(tmp_path / "none"):
        raise SafetensorError("I/O error: File too large (os error 27)")


@pytest.mark.parametrize("error", [OSError(errno.EACCES, "Permission denied"), ValueError("28")])
def test_other_errors_stay_as_they_are(tmp_path: Path, error: Exception) -> None:
    with pytest.raises(type(error)) as found, state_stays(tmp_path), writing("x", tmp_path, 1):
        raise error
    assert found.value is error
    assert not is_full(error)


WRITE = """
import sys
from pathlib import Path
import torch
from dataunlearn.training.checkpoint import Checkpoint, CheckpointStore
from dataunlearn.runtime.run_folder import run_folder
with run_folder(Path(sys.argv[1]), {}) as run:
    store = CheckpointStore(run.folder / "checkpoints")
    store.save(Checkpoint(1, {"a": torch.zeros(10)}, {}))
    try:
        store.save(Checkpoint(2, {"a": torch.zeros(100_000)}, {}))
    except OSError as error:
        print(error)
    print(store.latest().step)
"""


def test_a_limit_on_files_leaves_the_older_checkpoint(tmp_path: Path) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    done = subprocess.run(
        [sys.executable, "-c", WRITE, str(tmp_path / "run")],
        preexec_fn=limit,
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    told, step = done.stdout.splitlines()
    assert told.startswith("No space left for a checkpoint in ")
    assert "it needs about 0.4 MiB" in told
    assert step == "1"
    assert sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir()) == [
        "step_00000001"
    ]
