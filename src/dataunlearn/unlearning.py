"""An unlearning run from start to end: check, look, train, measure, save, report."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from dataunlearn.combine import Combination
from dataunlearn.config import Training
from dataunlearn.data import ImageSet, Split, open_images, split_sets
from dataunlearn.data.images import ImageSource
from dataunlearn.data.sampler import PairSampler
from dataunlearn.generated_keep import generated_count, generated_images
from dataunlearn.metrics.copies import copy_threshold, distinct_indices
from dataunlearn.metrics.regeneration import regenerate
from dataunlearn.metrics.suite import Measurement, measure
from dataunlearn.models import DiffusionModel, load_model, save_model
from dataunlearn.models.loading import hash_weights
from dataunlearn.report.facts import RunFacts, Timing, write_facts
from dataunlearn.rundir import RunState, claim_run_dir, describe, finish_run_dir
from dataunlearn.seeding import mix_seed
from dataunlearn.trainer import Callback, StepPart, Trainer
from dataunlearn.unlearning_config import StopRule, Unlearning, without_run_place

QUICK_LOOK_COPIES = 16
Say = Callable[[str], None]


class NotMemorisedError(ValueError):
    """The model does not seem to reproduce what it should forget."""


@dataclass(frozen=True, eq=False)
class Job:
    """A run whose inputs were all checked.

    Attributes:
        config: The settings.
        model: The model, which the run changes in place.
        split: Keep and forget images.
        originals: The different forget images, ``(K, C, H, W)`` in [-1, 1].
        cond: Their class labels, or None.
        threshold: Pixel distance below which an image counts as a copy.
        training: The loop's numbers.
        combination: The rule, with the data's counts filled in.
    """

    config: Unlearning
    model: DiffusionModel
    split: Split
    originals: Tensor
    cond: Tensor | None
    threshold: float
    training: Training
    combination: Combination

    @property
    def parts(self) -> list[StepPart]:
        """What every step trains on."""
        sampler = PairSampler(
            self.split.keep,
            self.split.forget,
            self.model.process,
            batch_pairs=self.config.batch_pairs,
            timesteps=self.config.timesteps,
            seed=self.config.seed,
            num_classes=self.model.num_classes,
        )
        return [StepPart(sampler, self.config.objective)]


@dataclass(frozen=True, eq=False)
class UnlearnResult:
    """What a run returns.

    Attributes:
        pipeline: The pipeline that has forgotten.
        before: Measurements before.
        after: Measurements after.
        facts: Everything that stands in ``report.json``.
        log: One record per step.
        out: The run's folder, or None.
    """

    pipeline: Any = field(repr=False)
    before: Measurement = field(repr=False)
    after: Measurement = field(repr=False)
    facts: dict[str, Any] = field(repr=False)
    log: list[dict[str, Any]] = field(repr=False)
    out: Path | None

    @property
    def forgotten(self) -> bool:
        """The report's verdict."""
        return bool(self.facts["verdict"]["forgotten"])


def prepare(
    config: Unlearning,
    *,
    model: DiffusionModel | None = None,
    forget: ImageSource | None = None,
    keep: ImageSource | None = None,
    device: str | torch.device = "cpu",
    cache: Path | None = None,
    shown: bool = True,
) -> Job:
    """Load and check everything; nothing is trained or written (but the cache of drawn images).

    Args:
        config: The settings.
        model: A loaded model in place of ``config.model``.
        forget: Images in memory in place of ``config.forget``.
        keep: Likewise for ``config.keep``.
        device: Where to put a model that is loaded here.
        cache: Where generated keep images are kept for a resumed run.
        shown: Whether to draw progress.

    Raises:
        ValueError: On anything that does not fit, before any work.
    """
    count = generated_count(config.keep) if keep is None else None
    if model is None:
        model = load_model(config.model, scheduler=config.scheduler, device=device)
    model.denoiser.eval()
    forget_set = open_images(
        config.forget if forget is None else forget,
        model.shape,
        resize=config.resize,
        role="forget",
    )
    if count is None:
        keep_set = open_images(
            config.keep if keep is None else keep, model.shape, resize=config.resize, role="keep"
        )
    else:
        keep_set = generated_images(
            model, forget_set, count, seed=config.seed, cache=cache, shown=shown
        )
    return check_job(config, model, forget_set, keep_set)


def check_job(config: Unlearning, model: DiffusionModel, forget: ImageSet, keep: ImageSet) -> Job:
    """Check that data, model and settings fit each other."""
    split = split_sets(forget, keep, config.overlap)
    last = model.process.last_timestep
    if any(t > last for t in config.evaluation.regeneration_timesteps):
        raise ValueError(f"regeneration_timesteps must be at most {last} for this model")
    picked = torch.tensor(distinct_indices(split.forget))
    job = Job(
        config,
        model,
        split,
        split.forget.batch(picked),
        split.forget.labels(picked) if model.num_classes is not None else None,
        config.evaluation.threshold or copy_threshold(split.forget, split.keep),
        config.training(model.num_parameters),
        config.rule.with_counts(split.num_train, split.num_forget),
    )
    job.parts[0].sampler(0)  # labels and timesteps are checked by drawing once
    return job


