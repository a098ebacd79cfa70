"""Deterministic sampling: draw pictures from noise, and from a half-noised picture.

One sampler serves every process and prediction type: from timestep t to s,
x_s = gamma_s z + sigma_s eps with z the model's clean estimate and eps the noise that goes with it.
For DDPM-like models this is DDIM with eta = 0 (Song et al. 2021), for flow matching Euler's method.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from dataunlearn.conditioning import Cond
from dataunlearn.data.prompt import Prompt
from dataunlearn.models.base import DiffusionModel
from dataunlearn.models.finite import finite_rows, where_not_finite
from dataunlearn.models.schedulers import SamplingRule
from dataunlearn.prediction import noise_if_clean
from dataunlearn.process import expand_to
from dataunlearn.runtime.seeding import random_stream

Progress = Callable[[int], None]
Predict = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Drawing:
    """How pictures are drawn, and what for.

    Attributes:
        seed: Names the noise.
        num_steps: Most denoiser calls per picture.
        batch_size: Pictures per call.
        cond: Labels or encoded prompts ``(K, ...)`` that pictures take in turn; None for
            ``prompts``.
        prompts: What a text-to-image model is asked for, in turn; empty for the empty prompt. Of a
            class-conditional model, without ``cond``, the classes take turns.
        progress: Called with the number of pictures finished by each batch.
        checked: Whether a picture that is not finite is an error; False gives it as it is.
    """

    seed: int = 0
    num_steps: int = 25
    batch_size: int = 64
    cond: Cond | None = None
    prompts: Sequence[Prompt] = ()
    progress: Progress | None = None
    checked: bool = True

    def __post_init__(self) -> None:
        """Check that there is one answer to what is drawn.

        Raises:
            ValueError: If both ``cond`` and ``prompts`` are given.
        """
        if self.cond is not None and self.prompts:
            raise ValueError("give cond or prompts, not both")

    def batches(self, count: int) -> Iterator[range]:
        """The numbers of ``count`` pictures, a batch at a time."""
        for begin in range(0, count, self.batch_size):
            yield range(begin, min(begin + self.batch_size, count))

    def conditions(self, model: DiffusionModel, indices: range) -> Cond | None:
        """What pictures ``indices`` are drawn for, on the model's device; None for nothing."""
        if self.cond is None:
            found = model.space.drawn(indices, self.prompts)
        else:
            found = self.cond[torch.tensor([index % len(self.cond) for index in indices])]
        return None if found is None else found.to(model.device)

    def accepted(self, model: DiffusionModel, walked: Walked, indices: range) -> Tensor:
        """The pictures of a batch on the CPU.

        Raises:
            ValueError: If one is not finite, unless that is wanted.
        """
        pictures = walked.checked(model, indices) if self.checked else walked.pictures
        return pictures.cpu()

    def report(self, count: int) -> None:
        """Tell whoever watches that so many pictures more are finished."""
        if self.progress is not None:
            self.progress(count)


DEFAULT_DRAWING = Drawing()


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


