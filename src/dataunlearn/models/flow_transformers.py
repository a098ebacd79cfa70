"""Stable Diffusion 3 and Flux: transformers on latents, trained by flow matching."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from dataunlearn.conditioning import Cond, TextCond
from dataunlearn.models.base import DiffusionModel
from dataunlearn.models.text_to_image import (
    LatentSize,
    latent_size_for,
    prompts_of,
    wrap_text_to_image,
)

GUIDANCE_3 = 7.0
GUIDANCE_EMBEDDED = 3.5
FLUX_PATCH = 2


class StableDiffusion3Denoiser(nn.Module):
    """An ``SD3Transformer2DModel`` behind the one call that the engine knows."""

    def __init__(self, transformer: nn.Module) -> None:
        super().__init__()
        self.transformer = transformer

    def forward(self, noisy: Tensor, t: Tensor, cond: Cond | None) -> Tensor:
        """Predict from noisy latents ``(B, C, H, W)``.

        ``cond`` has ``prompt (B, L, D)`` and ``pooled (B, P)``; t is sigma times the number of
        training timesteps.
        """
        fields = prompts_of(cond).fields
        prediction: Tensor = self.transformer(
            hidden_states=noisy,
            timestep=t,
            encoder_hidden_states=fields["prompt"],
            pooled_projections=fields["pooled"],
            return_dict=False,
        )[0]
        return prediction


class FluxDenoiser(nn.Module):
    """A ``FluxTransformer2DModel``, which sees latents as a sequence of 2x2 patches.

    Args:
        transformer: The network.
        num_train_timesteps: What t is divided by.
        guidance: The scale that a guidance-distilled model is told; None for the others.
    """

    def __init__(
        self, transformer: nn.Module, num_train_timesteps: int, guidance: float | None
    ) -> None:
        super().__init__()
        self.transformer = transformer
        self.num_train_timesteps, self.guidance = num_train_timesteps, guidance

    def forward(self, noisy: Tensor, t: Tensor, cond: Cond | None) -> Tensor:
        """Predict from noisy latents ``(B, C, H, W)``; ``cond`` as for Stable Diffusion 3."""
        fields = prompts_of(cond).fields
        height, width = noisy.shape[2:]
        length = fields["prompt"].shape[1]
        prediction: Tensor = self.transformer(
            hidden_states=to_patches(noisy),
            timestep=t / self.num_train_timesteps,
            guidance=None if self.guidance is None else torch.full_like(t.float(), self.guidance),
            pooled_projections=fields["pooled"],
            encoder_hidden_states=fields["prompt"],
            txt_ids=noisy.new_zeros(length, 3),
            img_ids=patch_positions(height // FLUX_PATCH, width // FLUX_PATCH).to(noisy),
            return_dict=False,
        )[0]
        return from_patches(prediction, height, width)


def sampling_shift(scheduler: Any, num_patches: int) -> float:
    """How the scheduler spaces sampling steps: sigma becomes s sigma / (1 + (s - 1) sigma).

    A dynamic shift is the exponential of a number that grows with the length of the sequence, as
    the pipelines compute it (Esser et al. 2024, arXiv 2403.03206, section 5.3.2).
    """
    config = scheduler.config
    if not config.get("use_dynamic_shifting"):
        return float(config.get("shift", 1.0))
    short, long = config.base_image_seq_len, config.max_image_seq_len
    slope = (config.max_shift - config.base_shift) / (long - short)
    return math.exp(config.base_shift + slope * (num_patches - short))


def num_patches(size: LatentSize, side: int) -> int:
    """How many patches of a side cover latents."""
    height, width = size
    return (height // side) * (width // side)


def to_patches(latents: Tensor) -> Tensor:
    """Latents ``(B, C, H, W)`` as a row-major sequence of 2x2 patches ``(B, H/2 * W/2, 4 C)``."""
    return nn.functional.pixel_unshuffle(latents, FLUX_PATCH).flatten(2).transpose(1, 2)


def from_patches(patches: Tensor, height: int, width: int) -> Tensor:
    """The inverse of :func:`to_patches`."""
    rows, columns = height // FLUX_PATCH, width // FLUX_PATCH
    grid = patches.transpose(1, 2).reshape(len(patches), -1, rows, columns)
    return nn.functional.pixel_shuffle(grid, FLUX_PATCH)


def patch_positions(rows: int, columns: int) -> Tensor:
    """Positions ``(rows * columns, 3)`` of the patches: 0, row, column."""
    row, column = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    return torch.stack([torch.zeros_like(row), row, column], dim=-1).reshape(-1, 3).float()


def wrap_stable_diffusion_3(
    pipeline: Any, source: str, image_size: int | None = None
) -> DiffusionModel:
    """Wrap a ``StableDiffusion3Pipeline``."""

    def encode(texts: Sequence[str]) -> TextCond:
        device = pipeline.text_encoder.device
        with torch.no_grad():
            prompt, _, pooled, _ = pipeline.encode_prompt(
                list(texts), None, None, device=device, do_classifier_free_guidance=False
            )
        return TextCond({"prompt": prompt.float(), "pooled": pooled.float()})

    config = pipeline.transformer.config
    size = latent_size_for(pipeline, image_size, config.sample_size, config.patch_size)
    return wrap_text_to_image(
        pipeline,
        StableDiffusion3Denoiser(pipeline.transformer),
        encode,
        latent_channels=config.in_channels,
        latent_size=size,
        guidance=GUIDANCE_3,
        source=source,
        shift=sampling_shift(pipeline.scheduler, num_patches(size, config.patch_size)),
    )


def wrap_flux(pipeline: Any, source: str, image_size: int | None = None) -> DiffusionModel:
    """Wrap a ``FluxPipeline``; its guidance is part of the network, where it has any."""

    def encode(texts: Sequence[str]) -> TextCond:
        device = pipeline.text_encoder.device
        with torch.no_grad():
            prompt, pooled, _ = pipeline.encode_prompt(
                list(texts), None, device=device, max_sequence_length=length
            )
        return TextCond({"prompt": prompt.float(), "pooled": pooled.float()})

    config = pipeline.transformer.config
    distilled = bool(config.guidance_embeds)
    length = min(512 if distilled else 256, pipeline.tokenizer_2.model_max_length)
    steps = pipeline.scheduler.config.num_train_timesteps
    guidance = GUIDANCE_EMBEDDED if distilled else None
    size = latent_size_for(pipeline, image_size, pipeline.default_sample_size, FLUX_PATCH)
    return wrap_text_to_image(
        pipeline,
        FluxDenoiser(pipeline.transformer, steps, guidance),
        encode,
        latent_channels=config.in_channels // FLUX_PATCH**2,
        latent_size=size,
        guidance=1.0,
        source=source,
        shift=sampling_shift(pipeline.scheduler, num_patches(size, FLUX_PATCH)),
    )
