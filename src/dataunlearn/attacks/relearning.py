"""Relearning: how many steps of training until a forgotten image is restored again?

What was only hidden comes back by training on other pictures alone (concept resurgence: Suriyakumar
et al. 2024, arXiv 2410.08074; for images arXiv 2512.03564), or sooner than in a model that never
saw it. The number of steps alone proves nothing: it stands beside the same number of a reference.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from dataunlearn.attacks.config import Relearning
from dataunlearn.attacks.courses import Beside, Course, Look, Relearned
from dataunlearn.data import ArrayImages, ImageSet, SubsetImages, split_sets
from dataunlearn.data.opening import ImageSource
from dataunlearn.data.pixels import to_uint8
from dataunlearn.metrics.pixel_distance import MOST_ORIGINALS, copy_threshold, distinct_indices
from dataunlearn.metrics.regeneration import regenerate
from dataunlearn.models import DiffusionModel
from dataunlearn.models.base import require_comparable
from dataunlearn.models.pictures import open_for
from dataunlearn.models.sampling import Drawing
from dataunlearn.objectives import NaiveDeletion
from dataunlearn.runtime.checks import require
from dataunlearn.runtime.interrupt import InterruptedRunError
from dataunlearn.training.config import default_learning_rate
from dataunlearn.training.pairs import PairSampler
from dataunlearn.training.phase import Phase, StepPart
from dataunlearn.training.trainer import Trainer
from dataunlearn.views import plain_views


@dataclass(frozen=True, eq=False)
class Case:
    """A model, and the pictures that it might come to restore.

    Attributes:
        model: The model, which stays as it is.
        images: The pictures, all different.
        threshold: Pixel distance below which a try counts as restored.
    """

    model: DiffusionModel
    images: ImageSet
    threshold: float

    @cached_property
    def originals(self) -> Tensor:
        """The pictures ``(K, C, H, W)`` in [-1, 1]."""
        return self.images.batch(torch.arange(len(self.images)))

    def sampler(self, pictures: ImageSet, settings: Relearning, seed: int) -> PairSampler:
        """The batches of pictures that a copy of the model is trained on."""
        return PairSampler(
            pictures,
            None,
            self.model.process,
            batch_pairs=settings.batch_images,
            seed=seed,
            space=self.model.space,
        )

    def look(self, model: DiffusionModel, settings: Relearning, seed: int, step: int) -> Look:
        """How many tries a trained copy of the model restores; the noise depends on the seed."""
        assert settings.timestep is not None
        drawing = Drawing(
            seed=seed,
            num_steps=settings.regeneration_steps,
            batch_size=settings.micro_batch_rows,
            cond=model.space.conditions(self.images, torch.arange(len(self.images))),
        )
        found = regenerate(
            model,
            self.originals,
            settings.timestep,
            copies=settings.tries,
            threshold=self.threshold,
            drawing=drawing,
        )
        return Look(step, int((found.distances < self.threshold).sum()), len(found.distances))


def relearn(
    model: DiffusionModel,
    forget: ImageSource,
    keep: ImageSource,
    settings: Relearning | None = None,
    *,
    reference: DiffusionModel | None = None,
    unseen: ImageSource | None = None,
    shown: bool = True,
) -> Relearned:
    """Train copies of a model, and look when they restore the forget images again.

    Args:
        model: The unlearned model, which stays as it is.
        forget: What it had to forget, in any form that ``dataunlearn.unlearn`` takes; of many, the
            first 64 different ones are looked at.
        keep: What it had to keep, likewise, without the forget images.
        settings: What is trained on, and for how long; ``Relearning()`` by default.
        reference: A model that never saw the forget images, put through the same; or None.
        unseen: Without a reference: pictures that the model never saw, as many of which are put
            through the same, with a threshold of their own; or None.
        shown: Whether to draw progress.

    Returns:
        The restored share over steps for each seed, and when the images came back.

    Raises:
        ValueError: Before any training, if inputs and settings do not fit each other.
    """
    plan = planned(model, forget, keep, settings, reference=reference, unseen=unseen)
    return plan.run(shown=shown)


@dataclass(frozen=True, eq=False)
class Plan:
    """A relearning whose inputs were all checked.

    Attributes:
        settings: Complete.
        keep: The pictures to keep.
        case: The model that is tried.
        beside: What is put through the same; None for nothing.
        beside_is: What that is.
    """

    settings: Relearning
    keep: ImageSet
    case: Case
    beside: Case | None = None
    beside_is: Beside = "unseen"

    def run(self, *, shown: bool = True) -> Relearned:
        """Train, and look."""
        own = trained_courses(self.case, self.keep, self.settings, "the model", shown)
        if self.beside is None:
            return Relearned(self.settings, own)
        words = {"unseen": "unseen pictures", "reference": "the reference"}[self.beside_is]
        others = trained_courses(self.beside, self.keep, self.settings, words, shown)
        return Relearned(self.settings, own, others, self.beside_is, self.beside.threshold)


def planned(
    model: DiffusionModel,
    forget: ImageSource,
    keep: ImageSource,
    settings: Relearning | None = None,
    *,
    reference: DiffusionModel | None = None,
    unseen: ImageSource | None = None,
) -> Plan:
    """Check everything that :func:`relearn` is given; nothing is trained.

    Raises:
        ValueError: If inputs and settings do not fit each other.
    """
    settings = settings or Relearning()
    split = split_sets(
        open_for(model, forget, role="forget"),
        open_for(model, keep, role="keep"),
        "drop" if settings.drop_overlap else "error",
    )
    images = SubsetImages(split.forget, distinct_indices(split.forget, MOST_ORIGINALS))
    case = Case(model, images, settings.threshold or copy_threshold(images, split.keep))
    beside: Case | None = None
    beside_is: Beside = "unseen" if reference is None else "reference"
    if reference is not None:
        require_comparable(reference, model)
        beside = Case(reference, images, case.threshold)
    elif unseen is not None:
        strange = strangers(open_for(model, unseen, role="unseen"), split.forget, split.keep)
        chosen = SubsetImages(strange, range(min(len(strange), len(images))))
        limit = settings.threshold or copy_threshold(chosen, split.keep)
        beside = Case(model, chosen, limit)
    settings = completed(settings, case)
    for each in (case, *([] if beside is None else [beside])):
        each.sampler(trained_on(each, split.keep, settings), settings, settings.seeds[0])
    return Plan(settings, split.keep, case, beside, beside_is)


def completed(settings: Relearning, case: Case) -> Relearning:
    """The settings with what they leave to the model and the pictures.

    Raises:
        ValueError: If the model has no such noise level, or its pictures no such view.
    """
    process, views = case.model.process, plain_views(case.model.image_shape)
    (half,) = process.timesteps_at((0.5,))
    timestep = half if settings.timestep is None else settings.timestep
    process.check_timesteps([timestep], "timestep")
    require(
        settings.on != "view" or settings.view in views,
        f"no view {settings.view!r} of these pictures; there are {', '.join(views)}",
    )
    return replace(
        settings,
        steps=settings.num_steps,
        every_steps=settings.steps_between_looks,
        timestep=timestep,
        threshold=case.threshold,
        learning_rate=settings.learning_rate or default_learning_rate(case.model.num_parameters),
    )


def strangers(images: ImageSet, *known: ImageSet) -> ImageSet:
    """The different pictures of a set that are in none of the others.

    Raises:
        ValueError: If there are none.
    """
    digests = {digest for each in known for digest in each.digests()}
    rows = [row for row in distinct_indices(images) if images.digest(row) not in digests]
    require(bool(rows), "the unseen images are all among the forget or keep images")
    return SubsetImages(images, rows)


def altered(images: ImageSet, view: str) -> ImageSet:
    """Pictures as they look through a view, with the labels and captions that they had."""
    rows = torch.arange(len(images))
    labels = images.labels(rows)
    seen = to_uint8(plain_views(images.shape)[view](images.batch(rows)))  # (N, H, W, C)
    return ArrayImages(
        np.ascontiguousarray(seen.transpose(0, 3, 1, 2)),
        source=view,
        labels=None if labels is None else labels.numpy(),
        captions=[images.caption(row) or "" for row in range(len(images))],
    )


def trained_on(case: Case, keep: ImageSet, settings: Relearning) -> ImageSet:
    """What a case's model is trained on."""
    if settings.on == "keep":
        return keep
    return altered(case.images, settings.view) if settings.on == "view" else case.images


