"""Freed memory stays with the process: a block as large as an activation is paged in once."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys
import torch
from dataunlearn.runtime.allocator import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
for round in range(11):
    torch.zeros(2**24)  # 64 MiB
    if round == 0:
        first = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - first)
"""


def faults(word: str, **environment: str) -> int:
    plain = {name: v for name, v in os.environ.items() if not name.startswith("MALLOC_")}
    command = [sys.executable, "-c", PROGRAM, word]
    done = subprocess.run(
        command, env=plain | environment, capture_output=True, text=True, check=True
    )
    return int(done.stdout)


@pytest.mark.skipif(
    not hasattr(os, "confstr") or "glibc" not in str(os.confstr("CS_GNU_LIBC_VERSION")),
    reason="another C library",
)
def test_a_freed_block_is_not_asked_for_again() -> None:
    assert faults("keep") * 10 < faults("give back")


def test_the_environments_settings_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    from dataunlearn.runtime.allocator import keep_freed_memory

    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "131072")
    assert not keep_freed_memory()
