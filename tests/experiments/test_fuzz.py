"""A slice of the inputs that nobody should give, and of the kills: experiments/fuzz."""

from __future__ import annotations

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
