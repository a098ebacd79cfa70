"""What is verified: a model, the pictures it had to forget, and what to compare with."""

from __future__ import annotations

from dataclasses import dataclass, replace

from dataunlearn.data import ImageSet, split_sets
from dataunlearn.data.split import require_unseen
from dataunlearn.metrics.never_seen import levels_of
from dataunlearn.models import DiffusionModel
from dataunlearn.models.base import require_comparable, set_guidance
from dataunlearn.runtime.checks import require
from dataunlearn.unlearning.config import Evaluation, Settings
from dataunlearn.unlearning.job import Job, check_job
from dataunlearn.unlearning.reference import Reference
from dataunlearn.unlearning.sources import Sources
from dataunlearn.verification.config import Extent, Verifying


@dataclass(frozen=True, eq=False)
class Pictures:
    """The pictures of a verification.

    Attributes:
        forget: What the model had to forget.
        keep: What it had to keep.
        held_out: Pictures that it never saw, or None.
        keep_source: Where the keep images come from, in words.
    """

    forget: ImageSet
    keep: ImageSet
    held_out: ImageSet | None = None
    keep_source: str = "in memory"


@dataclass(frozen=True, eq=False)
class Subject:
    """A model that is verified.

    Attributes:
        job: The model with its forget and keep images; its levels are from the model before, or
            None without one.
        before: The model before unlearning, or None.
        held_out: Pictures that the model never saw, or None.
        settings: How hard it is tried.
        shown: Whether to draw progress.
    """

    job: Job
    before: DiffusionModel | None
    held_out: ImageSet | None
    settings: Verifying
    shown: bool = True

    @property
    def model(self) -> DiffusionModel:
        """The model that is verified."""
        return self.job.model

    @property
    def reference(self) -> DiffusionModel | None:
        """A model that never saw the images, or None."""
        return None if self.job.reference is None else self.job.reference.model

    @property
    def has_comparison(self) -> bool:
        """Whether there is something without memory to stand beside the model's numbers."""
        return self.reference is not None or self.held_out is not None

    @property
    def extent(self) -> Extent:
        """What the effort comes to."""
        return self.settings.extent

    @property
    def num_images(self) -> int:
        """Different forget images that are looked at."""
        return len(self.job.originals)

    @property
    def middle(self) -> int:
        """Half of the noise levels."""
        return self.model.process.num_train_timesteps // 2


def make_subject(
    model: DiffusionModel,
    pictures: Pictures,
    settings: Verifying,
    *,
    before: DiffusionModel | None = None,
    reference: DiffusionModel | None = None,
    shown: bool = True,
) -> Subject:
    """Check that models and pictures fit each other, and measure levels by the model before.

    Args:
        model: The model to verify.
        pictures: Its pictures.
        settings: How hard it is tried.
        before: The model before unlearning, which still knows the images; or None.
        reference: A model that never saw them; or None.
        shown: Whether to draw progress.

    Raises:
        ValueError: If something does not fit, or a loss is not finite.
    """
    for other in (before, reference):
        if other is not None:
            require_comparable(other, model)
    for each in (model, before, reference):
        if each is not None:
            each.denoiser.eval()
            set_guidance(each, settings.guidance)
    run = run_settings(settings)
    if run.drop_overlap:
        split = split_sets(pictures.forget, pictures.keep, "drop")
        pictures = replace(pictures, keep=split.keep)
    sources = Sources("the forget images", pictures.keep_source)
    job = check_job(run, model, pictures.forget, pictures.keep, sources)
    require_useful(pictures, settings)
    if reference is not None:
        job = replace(job, reference=Reference(reference))
    if before is not None:
        forget, keep = job.split.forget, job.split.keep
        job = replace(job, levels=levels_of(before, forget, keep, seed=run.seed, shown=shown))
    return Subject(job, before, pictures.held_out, settings, shown)


def require_useful(pictures: Pictures, settings: Verifying) -> None:
    """Refuse held-out pictures that a model was trained on, or that no check would look at.

    Raises:
        ValueError: If there are any.
    """
    if pictures.held_out is None:
        return
    extent = settings.extent
    require(
        bool(extent.membership or extent.relearned),
        f"effort {settings.effort} has no use for held-out images: leave them out",
    )
    require_unseen(pictures.held_out, pictures.forget, pictures.keep)


def run_settings(settings: Verifying) -> Settings:
    """The settings of a run that measures as much."""
    extent = settings.extent
    evaluation = Evaluation(
        num_samples=extent.samples,
        sampling_steps=settings.sampling_steps,
        regeneration_copies=extent.tries,
        regeneration_steps=settings.regeneration_steps,
        threshold=settings.threshold,
        batch_size=settings.batch_size,
        seed=settings.seed,
    )
    return Settings(
        evaluation=evaluation,
        guidance=settings.guidance,
        drop_overlap=settings.drop_overlap,
        seed=settings.seed,
    )
