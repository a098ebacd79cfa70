"""Runs a few steps of every objective; started by test_two_processes.py in two processes.

    python -m torch.distributed.run --nproc-per-node 2 two_process_steps.py FOLDER

Each process keeps to a run folder named by its rank, so that a file in the second one's folder
would show. The first process saves the results that the test compares.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel

from dataunlearn.base_models.config import BaseModel
from dataunlearn.base_models.pixel import train_base
from dataunlearn.data import ArrayImages
from dataunlearn.models.families import wrap_pipeline
from dataunlearn.objectives import Objective
from dataunlearn.runtime.interrupt import InterruptedRunError
from dataunlearn.training import lagged
from dataunlearn.training.config import Ema, Training
from dataunlearn.training.engine import trainable
from dataunlearn.training.pairs import PairSampler
from dataunlearn.training.parts import whole
from dataunlearn.training.phase import Phase, StepPart
from dataunlearn.training.trainer import Trainer
from toy_levels import UNPROMPTED, prepared

NUM_STEPS = 3
UNET: dict[str, Any] = {
    "sample_size": 8,
    "in_channels": 1,
    "out_channels": 1,
    "layers_per_block": 1,
    "block_out_channels": (8,),
    "norm_num_groups": 4,
    "attention_head_dim": 4,
    "down_block_types": ("DownBlock2D",),
    "up_block_types": ("UpBlock2D",),
}
CONFIG = Training(
    steps=NUM_STEPS,
    batch_pairs=5,
    learning_rate=0.05,
    micro_batch_rows=2,
    checkpoint_every_steps=2,
    seed=4,
)


def pictures(count: int, seed: int) -> ArrayImages:
    pixels = np.random.default_rng(seed).integers(0, 256, (count, 1, 8, 8), dtype=np.uint8)
    return ArrayImages(pixels)


def make_trainer(
    objective: Objective,
    run_dir: Path | None = None,
    accelerator: Accelerator | None = None,
    init_seed: int = 0,
    every_steps: int = 1,
    config: Training = CONFIG,
    **options: Any,
) -> Trainer:
    """A trainer that steps along the gradient itself.

    AdamW divides each gradient by its own size, so where a gradient is zero but for rounding (the
    bias of an attention's keys) it would step by the full rate in a random direction.
    """
    torch.manual_seed(init_seed)
    pipeline = DDPMPipeline(UNet2DModel(**UNET), DDPMScheduler())
    model = wrap_pipeline(pipeline)
    sampler = PairSampler(
        pictures(9, 0), pictures(3, 1), model.process, batch_pairs=CONFIG.batch_pairs, seed=4
    )
    images = sampler.forget.batch(torch.arange(len(sampler.forget)))
    objective = prepared(objective, model.process, images)
    trainer = Trainer(
        model,
        [Phase([StepPart(sampler, objective)], objective.default_combination, every_steps)],
        config,
        run_dir=run_dir,
        accelerator=accelerator,
        shown=False,
        **options,
    )
    trainer.lagged.measured = lagged.EXACT_AT_FIRST - 1
    trainer.optimizer = torch.optim.SGD(trainer.params, lr=CONFIG.learning_rate, momentum=0.9)
    return trainer


def result(trainer: Trainer) -> dict[str, Any]:
    """Weights, last gradients and log of a run."""
    return {
        "weights": [param.detach().clone() for param in trainable(trainer.model.denoiser)],
        "gradients": list(whole({str(i): p.grad for i, p in enumerate(trainer.params)}).values()),
        "log": trainer.log.records,
    }


def base_model(folder: Path) -> BaseModel:
    """Two steps of base training with one sample grid."""
    np.save(folder / "pictures.npy", np.stack([pictures(6, 2).pixels(i)[0] for i in range(6)]))
    training = Training(steps=2, batch_pairs=4, learning_rate=1e-3, ema=Ema())
    return BaseModel(UNET, str(folder / "pictures.npy"), training, sample_every_steps=2)


def interrupt_after_one(trainer: Trainer, steps_done: int) -> bool:
    if steps_done == 1:
        trainer.save()
        raise InterruptedRunError(steps_done, trainer.loop.run_dir)
    return False


def resumed(folder: Path, accelerator: Accelerator, config: Training = CONFIG) -> dict[str, Any]:
    """What a run comes to that is interrupted after a step, and goes on from other weights."""
    for init_seed, callbacks in ((0, [interrupt_after_one]), (7 + accelerator.process_index, [])):
        trainer = make_trainer(
            UNPROMPTED["SISS"](),
            folder,
            accelerator,
            init_seed,
            config=config,
            callbacks=callbacks,
        )
        with suppress(InterruptedRunError):
            trainer.run()
        accelerator.wait_for_everyone()
    return result(trainer)


def main(folder: Path) -> None:
    accelerator = Accelerator(cpu=True)
    assert accelerator.num_processes == 2
    rank = accelerator.process_index
    own = folder / f"rank{rank}"
    results = {}
    for name, objective in UNPROMPTED.items():
        trainer = make_trainer(objective(), own / name, accelerator, init_seed=rank)
        trainer.run()
        results[name] = result(trainer)
        for param in trainer.params:
            both = accelerator.gather(param.detach().reshape(1, -1))
            assert torch.equal(both[0], both[1])
    trainer = make_trainer(UNPROMPTED["SISS"](), None, accelerator, every_steps=NUM_STEPS)
    trainer.run()
    results["lagged"] = result(trainer)
    results["resumed"] = resumed(folder / "resumed", accelerator)
    if rank == 0:
        torch.save(results, folder / "results.pt")
    (folder / f"base{rank}").mkdir()
    model = train_base(
        base_model(folder / f"base{rank}"), own / "base", accelerator=accelerator, shown=False
    )
    assert (model / "model_index.json").is_file() == (rank == 0)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