def trained_courses(
    case: Case, keep: ImageSet, settings: Relearning, who: str, shown: bool
) -> tuple[Course, ...]:
    """One training for each seed."""
    pictures = trained_on(case, keep, settings)
    return tuple(
        trained_course(
            case, pictures, settings, seed, f"{who} on {settings.on}, seed {seed}", shown
        )
        for seed in settings.seeds
    )


def trained_course(
    case: Case, pictures: ImageSet, settings: Relearning, seed: int, label: str, shown: bool
) -> Course:
    """Train a copy of the case's model on pictures, and look at it now and then.

    With ``until_returned`` it ends at the first look that counts as the images' return.

    Raises:
        KeyboardInterrupt: After Ctrl-C; there is nothing to save.
    """
    model = replace(case.model, denoiser=deepcopy(case.model.denoiser).eval())
    sampler = case.sampler(pictures, settings, seed)
    looks = [case.look(model, settings, seed, 0)]

    def returned() -> bool:
        return settings.until_returned and looks[-1].share >= settings.returned_from

    def look(trainer: Trainer, steps_done: int) -> bool:
        due = steps_done % settings.steps_between_looks == 0
        if due or steps_done == settings.num_steps:
            looks.append(case.look(model, settings, seed, steps_done))
        return returned()

    if returned():
        return Course(seed, tuple(looks))
    phase = Phase([StepPart(sampler, NaiveDeletion())], NaiveDeletion.default_combination)
    training = settings.training(seed)
    trainer = Trainer(model, [phase], training, callbacks=[look], description=label, shown=shown)
    try:
        trainer.run()
    except InterruptedRunError as stop:
        raise KeyboardInterrupt from stop
    return Course(seed, tuple(looks))
