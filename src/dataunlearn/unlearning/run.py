"""An unlearning run from start to end: look, measure, train, measure again, save, report."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from dataunlearn.models import save_model
from dataunlearn.models.lora import merge_lora, save_lora
from dataunlearn.models.saving import hash_weights
from dataunlearn.runtime.checks import require
from dataunlearn.runtime.processes import require_processes
from dataunlearn.runtime.progress import Say
from dataunlearn.runtime.run_folder import RunFolder
from dataunlearn.training.importance_weights import collapse_warning
from dataunlearn.training.phase import StepPart
from dataunlearn.training.trainer import Callback, Trainer
from dataunlearn.unlearning.facts import Course, RunFacts, Timing, write_facts
from dataunlearn.unlearning.holding import held
from dataunlearn.unlearning.job import Job
from dataunlearn.unlearning.judging import judge_run, losses_now, losses_of_reference
from dataunlearn.unlearning.kept_measurement import keep_measurement, kept_measurement
from dataunlearn.unlearning.measuring import Asked, Measurement, measure
from dataunlearn.unlearning.model_card import write_model_card
from dataunlearn.unlearning.preparing import looked_at, other_prompts, prepared
from dataunlearn.unlearning.quick_look import require_memorised
from dataunlearn.unlearning.restraining import restraint_of
from dataunlearn.unlearning.stopping import budget_callback, stop_callback
from dataunlearn.unlearning.tracking import tracked, tracker_callback


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
        """Whether the images are not known any more, as far as can be told."""
        return bool(self.facts["verdict"]["forgotten"])

    @property
    def exit_code(self) -> int:
        """0 as if never seen and quality kept; 4 still known; 5 anything else."""
        return int(self.facts["verdict"]["exit_code"])


def run_job(
    job: Job,
    *,
    out: Path | None,
    say: Say,
    accelerator: Accelerator | None = None,
    overwrite: bool = False,
    measured: Measurement | None = None,
    shown: bool = True,
) -> UnlearnResult | None:
    """Measure, unlearn, measure again, save and report.

    With several processes all of them train, and the main one measures and writes.

    Args:
        job: What to do.
        out: Folder for the model, the log and the report; None keeps everything in memory.
        say: Where lines for a person go.
        accelerator: Processes and device; None is a single process where the model already is.
        overwrite: Replace a run in ``out``.
        measured: The measurement before, where an earlier run took it of the same model, images
            and settings; None takes it.
        shown: Whether to draw progress.

    Returns:
        The result on the main process, None on the others.

    Raises:
        NotMemorisedError: If there is nothing to forget.
        InterruptedRunError: After Ctrl-C, with the state saved.
        ValueError: If what is asked for does not fit.
    """
    timing = Timing()
    if job.config.shard:
        require_processes(accelerator)
    hash_before = hash_weights(job.model)
    job = looked_at(job, shown=shown)
    is_main = accelerator is None or accelerator.is_main_process
    if is_main:
        begin(job, say)
    job = prepared(job, shown=shown)  # what does not fit the method is told before any work
    with held(job, out, say, accelerator, overwrite=overwrite, hash_before=hash_before) as place:
        course = _Course(job, place, say if is_main else None, accelerator, timing, shown)
        return course.run(hash_before, measured)


@dataclass(frozen=True, eq=False)
class _Course:
    """A run that has its folder.

    Attributes:
        job: What to do.
        place: The folder; None keeps everything in memory.
        say: Where lines for a person go; None on all processes but the main one.
        accelerator: Processes and device.
        timing: The clock.
        shown: Whether to draw progress.
    """

    job: Job
    place: RunFolder | None
    say: Say | None
    accelerator: Accelerator | None
    timing: Timing
    shown: bool

    def run(self, hash_before: str, measured: Measurement | None) -> UnlearnResult | None:
        job, timing, shown = self.job, self.timing, self.shown
        folder = None if self.place is None else self.place.folder
        before = reference = None
        if self.say is not None:
            before, losses = measured or self._before(), losses_now(job)
            wrong = before.broken
            require(wrong is None, f"{job.model.source} cannot be measured: {wrong}")
            reference = measure_reference(job, shown)
        if self.accelerator is not None:
            self.accelerator.wait_for_everyone()
        trainer = make_trainer(job, folder, self.accelerator, shown=shown)
        with tracked(self.accelerator, job.config.tracker):
            log = _trained(trainer, timing, self.say)
        if job.config.lora is not None:
            finish_lora(job, folder if before is not None else None)
        if before is None:
            return None
        after = self._measured("after")
        both = losses, losses_now(job)
        judgement = judge_run(job, (before, after), both, losses_of_reference(job), reference)
        hashes = hash_before, hash_weights(job.model)
        course = Course(log, trainer.settled_after, trainer.went_back_to, trainer.phase.forgets)
        facts = RunFacts(job, before, after, timing, *hashes, course, judgement, reference)
        if self.place is not None:
            self._keep(facts, self.place)
        out = None if self.place is None else self.place.out
        return UnlearnResult(job.model.pipeline, before, after, facts.content, log, out)

    @cached_property
    def _asked(self) -> Asked:
        """What samples before and after are asked for."""
        return Asked(self.job.prompts, other_prompts(self.job))

    def _before(self) -> Measurement:
        """The measurement before: an interrupted run's, or a new one, kept for one that goes on."""
        job, folder = self.job, None if self.place is None else self.place.folder
        if folder is None:
            return self._measured("before")
        kept = kept_measurement(folder, job.originals, job.threshold, job.config.evaluation)
        if kept is not None:
            return kept
        found = self._measured("before")
        keep_measurement(folder, found)
        return found

    def _measured(self, when: str) -> Measurement:
        job, started = self.job, time.perf_counter()
        job.model.denoiser.eval()
        found = measure(
            job.model,
            job.originals,
            job.threshold,
            job.config.evaluation,
            cond=job.cond,
            asked=self._asked,
            label=f"measuring {when}",
            shown=self.shown,
        )
        self.timing.measure_seconds += time.perf_counter() - started
        return found

    def _keep(self, facts: RunFacts, place: RunFolder) -> None:
        """Write what the run has found, and end it."""
        dtype = getattr(torch, self.job.config.save_dtype)
        save_model(self.job.model, place.folder / "model", dtype)
        write_model_card(place.folder / "model", facts.content)
        write_facts(facts, place.folder)
        place.finish()