@dataclass(frozen=True, eq=False)
class Walked:
    """Pictures at the end of their walk.

    Attributes:
        pictures: ``(B, C, H, W)`` in [-1, 1].
        finite: Whether each was finite after each of S timesteps, and at last its pixels,
            ``(S + 1, B)`` bool.
        timesteps: The timesteps.
    """

    pictures: Tensor
    finite: Tensor
    timesteps: Sequence[int]

    def checked(self, model: DiffusionModel, numbers: Sequence[int] | None = None) -> Tensor:
        """The pictures, if all of them are finite.

        Raises:
            ValueError: Naming the first that is not by its number, and the timestep.
        """
        coded = model.shape != model.image_shape
        numbers = numbers or range(len(self.pictures))
        wrong = where_not_finite(self.finite.cpu(), self.timesteps, numbers, coded)
        if wrong is None:
            return self.pictures
        scheduler = type(model.pipeline.scheduler).__name__
        raise ValueError(
            f"{model.source}: {wrong}. Nothing can be said of such pictures; the weights do not "
            f"fit the scheduler ({scheduler}, prediction_type {model.process.prediction.name}), "
            "or training has destroyed them"
        )


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

    Raises:
        ValueError: If one of them is not finite.
    """
    return walk(model, noisy, timesteps, cond).checked(model)


@torch.no_grad()
def walk(
    model: DiffusionModel, noisy: Tensor, timesteps: list[int], cond: Cond | None = None
) -> Walked:
    """As :func:`denoise`, with pictures as they are, finite or not."""
    sample, finite = noisy, []
    for seen, after in steps_down(model, noisy, timesteps, partial(model.predict, cond=cond)):
        finite.append(finite_rows(seen))
        sample = after
    pictures = model.space.decode(sample)
    finite.append(finite_rows(pictures))
    return Walked(pictures, torch.stack(finite), timesteps)


def steps_down(
    model: DiffusionModel, noisy: Tensor, timesteps: list[int], predict: Predict
) -> Iterator[tuple[Tensor, Tensor]]:
    """Each step of a walk: what the model takes for the clean sample, and the sample after it.

    Args:
        model: The model.
        noisy: Samples ``(B, *shape)`` at noise level ``timesteps[0]``, on the model's device.
        timesteps: Falling timesteps.
        predict: Gives the model's predictions for samples at timesteps ``(B,)``.
    """
    process, sample = model.process, noisy
    rule = SamplingRule.of(model.pipeline.scheduler)
    for t, following in zip(timesteps, [*timesteps[1:], None], strict=True):
        t_batch = torch.full((len(sample),), t, device=sample.device)
        prediction = predict(sample, t_batch)
        clean = process.clean_estimate(sample, prediction, t_batch)
        gamma, sigma = process.gamma(t_batch), process.sigma(t_batch)
        noise = noise_if_clean(sample, clean, expand_to(gamma, sample), expand_to(sigma, sample))
        sample = rule.bounded(clean)
        if following is not None or rule.ends_noisy:
            level = process.first_timestep if following is None else following
            sample = process.add_noise(sample, noise, torch.full_like(t_batch, level))
        yield clean, sample


def noise_for(shape: tuple[int, int, int], seed: int, indices: range) -> Tensor:
    """Noise of pictures ``indices`` under ``seed``: each has its own stream, whatever the batch."""
    return torch.stack([torch.randn(shape, generator=random_stream(seed, i)) for i in indices])


def generate(model: DiffusionModel, num_samples: int, drawing: Drawing = DEFAULT_DRAWING) -> Tensor:
    """Draw samples; picture i depends on (seed, i) alone, not on the batch it is drawn in.

    Args:
        model: The model.
        num_samples: How many.
        drawing: How they are drawn, and what for.

    Returns:
        ``(num_samples, C, H, W)`` float32 in [-1, 1] on the CPU.

    Raises:
        ValueError: If a picture is not finite.
    """
    timesteps = model_timesteps(model, model.process.last_timestep, drawing.num_steps)
    done = []
    for indices in drawing.batches(num_samples):
        noise = noise_for(model.shape, drawing.seed, indices).to(model.device)
        walked = walk(model, noise, timesteps, drawing.conditions(model, indices))
        done.append(drawing.accepted(model, walked, indices))
        drawing.report(len(indices))
    return torch.cat(done).contiguous() if done else torch.empty(0, *model.image_shape)


def noise_and_denoise(
    model: DiffusionModel, clean: Tensor, t: int, drawing: Drawing = DEFAULT_DRAWING
) -> Tensor:
    """Noise pictures to timestep ``t`` and let the model restore them.

    Args:
        model: The model.
        clean: Pictures ``(N, C, H, W)`` in [-1, 1]; picture i's noise is the stream (seed, i).
        t: Timestep to noise to.
        drawing: How they are restored, and what for.

    Returns:
        Restored pictures ``(N, C, H, W)`` float32 in [-1, 1] on the CPU.

    Raises:
        ValueError: If a picture is not finite.
    """
    process = model.process
    timesteps = model_timesteps(model, t, drawing.num_steps)
    done = []
    for indices in drawing.batches(len(clean)):
        batch = model.space.encode(clean[indices.start : indices.stop].to(model.device))
        noise = noise_for(model.shape, drawing.seed, indices).to(model.device)
        noisy = process.add_noise(batch, noise, torch.full((len(batch),), t, device=batch.device))
        walked = walk(model, noisy, timesteps, drawing.conditions(model, indices))
        done.append(drawing.accepted(model, walked, indices))
        drawing.report(len(indices))
    return torch.cat(done)
