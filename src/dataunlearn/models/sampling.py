"""Deterministic sampling: draw pictures from noise, and from a half-noised picture.

One sampler serves every process and prediction type: from timestep t to s,
x_s = gamma_s z + sigma_s eps with z the model's clean estimate and eps the noise that goes with it.
For DDPM-like models this is DDIM with eta = 0 (Song et al. 2021), for flow matching Euler's method.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from dataunlearn.conditioning import Cond
from dataunlearn.data.prompt import Prompt
from dataunlearn.models.base import DiffusionModel
from dataunlearn.prediction import noise_if_clean
from dataunlearn.process import expand_to
from dataunlearn.runtime.seeding import random_stream

Progress = Callable[[int], None]


def sampling_timesteps(start: int, first: int, num_steps: int) -> list[int]:
    """At most ``num_steps`` distinct timesteps, evenly spaced and falling, from ``start`` on.

    The spacing is "trailing": the first one is ``start`` itself, so that sampling begins at the
    noise level that it is given (Lin et al. 2024).
    """
    span = start - first + 1
    count = min(num_steps, span)
    steps = [start - round(index * span / count) for index in range(count)]
    return sorted(set(steps), reverse=True)


def model_timesteps(model: DiffusionModel, start: int, num_steps: int) -> list[int]:
    """The timesteps that a model's sampling walks down from ``start``, spaced as it is used to."""
    first, total = model.process.first_timestep, model.process.num_train_timesteps
    if model.shift == 1:
        return sampling_timesteps(start, first, num_steps)
    top = shifted(start / total, 1 / model.shift)
    sigmas = [shifted(top * (1 - index / num_steps), model.shift) for index in range(num_steps)]
    return sorted({start, *(max(first, round(total * s)) for s in sigmas)}, reverse=True)


def shifted(sigma: float, shift: float) -> float:
    """The noise level in [0, 1] that a shift moves ``sigma`` to; ``1 / shift`` moves it back."""
    return shift * sigma / (1 + (shift - 1) * sigma)


@torch.no_grad()
def denoise(
    model: DiffusionModel, noisy: Tensor, timesteps: list[int], cond: Cond | None = None
) -> Tensor:
    """Walk noisy samples down ``timesteps`` to a clean sample.

    Args:
        model: The model.
        noisy: Samples ``(B, *shape)`` at noise level ``timesteps[0]``, on the model's device.
        timesteps: Falling timesteps; after the last one the clean estimate is returned.
        cond: Labels or prompts ``(B, ...)``, or None.

    Returns:
        Pictures ``(B, C, H, W)`` in [-1, 1].
    """
    process, sample = model.process, noisy
    for t, following in zip(timesteps, [*timesteps[1:], None], strict=True):
        t_batch = torch.full((len(sample),), t, device=sample.device)
        prediction = model.predict(sample, t_batch, cond)
        clean = process.clean_estimate(sample, prediction, t_batch)
        gamma, sigma = process.gamma(t_batch), process.sigma(t_batch)
        noise = noise_if_clean(sample, clean, expand_to(gamma, sample), expand_to(sigma, sample))
        if model.clips_samples:
            clean = clean.clamp(-1, 1)
        if following is None:
            sample = clean
        else:
            sample = process.add_noise(clean, noise, torch.full_like(t_batch, following))
    return model.space.decode(sample)


def noise_for(shape: tuple[int, int, int], seed: int, indices: range) -> Tensor:
    """Noise of pictures ``indices`` under ``seed``: each has its own stream, whatever the batch."""
    return torch.stack([torch.randn(shape, generator=random_stream(seed, i)) for i in indices])


def generate(
    model: DiffusionModel,
    num_samples: int,
    *,
    seed: int = 0,
    num_steps: int = 25,
    batch_size: int = 64,
    prompts: Sequence[Prompt] = (),
    progress: Progress | None = None,
) -> Tensor:
    """Draw samples; picture i depends on (seed, i) alone, not on the batch it is drawn in.

    Args:
        model: The model; a class-conditional one is given its classes in turn.
        num_samples: How many.
        seed: Names the noise.
        num_steps: Denoiser calls per sample.
        batch_size: Samples per call.
        prompts: What a text-to-image model is given, in turn; without any, the empty prompt.
        progress: Called with the number of samples finished by each batch.

    Returns:
        ``(num_samples, C, H, W)`` float32 in [-1, 1] on the CPU.
    """
    process = model.process
    timesteps = model_timesteps(model, process.last_timestep, num_steps)
    done = []
    for begin in range(0, num_samples, batch_size):
        indices = range(begin, min(begin + batch_size, num_samples))
        noise = noise_for(model.shape, seed, indices).to(model.device)
        cond = model.space.drawn(indices, prompts)
        cond = None if cond is None else cond.to(model.device)
        done.append(denoise(model, noise, timesteps, cond).cpu())
        if progress is not None:
            progress(len(indices))
    return torch.cat(done).contiguous() if done else torch.empty(0, *model.image_shape)


def noise_and_denoise(
    model: DiffusionModel,
    clean: Tensor,
    t: int,
    *,
    seed: int = 0,
    num_steps: int = 20,
    batch_size: int = 64,
    cond: Cond | None = None,
) -> Tensor:
    """Noise pictures to timestep ``t`` and let the model restore them.

    Args:
        model: The model.
        clean: Pictures ``(N, C, H, W)`` in [-1, 1]; picture i's noise is the stream (seed, i).
        t: Timestep to noise to.
        seed: Names the noise.
        num_steps: Most denoiser calls.
        batch_size: Pictures per call.
        cond: Labels or prompts ``(N, ...)``, or None.

    Returns:
        Restored pictures ``(N, C, H, W)`` float32 in [-1, 1] on the CPU.
    """
    process = model.process
    timesteps = model_timesteps(model, t, num_steps)
    done = []
    for begin in range(0, len(clean), batch_size):
        indices = range(begin, min(begin + batch_size, len(clean)))
        batch = model.space.encode(clean[begin : indices.stop].to(model.device))
        noise = noise_for(model.shape, seed, indices).to(model.device)
        noisy = process.add_noise(batch, noise, torch.full((len(batch),), t, device=batch.device))
        labels = None if cond is None else cond[begin : indices.stop].to(model.device)
        done.append(denoise(model, noisy, timesteps, labels).cpu())
    return torch.cat(done)
