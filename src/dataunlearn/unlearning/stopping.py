"""When a run stops before its last step: forgotten, or as much harm done as was allowed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from dataunlearn.metrics.membership_scores import denoising_losses
from dataunlearn.metrics.never_seen import different_pictures, witness_of
from dataunlearn.metrics.pixel_distance import MOST_ORIGINALS
from dataunlearn.metrics.regeneration import Regeneration, quarter_timesteps, regenerate
from dataunlearn.models import DiffusionModel
from dataunlearn.models.sampling import Drawing
from dataunlearn.recognition.levels import LEAST_RECOGNITION
from dataunlearn.runtime.seeding import mix_seed, random_stream
from dataunlearn.runtime.streams import BUDGET_STREAM
from dataunlearn.training.trainer import Callback, Trainer
from dataunlearn.unlearning.control import Control, control, share_of_each
from dataunlearn.unlearning.job import Job
from dataunlearn.unlearning.method import QualityBudget, StopRule

SETTLED_LOOKS_ARE_RARER = 3
# While settling an image counts as arrived down to this share of where it counted before.
STILL_ARRIVED = 0.85
LOOK_DRAWS = 2
# One image's level is uncertain by a factor of 1.5; their mean is what has to arrive.
NEAR_SHARE = 2 / 3
# Share of tries that may be restored by a model that is at the level, and fewest tries of each.
RESTORED_AT_LEVEL, TRIES_OF_EACH = 1 / 8, 3
# Where more pictures come back that a model never saw, one that comes back need not be known.
MOST_RESTORED_UNSEEN = 0.5


def stop_callback(job: Job) -> Callback:
    """A callback that stops forgetting once it is done, as the job's stop rule has it."""
    return level_callback(job) if job.config.stops_at_level else restored_callback(job)


def restored_callback(job: Job) -> Callback:
    """A callback that stops forgetting once the forget images are no longer restored."""
    return look_callback(job.config.stop, gone_look(job))


def gone_look(job: Job) -> Callback:
    """A look whether hardly a try restores the forget images, as the job's stop rule has it.

    What the model restores as often of pictures that it never saw does not count; where it restores
    most of those, coming back tells nothing.
    """
    rule = job.config.stop

    def gone(trainer: Trainer, steps_done: int) -> bool:
        found = tries_to_restore(job, trainer.model, steps_done, rule.copies)
        trainer.record["restored"] = found.share
        if found.share <= (rule.regeneration_below or 0.0):
            return True
        never = tries_at_unseen(job, trainer.model, steps_done, rule.copies)
        return never is not None and found.share <= never.share <= MOST_RESTORED_UNSEEN

    return gone


def tries_to_restore(job: Job, model: DiffusionModel, steps_done: int, copies: int) -> Regeneration:
    """Tries to restore the forget images after so many steps, each look with noise of its own."""
    timestep, drawing = how_tried(job, steps_done)
    return regenerate(
        model, job.originals, timestep, copies=copies, threshold=job.threshold, drawing=drawing
    )


def tries_at_unseen(
    job: Job, model: DiffusionModel, steps_done: int, copies: int
) -> Control | None:
    """The same tries at pictures that the model never saw; None where there are none."""
    timestep, drawing = how_tried(job, steps_done)
    return control(job, model, timestep, copies, drawing)


def how_tried(job: Job, steps_done: int) -> tuple[int, Drawing]:
    """The noise level that forget images are restored from at a look, and how."""
    timestep, steps = job.config.stop.timestep, job.model.process.num_train_timesteps
    drawing = Drawing(
        seed=mix_seed(job.config.seed, steps_done),
        num_steps=job.config.evaluation.regeneration_steps,
        cond=job.cond,
    )
    return steps * 45 // 100 if timestep is None else timestep, drawing


