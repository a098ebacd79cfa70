"""What a run finds out before its first step: the forget images' levels, what a method asks."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from dataunlearn.conditioning import Cond
from dataunlearn.metrics.pixel_distance import distinct_indices
from dataunlearn.models import DiffusionModel
from dataunlearn.models.latents import TextSpace
from dataunlearn.objectives import Context
from dataunlearn.recognition.choosing import MOST_VIEWS
from dataunlearn.recognition.levels import Levels, measure_levels
from dataunlearn.recognition.witness import Pictures, Witness
from dataunlearn.runtime.progress import progress_bar
from dataunlearn.runtime.seeding import random_stream
from dataunlearn.runtime.streams import LEVEL_STREAM
from dataunlearn.unlearning.job import Job

# Noise levels that an image's level is measured at, as shares of all.
LEVEL_SHARES = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
DRAWS_IN_ALL = 24
MOST_DRAWS = 8
COMPARED_PICTURES = 256
NEIGHBOUR_BATCH = 500


def prepared(job: Job, *, shown: bool = True) -> Job:
    """The job with its levels measured and its objective prepared; the model must be untrained."""
    if job.levels is None:
        job = replace(job, levels=job_levels(job, shown=shown))
    return replace(job, prepared=job.config.objective.prepare(context_of(job)))


def context_of(job: Job) -> Context:
    """What the job's objective may look at."""
    levels = job.levels
    assert levels is not None
    return Context(
        job.model.process,
        forget_pictures(job),
        job.config.noise_levels.bounds(job.model.process),
        lambda: levels,
        partial(nearest_keep, job),
    )


def job_levels(job: Job, *, shown: bool = True) -> Levels:
    """The forget images' levels, by the model as it is now."""
    forget, keep = forget_pictures(job), keep_pictures(job)
    witness = job_witness(job.model, len(forget), job.config.seed)
    looks = len(forget) * len(LEVEL_SHARES) * witness.num_draws * (1 + MOST_VIEWS)
    with progress_bar("looking at the forget images", looks, shown=shown) as advance_by:
        left = looks

        def advance(count: int) -> None:
            """Never beyond the end: how many looks it takes depends on what they show."""
            nonlocal left
            advance_by(min(count, left))
            left -= min(count, left)

        return measure_levels(
            replace(witness, progress=advance),
            forget,
            keep,
            job.model.process.timesteps_at(LEVEL_SHARES),
            latent=isinstance(job.model.space, TextSpace),
        )


def job_witness(model: DiffusionModel, num_images: int, seed: int) -> Witness:
    """The model as it is now, asked with the noise of a run: the fewer images, the more draws."""

    @torch.no_grad()
    def ask(noisy: Tensor, t: Tensor, cond: Cond | None) -> Tensor:
        device = model.device
        where = None if cond is None else cond.to(device)
        answer: Tensor = model.denoiser(noisy.to(device), t.to(device), where)
        return answer.float().cpu()

    draws = max(1, min(MOST_DRAWS, DRAWS_IN_ALL // num_images))
    return Witness(ask, model.process, seed=LEVEL_STREAM + seed, num_draws=draws)


def forget_pictures(job: Job) -> Pictures:
    """The different forget images, in the order of a pair's ``forget_index``."""
    rows = torch.tensor(distinct_indices(job.split.forget))
    space = job.model.space
    return Pictures(
        space.samples(job.split.forget, rows),
        space.conditions(job.split.forget, rows),
        space.nothing(len(rows)),
    )


def keep_pictures(job: Job) -> Pictures:
    """Some keep images, drawn at random."""
    keep, space = job.split.keep, job.model.space
    order = torch.randperm(len(keep), generator=random_stream(job.config.seed, LEVEL_STREAM))
    rows = order[:COMPARED_PICTURES]
    return Pictures(space.samples(keep, rows), space.conditions(keep, rows))


def nearest_keep(job: Job, count: int) -> Tensor:
    """The keep images nearest to each different forget image, ``(K, count, *shape)``."""
    keep, space = job.split.keep, job.model.space
    forget = forget_pictures(job).clean.flatten(1)
    rows = torch.arange(len(keep))
    apart = torch.cat(
        [
            torch.cdist(forget, space.samples(keep, part).flatten(1))
            for part in torch.split(rows, NEIGHBOUR_BATCH)
        ],
        dim=1,
    )  # (K, N)
    if count > len(keep):
        raise ValueError(f"there are {len(keep)} keep images, and {count} neighbours are wanted")
    nearest = apart.topk(count, largest=False).indices  # (K, count)
    found = space.samples(keep, nearest.flatten())
    return found.reshape(*nearest.shape, *found.shape[1:])
