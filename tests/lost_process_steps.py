"""A run of two processes, the second of which is killed after two steps where it is told to.

    lost_process_steps.py FOLDER die|live

Started by test_two_processes.py, which compares what the first process saves.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from dataunlearn.runtime.processes import LostProcessError
from toy_levels import UNPROMPTED
from two_process_steps import make_trainer, result

LOST = 7


def die_after_two(trainer: Any, steps_done: int) -> bool:
    if steps_done == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return False


def main(folder: Path, fate: str) -> None:
    accelerator = Accelerator(cpu=True)
    rank = accelerator.process_index
    callbacks = [die_after_two] if fate == "die" and rank == 1 else []
    trainer = make_trainer(
        UNPROMPTED["SISS"](), folder / "lost", accelerator, rank, callbacks=callbacks
    )
    try:
        trainer.run()
    except LostProcessError as error:
        (folder / "said.txt").write_text(str(error))
        sys.exit(LOST)
    if rank == 0:
        torch.save(result(trainer), folder / "after_loss.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
