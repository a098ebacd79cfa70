from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from dataunlearn.runtime.files import write_atomically
from dataunlearn.training.checkpoint import (
    Checkpoint,
    CheckpointStore,
    load_optimizer_tensors,
    optimizer_tensors,
)


def state(step: int) -> Checkpoint:
    tensors = {"a": torch.full((2, 3), float(step)), "count": torch.tensor(step)}
    return Checkpoint(step, tensors, {"ema_steps": step, "name": "x"})


def full_disk(*args: Any, **kwargs: Any) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def half_a_file(tensors: dict[str, torch.Tensor], path: str) -> None:
    Path(path).write_bytes(b"half a file")
    full_disk()


def fail_renames_to(suffix: str) -> Callable[..., None]:
    """``os.replace`` that fails for targets whose name ends so, and works for others."""
    real = os.replace

    def replace(source: str | Path, target: str | Path) -> None:
        if str(target).endswith(suffix):
            full_disk()
        real(source, target)

    return replace


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


class TestStore:
    def test_empty_or_missing_folder_has_no_checkpoint(self, tmp_path: Path) -> None:
        store = CheckpointStore(tmp_path / "none")
        assert store.steps() == []
        assert store.latest() is None
        store.clear()
        assert not (tmp_path / "none").exists()

    def test_what_is_saved_comes_back(self, tmp_path: Path) -> None:
        store = CheckpointStore(tmp_path / "deep" / "checkpoints")
        assert store.save(state(7)).name == "step_00000007"
        found = store.latest()
        assert found is not None
        assert found.step == 7
        assert found.values == {"ema_steps": 7, "name": "x"}
        assert found.tensors.keys() == state(7).tensors.keys()
        for name, value in state(7).tensors.items():
            assert found.tensors[name].dtype == value.dtype
            assert torch.equal(found.tensors[name], value)

    def test_tensors_that_share_or_stride_memory_are_saved(self, tmp_path: Path) -> None:
        whole = torch.arange(12.0).reshape(3, 4)
        tensors = {"whole": whole, "alias": whole, "turned": whole.T, "column": whole[:, 1]}
        store = CheckpointStore(tmp_path)
        store.save(Checkpoint(1, tensors, {}))
        found = store.latest()
        assert found is not None
        for name, value in tensors.items():
            assert torch.equal(found.tensors[name], value)

    def test_steps_are_ordered_by_number_and_old_ones_go(self, tmp_path: Path) -> None:
        store = CheckpointStore(tmp_path, keep_last=2)
        for step in (5, 90, 100, 123_456_789):
            store.save(state(step))
        assert store.steps() == [100, 123_456_789]
        assert len(names(tmp_path)) == 2
        found = store.latest()
        assert found is not None
        assert found.step == 123_456_789

    def test_clear_removes_everything(self, tmp_path: Path) -> None:
        store = CheckpointStore(tmp_path / "c")
        store.save(state(1))
        store.clear()
        assert store.latest() is None

    def test_saving_a_step_twice_keeps_the_first(self, tmp_path: Path) -> None:
        store = CheckpointStore(tmp_path)
        first = store.save(state(3))
        written = (first / "state.safetensors").stat().st_mtime_ns
        assert store.save(state(3)) == first
        assert (first / "state.safetensors").stat().st_mtime_ns == written