def level_callback(job: Job) -> Callback:
    """A callback that stops forgetting once the images are at their levels and not restored.

    All of them must be near, and their mean must have arrived. What the model loses on an image is
    compared with its level at the noise levels where it was recognised, with the noise that the
    level was measured with. An image has arrived if it is at its level and is not restored. While
    the model settles, what comes back must be more than an accident of some tries: forgetting
    again costs the other pictures what they have recovered. Nor does count what the model restores
    as often of pictures that it never saw.
    """
    rule = job.config.stop
    below = RESTORED_AT_LEVEL if rule.regeneration_below is None else rule.regeneration_below

    def forgotten(trainer: Trainer, steps_done: int) -> bool:
        ratio = level_ratios(job, trainer.model)  # (K,)
        done = trainer.settled_after is not None
        bound = rule.arrived_from * (STILL_ARRIVED if done else 1)
        arrived, mean = ratio >= bound, float(ratio.log().mean().exp())
        near = mean >= bound and bool((ratio >= NEAR_SHARE * bound).all())
        is_restored = not near
        if near or done:
            copies = max(rule.copies, TRIES_OF_EACH * min(len(ratio), MOST_ORIGINALS))
            found = tries_to_restore(job, trainer.model, steps_done, copies)
            trainer.record["restored"] = found.share
            restored = found.interval[0] if done else found.share
            shares = shares_of_each(found.distances < job.threshold, len(ratio))
            each, is_restored = shares <= RESTORED_AT_LEVEL, restored > below
            if is_restored:
                never = tries_at_unseen(job, trainer.model, steps_done, copies)
                if never is not None:
                    each |= shares <= never.by_image
                    is_restored = restored > never.share
            arrived &= each
        trainer.arrived = arrived.tolist()
        trainer.record |= {"of_level": mean, "arrived": sum(trainer.arrived)}
        return near and not is_restored

    latest = round(rule.settle_by * job.training.steps) if job.config.is_aimed else None
    return look_callback(rule, forgotten, latest)


def shares_of_each(restored: Tensor, num_images: int) -> Tensor:
    """The share of its own tries that restores each image ``(K,)``; 0 of those without any.

    Args:
        restored: Whether each try does, ``(N,)`` bool, dealt out evenly to the first images.
        num_images: K.
    """
    owner = torch.arange(len(restored)) % min(num_images, MOST_ORIGINALS)
    return share_of_each(restored, owner, num_images)


def level_ratios(job: Job, model: DiffusionModel) -> Tensor:
    """What the model loses on each forget image over its level, ``(K,)`` float64.

    The geometric mean over the noise levels at which the image was recognised; 1 where it was at
    none, since there is nothing to forget.
    """
    levels = job.levels
    assert levels is not None
    forget = different_pictures(model, job.split.forget)
    draws = min(LOOK_DRAWS, levels.level.shape[2])
    witness = replace(witness_of(model, len(forget), job.config.seed), num_draws=draws)
    known = levels.recognition >= LEAST_RECOGNITION  # (K, T)
    columns = known.any(0).nonzero().flatten()
    if not len(columns):
        return torch.ones(len(forget), dtype=torch.float64)
    timesteps = [levels.timesteps[column] for column in columns.tolist()]
    losses = witness.mean_losses(forget, timesteps).mean(2)
    level = levels.level[:, columns, :draws].mean(2)
    logs = torch.where(known[:, columns], (losses / level).log(), 0.0).sum(1)
    return (logs / known.sum(1).clamp(min=1)).exp()


def look_callback(
    rule: StopRule, forgotten: Callable[[Trainer, int], bool], latest: int | None = None
) -> Callback:
    """A callback that stops forgetting once ``forgotten`` says so.

    It goes on looking while the model settles, less often, and lets it forget again if something
    comes back.

    Args:
        rule: How often to look.
        forgotten: Looks at the model after so many steps.
        latest: From this step on the model settles, whatever the looks say, and between two of
            them as well; None for no such step.
    """

    def look(trainer: Trainer, steps_done: int) -> bool:
        pulls = trainer.settled_after is None
        late = latest is not None and steps_done >= latest
        rarer = 1 if pulls else SETTLED_LOOKS_ARE_RARER
        due = rule.every_steps > 0 and steps_done % (rarer * rule.every_steps) == 0
        if not due and not (rule.settles and pulls and late):
            return False
        is_forgotten = forgotten(trainer, steps_done)
        settles = is_forgotten or late
        if pulls:
            return settles and trainer.settle()
        if not settles:
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
        draws=range(1),
        seed=job.config.seed,
        batch_size=job.config.evaluation.batch_size,
        cond=model.space.conditions(keep, rows),
    )
