"""A slice of the odd inputs, of the kills and of the full disks: experiments/fuzz."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

FUZZ = Path(__file__).parents[2] / "experiments" / "fuzz"
SEED, INPUTS, PARTS = 20261127, 300, 6


@pytest.fixture(scope="module")
def scripts() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FUZZ))
        import run

        yield run


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


@pytest.mark.parametrize("part", range(PARTS))
def test_odd_inputs_are_accepted_or_refused(
    scripts: ModuleType, work: Path, part: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(work))
    sandbox = scripts.prepared(work)
    faults = []
    for number in range(part * INPUTS // PARTS, (part + 1) * INPUTS // PARTS):
        kind, arguments, found = scripts.case(number, SEED, sandbox, work / "work")
        if found.fault:
            faults.append((number, kind, found.fault, arguments))
    assert faults == []


def test_every_kind_has_its_share(scripts: ModuleType) -> None:
    assert len(scripts.TURNS) == 100
    assert set(scripts.TURNS) == set(scripts.KINDS)


@pytest.mark.big
def test_killed_runs_go_on_to_the_same_end(tmp_path: Path) -> None:
    assert faults_of("kills.py", tmp_path, "--kills", "2", "--verbs", "unlearn,train,audit") == ""


@pytest.mark.big
@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small disk")
def test_runs_on_full_disks_go_on_to_the_same_end(tmp_path: Path) -> None:
    assert faults_of("full_disks.py", tmp_path, "--disks", "2", "--verbs", "unlearn") == ""


def faults_of(script: str, out: Path, *more: str) -> str:
    command = [sys.executable, str(FUZZ / script), "--out", str(out), *more]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1200)
    return "" if done.returncode == 0 else done.stdout + done.stderr[-2000:]
