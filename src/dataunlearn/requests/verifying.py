"""Verify that a version has forgotten what a request asked for."""

from __future__ import annotations

from dataclasses import dataclass

from dataunlearn.data import ImageSet
from dataunlearn.models import DiffusionModel
from dataunlearn.requests.ledger import now
from dataunlearn.requests.records import Request, Verification, Version
from dataunlearn.unlearning.config import Settings
from dataunlearn.unlearning.quick_look import (
    RECOGNISED_BELOW,
    is_recognised,
    loss_of_unseen,
    quick_look,
    ratio_words,
    recognised_singly,
)
from dataunlearn.verification.battery import Planned, checks_of, make_checks
from dataunlearn.verification.config import Effort, Verifying
from dataunlearn.verification.subject import Pictures, Subject, make_subject


@dataclass(frozen=True, eq=False)
class Verifier:
    """How requests are verified.

    Attributes:
        settings: Of the project's runs.
        keep: The pictures to keep.
        keep_source: Where they come from, in words.
        effort: How hard it is tried.
        shown: Whether to draw progress.
    """

    settings: Settings
    keep: ImageSet
    keep_source: str
    effort: Effort = "quick"
    shown: bool = True

    def known_by(self, model: DiffusionModel, images: ImageSet) -> str | None:
        """By what a model knows pictures at a quick look, in words; None if by nothing for certain.

        A single try that comes near a picture is not certain: near is wide, and any model comes
        near some pictures. Nor is the level of a picture that looks the same to the model through
        every view. Who is told None looks harder.
        """
        job = self.subject((model, model), images).job
        copies, ratio = quick_look(job).copies, loss_of_unseen(job)
        if copies > 0:
            return f"it restores them in {copies:.0%} of a quick look's tries"
        if job.levels is not None and not bool(job.levels.unfamiliar.all()):
            return None
        if not is_recognised(job):
            return None
        if ratio < RECOGNISED_BELOW:
            return f"its loss on them is {ratio_words(ratio)}"
        return f"it recognises {int(recognised_singly(job).sum())} of them by its loss"

    def verify(
        self,
        version: Version,
        models: tuple[DiffusionModel, DiffusionModel],
        request: Request,
        images: ImageSet,
    ) -> Verification:
        """Make the checks of the effort on a request's pictures.

        Args:
            version: The version.
            models: A model that still knows the pictures, which gives the level that losses are
                compared with, and the version's.
            request: The request.
            images: Its pictures.
        """
        subject = self.subject(models, images)
        plans = [Planned(check, check.lacks(subject), 0.0) for check in checks_of(subject)]
        found = make_checks(subject, plans, {}, lambda _: None)
        return Verification(
            *(version.id, request.id, self.effort, now(), found.memory.value),
            "; ".join(check.words for check in found.checks),
            {check.name: check.as_json() for check in found.checks},
            sum(check.seconds for check in found.checks),
        )

    def subject(self, models: tuple[DiffusionModel, DiffusionModel], images: ImageSet) -> Subject:
        """What is verified: a model that still knows pictures, the version's, and the pictures."""
        before, after = models
        evaluation = self.settings.evaluation
        how = Verifying(
            effort=self.effort,
            threshold=evaluation.threshold,
            sampling_steps=evaluation.sampling_steps,
            regeneration_steps=evaluation.regeneration_steps,
            batch_size=evaluation.batch_size,
            guidance=self.settings.guidance,
            seed=evaluation.seed,
        )
        pictures = Pictures(images, self.keep, None, self.keep_source)
        return make_subject(after, pictures, how, before=before, shown=self.shown)