def begin(job: Job, say: Say) -> None:
    """Say what was read, and make sure that there is something to forget.

    Raises:
        NotMemorisedError: If there is nothing to forget.
    """
    for line in job.pictures:
        say(line)
    require_memorised(job, say)


def finish_lora(job: Job, out: Path | None) -> None:
    """Keep the adapter in ``out/lora``, if there is a folder, and merge it into the model."""
    if out is not None:
        save_lora(job.model, out / "lora")
    merge_lora(job.model)


def say_what_happened(trainer: Trainer, say: Say) -> None:
    """Say what a person should know about the steps that were done."""
    for note in trainer.notes:
        say(note)
    if trainer.settled_after is not None and trainer.phase.forgets:
        say(f"Settled after {trainer.settled_after} steps: from there on with a gentler pull.")
    elif trainer.settled_after is not None:
        say(f"Forgotten after {trainer.settled_after} steps; the rest went to the keep images.")


def make_trainer(
    job: Job,
    out: Path | None,
    accelerator: Accelerator | None,
    *,
    extra_parts: Sequence[StepPart] = (),
    stop: Callback | None = None,
    shown: bool = True,
) -> Trainer:
    """The training loop of a job, with its stop rule, budget and tracker.

    Args:
        job: What to train on, and how.
        out: The run's folder, for log and checkpoints; None keeps nothing.
        accelerator: Processes and device; None is a single process where the model is.
        extra_parts: What joins every step.
        stop: The stop rule's look; None looks whether the forget images are restored.
        shown: Whether to draw progress.
    """
    job = prepared(job, shown=shown)
    restraint = restraint_of(job, shown=shown)
    callbacks = [stop or stop_callback(job)]
    if job.config.budget is not None:
        callbacks.append(budget_callback(job, job.config.budget))
    if accelerator is not None and job.config.tracker is not None:
        callbacks.append(tracker_callback(accelerator))
    trainer = Trainer(
        job.model,
        [replace(phase, restraint=restraint) for phase in job.phases(extra_parts)],
        job.training,
        run_dir=out,
        accelerator=accelerator,
        callbacks=callbacks,
        description="unlearning",
        shown=shown,
    )
    if job.config.budget is not None:
        trainer.remember()  # what to go back to if the first looks are above the budget already
    return trainer


def measure_reference(job: Job, shown: bool) -> dict[str, Any] | None:
    """The reference's numbers for the report; None without a reference."""
    if job.reference is None:
        return None
    settings, model = job.config.evaluation, job.reference.model
    cond = None if model is None else job.conditions_for(model)
    return job.reference.measured(
        job.originals, job.threshold, settings, cond=cond, prompts=job.prompts, shown=shown
    )


def _trained(trainer: Trainer, timing: Timing, say: Say | None) -> list[dict[str, Any]]:
    warning = collapse_warning(trainer.phase.parts, trainer.rows)
    if warning is not None and say is not None:
        say(warning)
    started = time.perf_counter()
    log = trainer.run()
    trainer.use_average()
    timing.unlearn_seconds = trainer.seconds
    timing.earlier_seconds = max(0.0, trainer.seconds - (time.perf_counter() - started))
    if say is not None:
        say_what_happened(trainer, say)
    return log
