"""Scores of membership attacks along the path from an image to noise, which the model itself takes.

- ``secmi_scores``: Duan et al. 2023 (ICML), arXiv 2302.01316;
- ``inversion_scores``: the noise that the model draws an image from, found by going its
  deterministic path backwards (as for "memorised images sit at likely noise", arXiv 2412.00782).

A step of the path is DDIM's with eta = 0, for flow matching Euler's: what the model takes for the
image and for the noise is put together again at the next noise level.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from dataunlearn.conditioning import Cond
from dataunlearn.metrics.membership_scores import in_batches
from dataunlearn.models import DiffusionModel
from dataunlearn.models.finite import require_finite_scores
from dataunlearn.models.sampling import Progress
from dataunlearn.process import ForwardProcess

INTERVAL = 0.01  # of the noise levels, as in SecMI's program: 10 of 1000
INVERSION_STEPS = 20


@torch.no_grad()
def secmi_scores(
    model: DiffusionModel,
    images: Tensor,
    timesteps: Sequence[int],
    *,
    batch_size: int = 64,
    cond: Cond | None = None,
    progress: Progress | None = None,
) -> Tensor:
    """SecMI: how far one interval of the path forth and back leads away from where it began.

    |back(forth(x_t)) - x_t|_2^2 with x_t on the deterministic path from the image; members lie
    where the model's answers hardly change along it.

    Args:
        model: The model, in eval mode.
        images: ``(N, C, H, W)`` in [-1, 1].
        timesteps: T noise levels; each stands for the nearest one that is a whole number of
            intervals above the lowest.
        batch_size: Images per call.
        cond: Class labels or prompts ``(N, ...)``, or None.
        progress: Called with the number of images times passes done: :func:`secmi_passes` an image.

    Returns:
        ``(N, T)`` float64, the sum of squares over dimensions.
    """
    process = model.process
    path, wanted = _secmi_path(process, timesteps)
    scores = torch.zeros(len(images), len(timesteps), dtype=torch.float64)
    for rows, clean, labels in in_batches(model, images, cond, batch_size):
        before = None
        for at, sample, (seen_clean, seen_noise) in _walk(model, clean, path, labels, progress):
            if before is not None:
                t = _times(path[at - 1], sample)
                error = process.add_noise(seen_clean, seen_noise, t) - before
                for column in [c for c, place in enumerate(wanted) if place == at - 1]:
                    scores[rows, column] = error.double().square().flatten(1).sum(1).cpu()
            before = sample
    return require_finite_scores(scores, timesteps, "SecMI score", model.source)


@torch.no_grad()
def inversion_scores(
    model: DiffusionModel,
    images: Tensor,
    timesteps: Sequence[int],
    *,
    batch_size: int = 64,
    cond: Cond | None = None,
    progress: Progress | None = None,
) -> Tensor:
    """The squared length of the noise that the model draws an image from.

    The deterministic path is gone from the image to each timestep in about twenty steps; what it
    has then put into the image, (x_t - gamma_t x_0) / sigma_t, is measured. At the last timestep it
    is the noise itself, whose squared length is the number of dimensions for likely noise.

    Args:
        model: The model, in eval mode.
        images: ``(N, C, H, W)`` in [-1, 1].
        timesteps: T noise levels above the lowest.
        batch_size: Images per call.
        cond: Class labels or prompts ``(N, ...)``, or None.
        progress: Called with the number of images times passes done: :func:`inversion_passes` an
            image.

    Returns:
        ``(N, T)`` float64, the sum of squares over dimensions.
    """
    process = model.process
    path = _inversion_path(process, timesteps)
    scores = torch.zeros(len(images), len(timesteps), dtype=torch.float64)
    for rows, clean, labels in in_batches(model, images, cond, batch_size):
        for at, _, (seen_clean, seen_noise) in _walk(model, clean, path[:-1], labels, progress):
            after = path[at + 1]
            if after not in timesteps:
                continue
            t = _times(after, clean)
            put_in = process.add_noise(seen_clean - clean, seen_noise, t)
            sigma = process.sigma(t[:1]).to(put_in)
            length = (put_in / sigma).double().square().flatten(1).sum(1).cpu()
            for column in [c for c, given in enumerate(timesteps) if given == after]:
                scores[rows, column] = length
    return require_finite_scores(scores, timesteps, "inverted noise", model.source)


def secmi_passes(process: ForwardProcess, timesteps: Sequence[int]) -> int:
    """Passes of the model for each image's SecMI scores."""
    return len(_secmi_path(process, timesteps)[0])


def inversion_passes(process: ForwardProcess, timesteps: Sequence[int]) -> int:
    """Passes of the model for each image's inverted noise."""
    return len(_inversion_path(process, timesteps)) - 1


def _secmi_path(process: ForwardProcess, timesteps: Sequence[int]) -> tuple[list[int], list[int]]:
    """The path's timesteps, one interval beyond the highest; and the places of those wanted."""
    first = process.first_timestep
    interval = max(1, round(INTERVAL * process.num_train_timesteps))
    last = (process.last_timestep - first) // interval  # the highest place on the path
    wanted = [min(max(round((t - first) / interval), 0), last - 1) for t in timesteps]
    return [first + place * interval for place in range(max(wanted) + 2)], wanted


def _inversion_path(process: ForwardProcess, timesteps: Sequence[int]) -> list[int]:
    """About twenty even timesteps from the lowest to the highest, and those that are wanted."""
    first = process.first_timestep
    even = torch.linspace(first, max(timesteps), INVERSION_STEPS + 1).round().long().tolist()
    return sorted({first, *even, *timesteps})


def _walk(
    model: DiffusionModel,
    clean: Tensor,
    path: Sequence[int],
    cond: Cond | None,
    progress: Progress | None,
) -> Iterator[tuple[int, Tensor, tuple[Tensor, Tensor]]]:
    """At each timestep of a path: its place, the sample, and what the model takes it to be made of.

    The path begins with the images as they are.
    """
    process, sample = model.process, clean
    for at, timestep in enumerate(path):
        t = _times(timestep, sample)
        prediction = model.denoiser(sample, t, cond)
        seen = process.clean_estimate(sample, prediction, t)
        noise = process.noise_estimate(sample, prediction, t)
        if progress is not None:
            progress(len(sample))
        yield at, sample, (seen, noise)
        if at + 1 < len(path):
            sample = process.add_noise(seen, noise, _times(path[at + 1], sample))


def _times(timestep: int, sample: Tensor) -> Tensor:
    return torch.full((len(sample),), timestep, device=sample.device)
