"""What is said when another process is gone."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dataunlearn.runtime.processes import LostProcessError, telling_lost_processes

RESET = "[gloo/transport/tcp/pair.cc:537] Read error [127.0.0.1]:1: Connection reset by peer"


def processes(count: int) -> Any:
    return SimpleNamespace(num_processes=count)


def test_a_lost_connection_is_told_with_where_the_state_is() -> None:
    with (
        pytest.raises(LostProcessError, match="stays, and the same command"),
        telling_lost_processes(processes(2), Path("runs/mine")),
    ):
        raise RuntimeError(RESET)


@pytest.mark.parametrize(("count", "words"), [(1, RESET), (2, "CUDA out of memory")])
def test_other_errors_pass(count: int, words: str) -> None:
    with (
        pytest.raises(RuntimeError, match=words[:9].replace("[", r"\[")),
        telling_lost_processes(processes(count), None),
    ):
        raise RuntimeError(words)
