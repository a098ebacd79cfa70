"""What a run finds out before its first step: the forget images' levels, what a method asks."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from dataunlearn.data.prompt import Prompt
from dataunlearn.metrics.never_seen import different_pictures, levels_of
from dataunlearn.objectives import Context
from dataunlearn.recognition.levels import Levels
from dataunlearn.runtime.seeding import random_stream
from dataunlearn.unlearning.job import Job

NEIGHBOUR_BATCH = 500


def prepared(job: Job, *, shown: bool = True) -> Job:
    """The job with its levels measured and its objective prepared; the model must be untrained."""
    if job.prepared is not None:
        return job
    objective = job.config.objective
    if job.levels is None and (job.config.stops_at_level or objective.arrives):
        job = looked_at(job, shown=shown)
    return replace(job, prepared=objective.prepare(context_of(job, shown=shown)))


def looked_at(job: Job, *, shown: bool = True) -> Job:
    """The job with its levels measured; the model must be untrained."""
    if job.levels is not None:
        return job
    keep, forget = job.split.keep, job.split.forget
    levels = levels_of(job.model, forget, keep, seed=job.config.seed, shown=shown)
    return replace(job, levels=levels)


def context_of(job: Job, *, shown: bool = True) -> Context:
    """What the job's objective may look at; levels are measured if it asks for them."""

    def levels() -> Levels:
        measured = looked_at(job, shown=shown).levels
        assert measured is not None
        return measured

    return Context(
        job.model.process,
        different_pictures(job.model, job.split.forget),
        job.config.noise_levels.bounds(job.model.process),
        levels,
        partial(nearest_keep, job),
    )


def other_prompts(job: Job) -> list[Prompt]:
    """Prompts of pictures to keep, drawn at random, that no forget image has; at most one a sample.

    None where the model takes no prompts, or all pictures share theirs.
    """
    own, settings, keep = set(job.prompts), job.config.evaluation, job.split.keep
    if not own:
        return []
    found: dict[Prompt, None] = {}
    for row in torch.randperm(len(keep), generator=random_stream(settings.seed)).tolist():
        if len(found) >= settings.num_samples:
            break
        caption = keep.caption(row)
        if caption is not None and caption not in own:
            found[caption] = None
    return list(found)


def nearest_keep(job: Job, count: int) -> Tensor:
    """The keep images nearest to each different forget image, ``(K, count, *shape)``.

    Raises:
        ValueError: If there are fewer.
    """
    keep, space = job.split.keep, job.model.space
    if count > len(keep):
        raise ValueError(f"there are {len(keep)} keep images, and {count} neighbours are wanted")
    forget = different_pictures(job.model, job.split.forget).clean.flatten(1)
    parts = torch.split(torch.arange(len(keep)), NEIGHBOUR_BATCH)
    apart = torch.cat(
        [torch.cdist(forget, space.samples(keep, part).flatten(1)) for part in parts], dim=1
    )  # (K, N)
    nearest = apart.topk(count, largest=False).indices  # (K, count)
    found = space.samples(keep, nearest.flatten())
    return found.reshape(*nearest.shape, *found.shape[1:])
