"""Optimised initial noise: is there noise, as likely as any other, that an image is drawn from?

What a model does not draw by chance it may still draw from noise that was made for it (arXiv
2412.00782; Hammoud et al. for concepts). Noise is sought by gradient descent through the sampler,
the weights as they are, and kept as long as likely noise is. A sampler is nearly one to one, so
that with enough steps any model can be led to any picture: how many tries end at a copy after few
steps stands beside a model that never saw the image, or beside pictures that this one never saw.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from dataunlearn.conditioning import Cond
from dataunlearn.models import DiffusionModel
from dataunlearn.models.sampling import Progress, denoise, model_timesteps, noise_for, steps_down
from dataunlearn.runtime.checks import require


@dataclass(frozen=True)
class NoiseSearch:
    """How noise is sought.

    Args:
        steps: Steps of Adam.
        learning_rate: Of Adam.
        tries: Noises to begin at, each on its own.
        sampling_steps: Denoiser calls per sample.
        seed: Names the noises.
    """

    steps: int = 30
    learning_rate: float = 0.05
    tries: int = 8
    sampling_steps: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        """Check ranges."""
        for name in ("steps", "tries", "sampling_steps"):
            require(getattr(self, name) >= 1, f"{name} must be at least 1")
        require(self.learning_rate > 0, "learning_rate must be above 0")
        require(self.seed >= 0, f"seed must be at least 0, not {self.seed}")

    @property
    def trained(self) -> int:
        """Pictures that go through the model and back while noise is sought."""
        return self.steps * self.sampling_steps * self.tries


@dataclass(frozen=True, eq=False)
class FoundNoise:
    """What was found for one image.

    Attributes:
        noise: The noises, ``(tries, *shape)``.
        pictures: What the model draws from them, ``(tries, C, H, W)`` in [-1, 1].
        errors: Mean squared difference to the image before each step, ``(steps, tries)``.
    """

    noise: Tensor
    pictures: Tensor
    errors: Tensor


def draw_out(
    model: DiffusionModel,
    image: Tensor,
    cond: Cond | None,
    settings: NoiseSearch,
    *,
    progress: Progress | None = None,
) -> FoundNoise:
    """Seek noises that a model draws an image from.

    Args:
        model: The model, in eval mode.
        image: The image ``(1, C, H, W)`` in [-1, 1].
        cond: Its label or prompt ``(1, ...)``, or None.
        settings: How they are sought.
        progress: Called with the number of pictures that went through the model and back.

    Raises:
        ValueError: If an error is not finite.
    """
    wanted = model.space.encode(image.to(model.device))
    timesteps = model_timesteps(model, model.process.last_timestep, settings.sampling_steps)
    noise = noise_for(model.shape, settings.seed, range(settings.tries)).to(model.device)
    conds = None if cond is None else cond.to(model.device).repeat_interleave(settings.tries)
    noise = _as_long_as_likely(noise).requires_grad_()
    optimizer = torch.optim.Adam([noise], lr=settings.learning_rate)
    errors = []
    for step in range(settings.steps):
        error = (_drawn(model, noise, timesteps, conds) - wanted).square().flatten(1).mean(1)
        require(
            bool(error.isfinite().all()), f"{model.source}: the error of step {step} is not finite"
        )
        (noise.grad,) = torch.autograd.grad(error.sum(), noise)
        optimizer.step()
        with torch.no_grad():
            noise.copy_(_as_long_as_likely(noise))
        errors.append(error.detach().cpu())
        if progress is not None:
            progress(settings.sampling_steps * settings.tries)
    found = noise.detach()
    return FoundNoise(
        found.cpu(), denoise(model, found, timesteps, conds).cpu(), torch.stack(errors)
    )


def _drawn(model: DiffusionModel, noise: Tensor, timesteps: list[int], cond: Cond | None) -> Tensor:
    """The sample at the end of the walk; only one call's intermediate values are held at a time."""

    def predict(sample: Tensor, t: Tensor) -> Tensor:
        found: Tensor = checkpoint(model.predict, sample, t, cond, use_reentrant=False)
        return found

    last: Tensor = list(steps_down(model, noise, timesteps, predict))[-1][1]
    return last


def _as_long_as_likely(noise: Tensor) -> Tensor:
    """Each noise scaled to the length that nearly all normal noise has, the root of its size."""
    flat = noise.flatten(1)
    lengths = flat.norm(dim=1, keepdim=True)
    scaled: Tensor = flat * (math.sqrt(flat.shape[1]) / lengths)
    return scaled.view_as(noise)