class TestInterruptedWrite:
    @pytest.mark.parametrize(
        ("target", "make"),
        [
            ("dataunlearn.training.checkpoint.save_file", lambda: half_a_file),
            ("dataunlearn.runtime.files.os.replace", lambda: fail_renames_to("state.json")),
            (
                "dataunlearn.training.checkpoint.os.replace",
                lambda: fail_renames_to("step_00000002"),
            ),
            ("dataunlearn.runtime.files.os.fsync", lambda: full_disk),
        ],
        ids=["tensors", "values", "rename", "flush"],
    )
    def test_a_full_disk_leaves_the_older_checkpoint(
        self,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        target: str,
        make: Callable[[], Callable[..., None]],
    ) -> None:
        store = CheckpointStore(tmp_path, keep_last=1)
        store.save(state(1))
        with monkeypatch.context() as patch:
            patch.setattr(target, make())
            with pytest.raises(OSError, match="No space left"):
                store.save(state(2))
        assert names(tmp_path) == ["step_00000001"]
        found = store.latest()
        assert found is not None
        assert found.step == 1
        assert torch.equal(found.tensors["a"], state(1).tensors["a"])
        store.save(state(2))
        assert store.steps() == [2]

    def test_keyboard_interrupt_leaves_no_temporary_folder(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def interrupt(*args: Any) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr("dataunlearn.training.checkpoint.save_file", interrupt)
        with pytest.raises(KeyboardInterrupt):
            CheckpointStore(tmp_path).save(state(1))
        assert names(tmp_path) == []

    def test_half_written_folders_are_ignored_and_written_over(self, tmp_path: Path) -> None:
        store = CheckpointStore(tmp_path)
        store.save(state(1))
        for half in ("step_00000002", ".writing-abc"):
            (tmp_path / half).mkdir()
            (tmp_path / half / "state.safetensors").write_bytes(b"cut off")
        assert store.steps() == [1]
        found = store.latest()
        assert found is not None
        assert found.step == 1
        store.save(state(2))
        found = store.latest()
        assert found is not None
        assert found.step == 2
        assert torch.equal(found.tensors["a"], state(2).tensors["a"])


class TestWriteAtomically:
    def test_makes_folders_and_replaces(self, tmp_path: Path) -> None:
        path = tmp_path / "a" / "b.json"
        write_atomically(path, b"old")
        write_atomically(path, b"new")
        assert path.read_bytes() == b"new"
        assert names(path.parent) == ["b.json"]
        assert path.stat().st_mode & 0o777 == 0o644

    @pytest.mark.parametrize("call", ["replace", "fsync", "fdopen"])
    def test_keeps_the_old_content_on_failure(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
    ) -> None:
        path = tmp_path / "b.json"
        write_atomically(path, b"old")
        monkeypatch.setattr(f"dataunlearn.runtime.files.os.{call}", full_disk)
        with pytest.raises(OSError, match="No space left"):
            write_atomically(path, b"new")
        assert path.read_bytes() == b"old"
        assert names(tmp_path) == ["b.json"]


@pytest.mark.parametrize("kind", [torch.optim.AdamW, torch.optim.Adam])
def test_optimizer_tensors_round_trip(kind: type[torch.optim.Optimizer]) -> None:
    def fresh() -> tuple[list[torch.nn.Parameter], torch.optim.Optimizer]:
        params = [torch.nn.Parameter(torch.ones(size)) for size in (1, 12)]
        return params, kind(params, lr=0.1)

    def step(params: list[torch.nn.Parameter], optimizer: torch.optim.Optimizer, k: int) -> None:
        for index, param in enumerate(params):
            param.grad = torch.sin(torch.arange(param.numel()) + float(k + index))
        optimizer.step()

    params, optimizer = fresh()
    assert optimizer_tensors(optimizer) == {}
    for k in range(3):
        step(params, optimizer, k)
    tensors = {name: value.clone() for name, value in optimizer_tensors(optimizer).items()}
    assert set(tensors) == {
        f"optimizer.{index}.{key}" for index in (0, 1) for key in ("step", "exp_avg", "exp_avg_sq")
    }
    others, other = fresh()
    for mine, theirs in zip(others, params, strict=True):
        mine.data.copy_(theirs.data)
    load_optimizer_tensors(other, {**tensors, "model.weight": torch.zeros(1)})
    for name, value in optimizer_tensors(other).items():
        assert torch.equal(value, tensors[name])
    step(params, optimizer, 3)
    step(others, other, 3)
    for mine, theirs in zip(others, params, strict=True):
        assert torch.equal(mine, theirs)
