"""When a run stops before its last step: forgotten, or as much harm done as was allowed."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from dataunlearn.metrics.membership import denoising_losses
from dataunlearn.metrics.regeneration import quarter_timesteps, regenerate
from dataunlearn.models.sampling import Drawing
from dataunlearn.runtime.seeding import mix_seed, random_stream
from dataunlearn.runtime.streams import BUDGET_STREAM
from dataunlearn.training.trainer import Callback, Trainer
from dataunlearn.unlearning.job import Job
from dataunlearn.unlearning.method import QualityBudget, StopRule

SETTLED_LOOKS_ARE_RARER = 3


def stop_callback(job: Job) -> Callback:
    """A callback that stops forgetting once the forget images are no longer restored."""
    rule: StopRule = job.config.stop
    timestep = job.model.process.num_train_timesteps * 45 // 100

    def forgotten(trainer: Trainer, steps_done: int) -> bool:
        found = regenerate(
            trainer.model,
            job.originals,
            timestep if rule.timestep is None else rule.timestep,
            copies=rule.copies,
            threshold=job.threshold,
            drawing=Drawing(
                seed=mix_seed(job.config.seed, steps_done),
                num_steps=job.config.evaluation.regeneration_steps,
                cond=job.cond,
            ),
        )
        trainer.record["restored"] = found.share
        return found.share <= rule.regeneration_below

    return look_callback(rule, forgotten)


def look_callback(rule: StopRule, forgotten: Callable[[Trainer, int], bool]) -> Callback:
    """A callback that stops forgetting once ``forgotten`` says so.

    It goes on looking while the model settles, less often, and lets it forget again if something
    comes back.

    Args:
        rule: How often to look.
        forgotten: Looks at the model after so many steps.
    """

    def look(trainer: Trainer, steps_done: int) -> bool:
        rarer = 1 if trainer.settled_after is None else SETTLED_LOOKS_ARE_RARER
        if rule.every_steps == 0 or steps_done % (rarer * rule.every_steps):
            return False
        is_forgotten = forgotten(trainer, steps_done)
        if trainer.settled_after is None:
            return is_forgotten and trainer.settle()
        if not is_forgotten:
            trainer.forget_again()
        return False

    return look


def budget_callback(job: Job, budget: QualityBudget) -> Callback:
    """A callback that ends the run once keep images stay denoised worse than the budget allows.

    The loss is taken on the same keep images, timesteps and noise before the first step and at
    every look, so that only the model's change moves it. The run must have remembered the model
    before the first step; it ends with the weights of the last look within the budget.
    """
    keep = job.split.keep
    order = torch.randperm(len(keep), generator=random_stream(job.config.seed, BUDGET_STREAM))
    rows = order[: budget.num_images]
    before = float(keep_losses(job, rows).mean())

    def look(trainer: Trainer, steps_done: int) -> bool:
        is_last = steps_done == trainer.config.steps
        if steps_done % budget.every_steps and not is_last:
            return False
        with trainer.averaged():
            damage = float(keep_losses(job, rows).mean()) / before - 1
        trainer.record["damage"] = damage
        if damage <= budget.loss_increase:
            trainer.remember()
            return False
        if steps_done - trainer.remembered_at < budget.patience and not is_last:
            return False
        trainer.go_back()
        trainer.notes.append(
            f"Above the quality budget from step {trainer.remembered_at} to {steps_done}: the "
            f"model is that after step {trainer.remembered_at}."
        )
        return True

    return look


def keep_losses(job: Job, rows: Tensor) -> Tensor:
    """Denoising losses of some keep images at a quarter, a half and three quarters of the noise."""
    keep, model = job.split.keep, job.model
    return denoising_losses(
        model,
        keep.batch(rows),
        quarter_timesteps(model.process)[:3],
        num_draws=1,
        seed=job.config.seed,
        batch_size=job.config.evaluation.batch_size,
        cond=model.space.conditions(keep, rows),
    )