def quick_look(job: Job) -> float:
    """Share of tries in which the model restores the forget images from half of the noise."""
    settings = job.config.evaluation
    return regenerate(
        job.model,
        job.originals,
        job.model.process.num_train_timesteps // 2,
        copies=QUICK_LOOK_COPIES,
        threshold=job.threshold,
        seed=settings.seed + 1,
        num_steps=settings.regeneration_steps,
        batch_size=settings.batch_size,
        cond=job.cond,
    ).share


def require_memorised(job: Job, say: Say) -> None:
    """Stop where there is nothing to forget, unless forced.

    Raises:
        NotMemorisedError: If no try restores a forget image.
    """
    share = quick_look(job)
    if share > 0:
        say(f"The model restores the forget images in {share:.0%} of a quick look's tries.")
        return
    message = (
        f"in {QUICK_LOOK_COPIES} tries the model did not restore a forget image from half of the "
        "noise: it does not seem to know the image(s) by heart, so there may be nothing to unlearn"
    )
    if not job.config.force:
        raise NotMemorisedError(f"{message}; give --force to unlearn all the same")
    say(f"Going on although {message}.")


def stop_callback(job: Job) -> Callback:
    """A callback that ends the run once the forget images are no longer restored."""
    rule: StopRule = job.config.stop
    middle = job.model.process.num_train_timesteps // 2

    def look(trainer: Trainer, steps_done: int) -> bool:
        if rule.every_steps == 0 or steps_done % rule.every_steps:
            return False
        trainer.model.denoiser.eval()
        found = regenerate(
            trainer.model,
            job.originals,
            middle if rule.timestep is None else rule.timestep,
            copies=rule.copies,
            threshold=job.threshold,
            seed=mix_seed(job.config.seed, steps_done),
            num_steps=job.config.evaluation.regeneration_steps,
            cond=job.cond,
        )
        trainer.model.denoiser.train()
        return found.share <= rule.regeneration_below

    return look


def tracker_callback(accelerator: Accelerator) -> Callback:
    """A callback that passes each step's numbers to accelerate's trackers."""

    def track(trainer: Trainer, steps_done: int) -> bool:
        record = trainer.log.records[-1]
        numbers = {k: v for k, v in record.items() if isinstance(v, (int, float)) and k != "step"}
        accelerator.log(numbers, step=steps_done)
        return False

    return track


def run_job(
    job: Job, *, accelerator: Accelerator | None = None, out: Path | None, say: Say, shown: bool
) -> UnlearnResult:
    """Measure, unlearn, measure again, save and report.

    With several processes all of them train and the main one measures and writes.
    """
    is_main = accelerator is None or accelerator.is_main_process
    if is_main:
        require_memorised(job, say)
        state = claim_run_dir(out, job_settings(job)) if out is not None else RunState.NEW
        if state is RunState.UNFINISHED:
            say(f"{out} holds an unfinished run with these settings: going on from there.")
    timing = Timing()
    hash_before = hash_weights(job.model)
    before = _measured(job, "before", timing, shown) if is_main else None
    trainer = Trainer(
        job.model,
        job.parts,
        job.combination,
        job.training,
        run_dir=out,
        accelerator=accelerator,
        callbacks=[stop_callback(job)]
        + ([tracker_callback(accelerator)] if accelerator and job.config.tracker else []),
        description="unlearning",
        shown=shown,
    )
    started = time.perf_counter()
    log = trainer.run()
    timing.unlearn_seconds = time.perf_counter() - started
    for note in trainer.notes:
        say(note)
    if not is_main or before is None:
        raise SystemExit(0)
    after = _measured(job, "after", timing, shown)
    facts = RunFacts(job, before, after, timing, hash_before, hash_weights(job.model), log)
    if out is not None:
        save_model(job.model, out / "model", getattr(torch, job.config.save_dtype))
        write_facts(facts, out)
        finish_run_dir(out)
    return UnlearnResult(job.model.pipeline, before, after, facts.as_json(), log, out)


def job_settings(job: Job) -> dict[str, Any]:
    """What identifies a run for resuming: settings, and the content of both image sets."""
    settings = without_run_place(describe(job.config))
    digest = job.split.forget.digest(0)
    return settings | {"forget_digest": digest, "num_train": job.split.num_train}


def _measured(job: Job, when: str, timing: Timing, shown: bool) -> Measurement:
    started = time.perf_counter()
    job.model.denoiser.eval()
    found = measure(
        job.model,
        job.originals,
        job.threshold,
        job.config.evaluation,
        cond=job.cond,
        label=f"measuring {when}",
        shown=shown,
    )
    timing.measure_seconds += time.perf_counter() - started
    return found
