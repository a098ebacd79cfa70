"""Starting scripts in two processes, and comparing what they did with what one does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from toy_levels import UNPROMPTED
from two_process_steps import NUM_STEPS, make_trainer, result

MEASURED = ("loss_keep", "loss_forget", "norm", "norm_keep", "norm_forget", "cosine", "u_forget")


def launch(script: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a script in two processes."""
    command = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    return subprocess.run(
        [sys.executable, "-m", *command, str(script), *arguments],
        env=os.environ | {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"},
        capture_output=True,
        text=True,
        timeout=240,
    )


def flat(tensors: list[torch.Tensor]) -> torch.Tensor:
    return torch.cat([value.reshape(-1) for value in tensors])


def assert_close_to(one: dict[str, Any], two: dict[str, Any]) -> None:
    """Float32 rounding: both sum the same row gradients, in another order.

    Summing about ten row gradients in either order differs by a few units of 2^-24 = 6e-8 of the
    largest of them. The combined gradient is clipped to length 1, and three steps at a rate of 0.05
    with momentum add at most 0.05 (1 + 1.9 + 2.71) = 0.28 of it to the weights.
    """
    torch.testing.assert_close(flat(two["gradients"]), flat(one["gradients"]), rtol=1e-4, atol=2e-6)
    torch.testing.assert_close(flat(two["weights"]), flat(one["weights"]), rtol=1e-5, atol=1e-6)
    assert len(one["log"]) == len(two["log"]) == NUM_STEPS
    for first, second in zip(one["log"], two["log"], strict=True):
        for name in MEASURED:
            if first[name] is None:
                assert second[name] is None
            else:
                assert second[name] == pytest.approx(first[name], rel=1e-4, abs=1e-5)
        for name in ("step", "rows", "terms_dropped", "ess_keep", "ess_forget"):
            assert second[name] == first[name]


def assert_ends_as_alone(name: str, two: dict[str, Any], **options: Any) -> None:
    """Two processes did with an objective what one does, which moved the weights."""
    alone = make_trainer(UNPROMPTED[name](), **options)
    start = flat([param.detach().clone() for param in alone.params])
    alone.run()
    one = result(alone)
    assert_close_to(one, two)
    moved = flat(one["weights"]) - start
    assert moved.norm() > 100 * (flat(one["weights"]) - flat(two["weights"])).norm()
