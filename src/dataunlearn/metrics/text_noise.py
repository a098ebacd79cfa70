"""Text-noise norm: how far a prompt moves the predicted noise.

Wen et al. 2024 ("Detecting, Explaining, and Mitigating Memorization in Diffusion Models", ICLR,
section 3): with a memorised prompt c the norm |eps(x_t, c) - eps(x_t, nothing)| is large from the
first sampling step on, whatever the noise that sampling began with.

Norms are in units of noise for every prediction type, so that models can be compared: two
predictions stand for two noises, and since all types are linear, v and flow predictions that differ
by d stand for noises that differ by gamma_t d. Where gamma_t is 0 (at the noisiest timestep of flow
matching, and of schedules with zero terminal signal) x_t is nothing but noise, so every prediction
stands for the same one and the norm is 0: there the next step is the first one to look at.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import torch
from torch import Tensor

from dataunlearn.conditioning import Cond, TextCond
from dataunlearn.data.prompt import Prompt
from dataunlearn.metrics.inputs import Inputs
from dataunlearn.metrics.intervals import mean_interval
from dataunlearn.metrics.measure import Measure
from dataunlearn.metrics.pace import Cost
from dataunlearn.metrics.result import Result
from dataunlearn.models.base import DiffusionModel
from dataunlearn.models.latents import TextSpace, encoded_prompts, text_space
from dataunlearn.models.sampling import Progress, denoise, model_timesteps, noise_for
from dataunlearn.models.space import PixelSpace
from dataunlearn.prediction import noise_if_clean
from dataunlearn.process import ForwardProcess, expand_to
from dataunlearn.runtime.progress import progress_bar
from dataunlearn.runtime.seeding import mix_seed


def noise_distance(process: ForwardProcess, first: Tensor, second: Tensor, t: Tensor) -> Tensor:
    """Euclidean distance between the noises that two predictions at the same x_t stand for.

    Args:
        process: The process that the predictions belong to.
        first: Predictions ``(B, *shape)``.
        second: Others of the same shape.
        t: Timesteps ``(B,)``.

    Returns:
        ``(B,)`` float64, at least 0; it has a gradient where the predictions have one.
    """
    difference = first - second
    # Linear in (x_t, prediction): x_t drops out of the difference, so nothing cancels near gamma 0.
    zero = torch.zeros_like(difference)
    clean = process.clean_estimate(zero, difference, t)
    gamma, sigma = expand_to(process.gamma(t), zero), expand_to(process.sigma(t), zero)
    noise = noise_if_clean(zero, clean, gamma, sigma).flatten(1)
    norm: Tensor = torch.linalg.vector_norm(noise, dim=1, dtype=torch.float64)
    return norm


def noisiest_timestep(process: ForwardProcess) -> int:
    """The noisiest timestep at which predictions stand for different noises: gamma is not 0."""
    last = process.last_timestep
    return last if process.gamma(torch.tensor([last])).item() > 0 else last - 1


def text_noise_norms(
    model: DiffusionModel,
    prompts: Sequence[Prompt] | TextCond,
    *,
    timesteps: Sequence[int] | None = None,
    num_steps: int = 50,
    draws: int = 4,
    seed: int = 0,
    batch_size: int = 64,
    progress: Progress | None = None,
) -> Tensor:
    """Text-noise norms along the model's own sampling (Wen et al. 2024, section 3).

    Sampling begins with seeded noise and follows the model's guidance. Draw j begins with the same
    noise for every prompt, so a prompt's norms do not depend on the others.

    Args:
        model: A text-to-image model, in eval mode.
        prompts: P texts, or encoded ones.
        timesteps: The falling timesteps to walk down, the first one pure noise; None for those of
            ``num_steps`` steps. A single one looks at the first step alone.
        num_steps: Sampling steps.
        draws: Draws of noise averaged over.
        seed: Names the noise.
        batch_size: Samples per call; each step takes two calls.
        progress: Called with the number of samples finished by each batch.

    Returns:
        ``(P, T)`` float64 on the CPU, in units of noise; 0 where gamma_t is 0.

    Raises:
        ValueError: If the model takes no prompts, there are none, or timesteps do not fit.
    """
    steps = _steps(model, timesteps, num_steps)
    return _norms_by_draw(model, prompts, steps, draws, seed, batch_size, progress).mean(dim=1)


@torch.no_grad()
def picture_text_noise(
    model: DiffusionModel,
    images: Tensor,
    prompts: Sequence[Prompt] | TextCond,
    timesteps: Sequence[int],
    *,
    draws: int = 4,
    seed: int = 0,
    batch_size: int = 64,
) -> Tensor:
    """Text-noise norms at noised pictures, each with its own prompt.

    Args:
        model: A text-to-image model, in eval mode.
        images: ``(P, C, H, W)`` in [-1, 1].
        prompts: Their P texts, or encoded ones.
        timesteps: T noise levels.
        draws: Draws of noise averaged over; draw j of timestep t is the same for all pictures.
        seed: Names the noise.
        batch_size: Pictures per call.

    Returns:
        ``(P, T)`` float64 on the CPU, in units of noise.

    Raises:
        ValueError: If the model takes no prompts, or there are not as many as pictures.
    """
    cond, space, process = encoded_prompts(model, prompts), text_space(model), model.process
    if len(cond) != len(images):
        raise ValueError(f"{len(images)} pictures with {len(cond)} prompts: give each its own")
    norms = torch.zeros(len(images), len(timesteps), dtype=torch.float64)
    for begin in range(0, len(images), batch_size):
        rows = slice(begin, begin + batch_size)
        clean, given = space.encode(images[rows].to(model.device)), cond[rows].to(model.device)
        nothing = space.nothing(len(clean)).to(model.device)
        for column, timestep in enumerate(timesteps):
            t = torch.full((len(clean),), timestep, device=model.device)
            stream = mix_seed(seed, timestep)
            for draw in noise_for(model.shape, stream, range(draws)).to(model.device):
                noisy = process.add_noise(clean, draw.expand_as(clean), t)
                pair = model.denoiser(noisy, t, given), model.denoiser(noisy, t, nothing)
                norms[rows, column] += noise_distance(process, *pair, t).cpu()
    return norms / draws


@dataclass(eq=False)
class _Watched(DiffusionModel):
    """A model whose sampling is watched: the text-noise norm of each step is kept.

    Attributes:
        texts: Where "no prompt" comes from; the space itself is one that decodes nothing.
        norms: One ``(B,)`` for each step.
    """

    texts: TextSpace = field(kw_only=True)
    norms: list[Tensor] = field(default_factory=list)

    @torch.no_grad()
    def predict(self, noisy: Tensor, t: Tensor, cond: Cond | None) -> Tensor:
        """As for the model itself."""
        nothing = self.texts.nothing(len(noisy)).to(noisy.device)
        given: Tensor = self.denoiser(noisy, t, cond)
        without: Tensor = self.denoiser(noisy, t, nothing)
        self.norms.append(noise_distance(self.process, given, without, t).cpu())
        return given if self.guidance == 1 else without + self.guidance * (given - without)


def _watched(model: DiffusionModel) -> _Watched:
    names = [part.name for part in fields(DiffusionModel)]
    parts: dict[str, Any] = {name: getattr(model, name) for name in names}
    return _Watched(**parts | {"space": PixelSpace()}, texts=text_space(model))


def _norms_by_draw(
    model: DiffusionModel,
    prompts: Sequence[Prompt] | TextCond,
    steps: list[int],
    draws: int,
    seed: int,
    batch_size: int,
    progress: Progress | None,
) -> Tensor:
    """Norms ``(P, draws, T)``."""
    cond = encoded_prompts(model, prompts)
    noise = noise_for(model.shape, seed, range(draws))
    found = []
    for rows in torch.split(torch.arange(len(cond) * draws), batch_size):
        watched = _watched(model)
        start, given = noise[rows % draws], cond[rows // draws]
        denoise(watched, start.to(model.device), steps, given.to(model.device))
        found.append(torch.stack(watched.norms, dim=1))  # (B, T)
        if progress is not None:
            progress(len(rows))
    return torch.cat(found).reshape(len(cond), draws, len(steps))


def _steps(model: DiffusionModel, timesteps: Sequence[int] | None, num_steps: int) -> list[int]:
    first, last = model.process.first_timestep, model.process.last_timestep
    if timesteps is None:
        return model_timesteps(model, last, num_steps)
    steps = list(timesteps)
    falling = steps == sorted(set(steps), reverse=True)
    if not steps or not falling or steps[0] > last or steps[-1] < first:
        raise ValueError(f"timesteps are {steps}: give falling ones from {last} to {first}")
    return steps


@dataclass(frozen=True)
class TextNoise(Measure):
    """Text-noise norm of the prompts at the first sampling step (Wen et al. 2024).

    Lower after unlearning; but a model that no longer listens to any prompt has 0, so look at
    prompts that it should keep as well.

    Args:
        num_steps: Sampling steps; the settings of the result have the mean norm at each of them.
        draws: Draws of noise averaged over.
        num_prompts: Most prompts: the given ones, or the captions of the forget images.
    """

    num_steps: int = 50
    draws: int = 4
    num_prompts: int = 64

    def __post_init__(self) -> None:
        """Check the settings."""
        if self.num_steps < 2 or self.draws < 1 or self.num_prompts < 1:
            raise ValueError(f"{self}: give at least 2 steps, 1 draw and 1 prompt")

    def check(self, inputs: Inputs) -> None:
        """There must be prompts, and a model that takes them."""
        super().check(inputs)
        text_space(inputs.model)
        if not self._prompts(inputs):
            raise ValueError("TextNoise needs --prompts, or --forget images with captions")

    def cost(self, inputs: Inputs) -> Cost:
        """Two calls a step: with the prompt, and without."""
        return Cost(2 * len(self._prompts(inputs)) * self.draws * self.num_steps)

    def __call__(self, inputs: Inputs) -> list[Result]:
        """The mean over prompts; of one prompt the interval is over the draws."""
        process, prompts = inputs.model.process, self._prompts(inputs)
        steps = _steps(inputs.model, None, self.num_steps)
        with progress_bar("text noise", len(prompts) * self.draws, shown=inputs.shown) as advance:
            settings = (self.draws, inputs.seed, inputs.batch_size, advance)
            norms = _norms_by_draw(inputs.model, prompts, steps, *settings)
        first = next(t for t in steps if t <= noisiest_timestep(process))
        by_draw = norms[:, :, steps.index(first)]  # (P, draws)
        values = by_draw.mean(dim=1)
        spread = values if len(values) > 1 else by_draw[0]
        interval = mean_interval(spread.numpy()) if len(spread) > 1 else None
        by_step = dict(zip(map(str, steps), norms.mean(dim=(0, 1)).tolist(), strict=True))
        facts = {
            "timestep": first,
            "num_steps": self.num_steps,
            "draws": self.draws,
            "guidance": inputs.model.guidance,
            "num_prompts": len(prompts),
            "unit": "noise",
            "mean_by_timestep": by_step,
        }
        return [Result("text_noise", float(values.mean()), interval, False, facts, values)]

    def _prompts(self, inputs: Inputs) -> list[Prompt]:
        captions = [] if inputs.forget is None else inputs.forget.different_captions()
        return list(inputs.prompts or captions)[: self.num_prompts]
