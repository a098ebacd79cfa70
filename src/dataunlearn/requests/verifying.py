"""Verify that a version has forgotten what each request asked for."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any

from dataunlearn.data import ImageSet
from dataunlearn.metrics.never_seen import levels_of, losses_at_levels, over_level
from dataunlearn.models import DiffusionModel
from dataunlearn.models.base import set_guidance
from dataunlearn.requests.ledger import now
from dataunlearn.requests.records import Request, Verification, Version
from dataunlearn.unlearning.config import Evaluation, Settings
from dataunlearn.unlearning.job import Job, Sources, check_job
from dataunlearn.unlearning.judging import control_shares, over_level_numbers
from dataunlearn.unlearning.measuring import Asked, Measurement, measure
from dataunlearn.unlearning.quick_look import (
    RECOGNISED_BELOW,
    loss_of_unseen,
    quick_look,
)
from dataunlearn.unlearning.verdict import NoMemory, Verdict, against_level, reproduction

QUICK = "quick"
# Tries for each noise level of a quick look: none that come back of 32 are at most 11 %.
QUICK_TRIES = 32


@dataclass(frozen=True, eq=False)
class Verifier:
    """How requests are verified.

    Attributes:
        settings: Of the project's runs.
        keep: The pictures to keep.
        keep_source: Where they come from, in words.
        shown: Whether to draw progress.
    """

    settings: Settings
    keep: ImageSet
    keep_source: str
    shown: bool = True

    def job(self, model: DiffusionModel, request: Request, images: ImageSet) -> Job:
        """A request as the job of a run, which is not run."""
        set_guidance(model, self.settings.guidance)
        sources = Sources(f"request {request.id}", self.keep_source)
        evaluation = replace(
            self.settings.evaluation, num_samples=0, regeneration_copies=QUICK_TRIES, digits=False
        )
        settings = replace(self.settings, evaluation=evaluation)
        return check_job(settings, model, images, self.keep, sources)

    def is_known(self, model: DiffusionModel, request: Request, images: ImageSet) -> bool:
        """Whether a model restores a request's pictures, or recognises them by its loss."""
        job = self._with_levels(self.job(model, request, images), model)
        return quick_look(job).near > 0 or loss_of_unseen(job) < RECOGNISED_BELOW

    def verify(
        self,
        version: Version,
        models: tuple[DiffusionModel, DiffusionModel],
        request: Request,
        images: ImageSet,
    ) -> Verification:
        """Look at a request's pictures in a version's model: are they restored, are they known?

        Args:
            version: The version.
            models: A model that still knows the pictures, which gives the level that losses are
                compared with, and the version's.
            request: The request.
            images: Its pictures.
        """
        started = time.perf_counter()
        before, after = models
        job = self._with_levels(self.job(after, request, images), before)
        measured = self._measured(job)
        verdict, numbers = self._judged(job, measured)
        return Verification(
            *(version.id, request.id, QUICK, now()),
            *(verdict.memory.value, "; ".join(f.words for f in verdict.memory_findings)),
            numbers,
            time.perf_counter() - started,
        )

    def _with_levels(self, job: Job, before: DiffusionModel) -> Job:
        seed, split = job.config.seed, job.split
        levels = levels_of(before, split.forget, split.keep, seed=seed, shown=self.shown)
        return replace(job, levels=levels)

    def _measured(self, job: Job) -> Measurement:
        settings: Evaluation = job.config.evaluation
        return measure(
            job.model,
            job.originals,
            job.threshold,
            settings,
            cond=job.cond,
            asked=Asked(job.prompts),
            label=f"verifying {job.sources.forget}",
            shown=self.shown,
        )

    @staticmethod
    def _judged(job: Job, measured: Measurement) -> tuple[Verdict, dict[str, Any]]:
        levels, middle = job.levels, job.model.process.num_train_timesteps // 2
        assert levels is not None
        usual = NoMemory(control=control_shares(job, measured, middle))
        losses = losses_at_levels(job.model, job.split.forget, levels, job.config.seed)
        over = over_level(levels, losses)
        findings = [
            reproduction(measured, middle, usual),
            against_level(over, (~levels.unfamiliar).tolist()),
        ]
        return Verdict(findings, []), measured.numbers | over_level_numbers(over)
