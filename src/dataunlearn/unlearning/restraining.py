"""What holds a run's parameters back, found out before its first step."""

from __future__ import annotations

import torch

from dataunlearn.training.engine import trainable
from dataunlearn.training.parameter_importance import forget_gradient, prediction_sensitivity
from dataunlearn.training.restraints import Restraint, flat, most_salient
from dataunlearn.unlearning.job import Job


def restraint_of(job: Job, *, shown: bool = True) -> Restraint:
    """The mask and the anchor that the job's settings ask for; the model must be untrained.

    It depends on the job alone: a resumed run finds it out anew and gets the same.

    Raises:
        ValueError: If the model that is anchored to is another network.
    """
    config = job.config
    saliency, anchor, rows = config.saliency, config.anchor, config.micro_batch_rows
    if saliency is None and anchor is None:
        return Restraint()
    params = trainable(job.model.denoiser)
    sampler = job.sampler(config.noise_levels)
    start = movable = centre = pull = None
    if saliency is not None:
        gradient = forget_gradient(job.model, sampler, rows, shown=shown)
        start, movable = flat(params), most_salient(gradient, saliency.share)
    if anchor is not None:
        importance = prediction_sensitivity(job.model, sampler, rows, shown=shown)
        if anchor.importance == "equal":
            importance = torch.full_like(importance, importance.mean().item())
        pull = anchor.weight * importance
        pull = pull if movable is None else pull * movable
        centre = flat(params) if job.anchored_to is None else _weights_like(job)
    return Restraint(start, movable, centre, pull)


def _weights_like(job: Job) -> torch.Tensor:
    """The weights of the model that is anchored to, ``(P,)``, in the job's model's order."""
    assert job.anchored_to is not None
    own, other = (dict(each.denoiser.named_parameters()) for each in (job.model, job.anchored_to))
    if {name: param.shape for name, param in own.items()} != {
        name: param.shape for name, param in other.items()
    }:
        raise ValueError("the model that is anchored to is another network")
    names = [name for name, param in own.items() if param.requires_grad]
    return flat([other[name].to(job.model.device) for name in names])
