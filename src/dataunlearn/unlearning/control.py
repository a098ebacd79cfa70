"""What a model restores of pictures that it never saw: the forget images through their views.

How much of a picture is left at a noise level depends on the noise schedule and on the space that
the noise is added in. Where its outlines are, any model restores it, whether it knows it or not: in
the latents of Stable Diffusion from half of the noise, in pixels of a linear schedule next to
never. So tries to restore the forget images count against tries to restore the same images through
views that the model does not recognise: turned, mirrored or recoloured, or without their prompts.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from dataunlearn.conditioning import Cond, join_conds
from dataunlearn.metrics.regeneration import regenerate
from dataunlearn.models import DiffusionModel
from dataunlearn.models.latents import TextSpace
from dataunlearn.models.sampling import Drawing
from dataunlearn.recognition.choosing import AS_IT_IS
from dataunlearn.unlearning.job import Job
from dataunlearn.views import turns_and_flips


@dataclass(frozen=True, eq=False)
class Control:
    """How often pictures came back that the model never saw.

    Attributes:
        share: Share of all tries, in [0, 1].
        by_image: Share of the tries with each different forget image's views, ``(K,)``; 0 where
            none was tried.
    """

    share: float
    by_image: Tensor


@dataclass(frozen=True, eq=False)
class Unseen:
    """Pictures that the model never saw.

    Attributes:
        pictures: Originals through their views ``(N, C, H, W)`` in [-1, 1].
        cond: Their conditioning ``(N, ...)``, or None.
        owner: Which original each is made of, ``(N,)``.
    """

    pictures: Tensor
    cond: Cond | None
    owner: Tensor


def unseen(job: Job) -> Unseen | None:
    """The job's originals through their views: first one view of each, then another of each.

    None where levels were not measured, or no image has a view that the model does not recognise.
    """
    if job.levels is None:
        return None
    levels, shape = job.levels, job.originals.shape[1:]
    is_latent = isinstance(job.model.space, TextSpace)  # whose turns and flips are the picture's
    on_pictures = turns_and_flips((shape[0], shape[1], shape[2])) if is_latent else levels.views
    names = levels.names[: len(job.originals)]
    rows, pictures, conds = [], [], []
    for turn in range(max(map(len, names))):
        for row, own in enumerate(names):
            if not levels.unfamiliar[row]:
                continue
            name, image = own[turn % len(own)], job.originals[row : row + 1]
            as_it_is = name == AS_IT_IS
            pictures.append(image if as_it_is else on_pictures[name](image))
            if job.cond is not None:
                cond = job.model.space.nothing(1) if as_it_is else job.cond[row : row + 1]
                assert cond is not None
                conds.append(cond)
            rows.append(row)
    if not rows:
        return None
    return Unseen(torch.cat(pictures), join_conds(conds) if conds else None, torch.tensor(rows))


def control(
    job: Job, model: DiffusionModel, timestep: int, copies: int, drawing: Drawing
) -> Control | None:
    """Try to restore the job's images through their views, as they are tried themselves.

    Args:
        job: The job, with its levels.
        model: Who restores them.
        timestep: Noise level.
        copies: Tries in all.
        drawing: How they are restored; its conditioning is not used.

    Returns:
        What came back; None where there is nothing that the model never saw.
    """
    found = unseen(job)
    if found is None or job.levels is None:
        return None
    count = max(copies, len(job.originals))
    some = slice(count)
    tried = regenerate(
        model,
        found.pictures[some],
        timestep,
        copies=count,
        threshold=job.threshold,
        drawing=replace(drawing, cond=None if found.cond is None else found.cond[some]),
    )
    owners = found.owner[some]
    owner = owners[torch.arange(len(tried.distances)) % len(owners)]
    restored = tried.distances < job.threshold
    return Control(tried.share, share_of_each(restored, owner, len(job.levels.chosen)))


def share_of_each(restored: Tensor, owner: Tensor, num_images: int) -> Tensor:
    """The share of its own tries that restores each image ``(K,)``; 0 of those without any.

    Args:
        restored: Whether each try does, ``(N,)`` bool.
        owner: Which image each is of, ``(N,)``.
        num_images: K.
    """
    counts = torch.zeros(2, num_images, dtype=torch.float64)
    counts.index_add_(1, owner, torch.stack([restored, torch.ones_like(restored)]).double())
    return counts[0] / counts[1].clamp(min=1)
