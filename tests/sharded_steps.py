"""Runs a few steps of every objective on a network in parts; started by test_sharding.py.

    python -m torch.distributed.run --nproc-per-node 2 sharded_steps.py FOLDER

The first process saves the results that the test compares.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import torch
from accelerate import Accelerator
from torch.distributed.tensor import DTensor

from dataunlearn.training.trainer import Trainer
from toy_levels import UNPROMPTED
from two_process_steps import CONFIG, NUM_STEPS, make_trainer, result, resumed

SHARDED = replace(CONFIG, shard=True)


def held_share(trainer: Trainer) -> float:
    """How much of all that is trained this process holds."""
    parts = sum(p.to_local().numel() for p in trainer.params if isinstance(p, DTensor))
    return parts / sum(p.numel() for p in trainer.params)


class Looking:
    """Runs the network on all processes after each step, as the looks of a run do."""

    def __init__(self) -> None:
        self.answers: list[torch.Tensor] = []

    def __call__(self, trainer: Trainer, steps_done: int) -> bool:
        noisy = torch.linspace(-1, 1, 128).reshape(2, 1, 8, 8)
        with torch.no_grad():
            answer = trainer.model.denoiser(noisy, torch.tensor([10, 500]), None)
        self.answers.append(answer.clone())
        return False


def main(folder: Path) -> None:
    accelerator = Accelerator(cpu=True)
    rank = accelerator.process_index
    results = {}
    for name, objective in UNPROMPTED.items():
        looking = Looking()
        own = folder / f"rank{rank}" / name
        trainer = make_trainer(
            objective(), own, accelerator, init_seed=rank, config=SHARDED, callbacks=[looking]
        )
        share = held_share(trainer)
        trainer.run()
        results[name] = result(trainer) | {"held": share, "looks": looking.answers}
        for param in trainer.model.denoiser.parameters():
            assert not isinstance(param, DTensor)
            both = accelerator.gather(param.detach().reshape(1, -1))
            assert torch.equal(both[0], both[1])
    trainer = make_trainer(
        UNPROMPTED["SISS"](), None, accelerator, every_steps=NUM_STEPS, config=SHARDED
    )
    trainer.run()
    results["lagged"] = result(trainer)
    results["resumed"] = resumed(folder / "resumed", accelerator, SHARDED)
    if rank == 0:
        torch.save(results, folder / "results.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
