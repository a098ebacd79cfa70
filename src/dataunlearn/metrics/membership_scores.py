"""Scores of membership attacks: one number per image and noise level, lower for members.

- ``denoising_losses``: Carlini et al. 2023 (section 5.1) and Matsumoto et al. 2023;
- ``sima_scores``: Rao, Qu and Moyer 2025, arXiv 2509.25003;
- ``pia_scores``: Kong et al. 2024 (ICLR), arXiv 2305.18355.

The last two are about the predicted noise; a model that predicts something else is asked for the
noise that its prediction stands for. None of them uses guidance: it is no part of training.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from dataunlearn.conditioning import Cond
from dataunlearn.models import DiffusionModel
from dataunlearn.models.finite import require_finite_scores
from dataunlearn.models.sampling import Progress, noise_for
from dataunlearn.runtime.seeding import mix_seed

POWER = 4  # of both norms, as in both papers' programs


@torch.no_grad()
def denoising_losses(
    model: DiffusionModel,
    images: Tensor,
    timesteps: Sequence[int],
    *,
    draws: range = range(4),
    seed: int = 0,
    batch_size: int = 64,
    cond: Cond | None = None,
    progress: Progress | None = None,
) -> Tensor:
    """Mean squared error of the model's prediction for each image and timestep.

    Args:
        model: The model, in eval mode.
        images: ``(N, C, H, W)`` in [-1, 1].
        timesteps: T noise levels.
        draws: Draws of noise averaged over, by number; draw j of timestep t is the same for all
            images.
        seed: Names the noise.
        batch_size: Images per call.
        cond: Class labels ``(N,)``, or None.
        progress: Called with the number of calls' images times timesteps times draws done.

    Returns:
        ``(N, T)`` float64, mean over pixels and draws.
    """
    process, device = model.process, model.device
    losses = torch.zeros(len(images), len(timesteps), dtype=torch.float64)
    noise = {t: noise_for(model.shape, mix_seed(seed, t), draws).to(device) for t in timesteps}
    for rows, clean, labels in in_batches(model, images, cond, batch_size):
        for column, timestep in enumerate(timesteps):
            t = torch.full((len(clean),), timestep, device=device)
            for draw in noise[timestep]:
                noisy = process.add_noise(clean, draw.expand_as(clean), t)
                error = model.denoiser(noisy, t, labels) - process.target(noisy, clean, t)
                losses[rows, column] += error.double().square().flatten(1).mean(1).cpu()
            if progress is not None:
                progress(len(clean) * len(draws))
    return require_finite_scores(losses / len(draws), timesteps, "denoising loss", model.source)


@torch.no_grad()
def sima_scores(
    model: DiffusionModel,
    images: Tensor,
    timesteps: Sequence[int],
    *,
    batch_size: int = 64,
    cond: Cond | None = None,
    progress: Progress | None = None,
) -> Tensor:
    """SimA: the length of the noise that the model sees in an image to which none was added.

    |f(x_0, t)|_4^4: the score at x_0 points to the mean of the training images nearby, which for a
    member at little noise is the image itself.

    Args:
        model: The model, in eval mode.
        images: ``(N, C, H, W)`` in [-1, 1].
        timesteps: T noise levels that it is told, small ones.
        batch_size: Images per call.
        cond: Class labels or prompts ``(N, ...)``, or None.
        progress: Called with the number of images times timesteps done.

    Returns:
        ``(N, T)`` float64, the sum of fourth powers over dimensions; one pass an entry.
    """
    scores = torch.zeros(len(images), len(timesteps), dtype=torch.float64)
    for rows, clean, labels in in_batches(model, images, cond, batch_size):
        for column, timestep in enumerate(timesteps):
            found = _predicted_noise(model, clean, timestep, labels)
            scores[rows, column] = _power_sum(found)
            if progress is not None:
                progress(len(clean))
    return require_finite_scores(scores, timesteps, "SimA score", model.source)


@torch.no_grad()
def pia_scores(
    model: DiffusionModel,
    images: Tensor,
    timesteps: Sequence[int],
    *,
    batch_size: int = 64,
    cond: Cond | None = None,
    progress: Progress | None = None,
) -> Tensor:
    """PIA: how well the model finds the noise again that it saw in the image at the lowest level.

    |f(gamma_t x_0 + sigma_t e_0, t) - e_0|_4^4 with e_0 = f(x_0, 0): the prediction at no noise
    starts the path that the probability flow takes from x_0, and members lie near their path. In
    flow matching the lowest level is timestep 1.

    Args:
        model: The model, in eval mode.
        images: ``(N, C, H, W)`` in [-1, 1].
        timesteps: T noise levels.
        batch_size: Images per call.
        cond: Class labels or prompts ``(N, ...)``, or None.
        progress: Called with the number of images times passes done: T + 1 an image.

    Returns:
        ``(N, T)`` float64, the sum of fourth powers over dimensions.
    """
    process = model.process
    scores = torch.zeros(len(images), len(timesteps), dtype=torch.float64)
    for rows, clean, labels in in_batches(model, images, cond, batch_size):
        first = _predicted_noise(model, clean, process.first_timestep, labels)
        for column, timestep in enumerate(timesteps):
            t = torch.full((len(clean),), timestep, device=clean.device)
            noisy = process.add_noise(clean, first, t)
            found = _predicted_noise(model, noisy, timestep, labels)
            scores[rows, column] = _power_sum(found - first)
            if progress is not None:
                progress(len(clean))
        if progress is not None:
            progress(len(clean))
    return require_finite_scores(scores, timesteps, "PIA score", model.source)


def in_batches(
    model: DiffusionModel, images: Tensor, cond: Cond | None, batch_size: int
) -> Iterator[tuple[slice, Tensor, Cond | None]]:
    """Rows, their samples and their conditioning, on the model's device."""
    for begin in range(0, len(images), batch_size):
        rows = slice(begin, begin + batch_size)
        clean = model.space.encode(images[rows].to(model.device))
        yield rows, clean, None if cond is None else cond[rows].to(model.device)


def _predicted_noise(
    model: DiffusionModel, noisy: Tensor, timestep: int, cond: Cond | None
) -> Tensor:
    t = torch.full((len(noisy),), timestep, device=noisy.device)
    return model.process.noise_estimate(noisy, model.denoiser(noisy, t, cond), t)


def _power_sum(values: Tensor) -> Tensor:
    return values.double().pow(POWER).flatten(1).sum(1).cpu()
