"""Stable Diffusion 1 and 2, and Stable Diffusion XL: ``UNet2DConditionModel`` on latents."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from dataunlearn.conditioning import Cond, TextCond
from dataunlearn.models.base import DiffusionModel
from dataunlearn.models.text_to_image import latent_size_for, prompts_of, wrap_text_to_image

GUIDANCE = 7.5
GUIDANCE_XL = 5.0


class StableDiffusionDenoiser(nn.Module):
    """A ``UNet2DConditionModel`` that sees a prompt through cross-attention alone."""

    def __init__(self, unet: nn.Module) -> None:
        super().__init__()
        self.unet = unet

    def forward(self, noisy: Tensor, t: Tensor, cond: Cond | None) -> Tensor:
        """Predict from noisy latents ``(B, C, H, W)``, with ``prompt (B, L, D)`` in ``cond``."""
        prompt = prompts_of(cond).fields["prompt"]
        prediction: Tensor = self.unet(noisy, t, encoder_hidden_states=prompt, return_dict=False)[0]
        return prediction


class StableDiffusionXLDenoiser(nn.Module):
    """A ``UNet2DConditionModel`` that also sees a pooled prompt and the picture's size."""

    def __init__(self, unet: nn.Module) -> None:
        super().__init__()
        self.unet = unet

    def forward(self, noisy: Tensor, t: Tensor, cond: Cond | None) -> Tensor:
        """Predict from noisy latents ``(B, C, H, W)``.

        ``cond`` has ``prompt (B, L, D)``, ``pooled (B, P)`` and ``sizes (B, 6)``.
        """
        fields = prompts_of(cond).fields
        added = {"text_embeds": fields["pooled"], "time_ids": fields["sizes"]}
        prediction: Tensor = self.unet(
            noisy,
            t,
            encoder_hidden_states=fields["prompt"],
            added_cond_kwargs=added,
            return_dict=False,
        )[0]
        return prediction


def wrap_stable_diffusion(
    pipeline: Any, source: str, image_size: int | None = None
) -> DiffusionModel:
    """Wrap a ``StableDiffusionPipeline`` (1.x with noise, 2.x also with v predictions).

    Raises:
        ValueError: If its unet takes more than latents (an inpainting or depth model).
    """

    def encode(texts: Sequence[str]) -> TextCond:
        device = pipeline.text_encoder.device
        with torch.no_grad():
            prompt, _ = pipeline.encode_prompt(list(texts), device, 1, False)
        return TextCond({"prompt": prompt.float()})

    unet = plain_unet(pipeline, source)
    return wrap_text_to_image(
        pipeline,
        StableDiffusionDenoiser(unet),
        encode,
        latent_channels=unet.config.in_channels,
        latent_size=latent_size_for(pipeline, image_size, unet.config.sample_size),
        guidance=GUIDANCE,
        source=source,
    )


def wrap_stable_diffusion_xl(
    pipeline: Any, source: str, image_size: int | None = None
) -> DiffusionModel:
    """Wrap a ``StableDiffusionXLPipeline``.

    Raises:
        ValueError: If its unet takes more than latents, or it is a refiner.
    """
    unet = plain_unet(pipeline, source)
    if pipeline.text_encoder is None:
        raise ValueError(f"{source}: SDXL's refiner is not supported; give the base model")
    latent_size = latent_size_for(pipeline, image_size, unet.config.sample_size)
    high, wide = (float(side * pipeline.vae_scale_factor) for side in latent_size)
    zero_empty = bool(pipeline.config.get("force_zeros_for_empty_prompt"))

    def encode(texts: Sequence[str]) -> TextCond:
        device = pipeline.text_encoder.device
        with torch.no_grad():
            prompt, _, pooled, _ = pipeline.encode_prompt(
                list(texts),
                device=device,
                num_images_per_prompt=1,
                do_classifier_free_guidance=False,
            )
        if zero_empty:  # as the pipeline does where a prompt is empty
            given = torch.tensor([bool(text) for text in texts], device=device)
            prompt, pooled = prompt * given[:, None, None], pooled * given[:, None]
        sizes = torch.tensor([[high, wide, 0.0, 0.0, high, wide]]).expand(len(texts), 6)
        return TextCond({"prompt": prompt.float(), "pooled": pooled.float(), "sizes": sizes})

    return wrap_text_to_image(
        pipeline,
        StableDiffusionXLDenoiser(unet),
        encode,
        latent_channels=unet.config.in_channels,
        latent_size=latent_size,
        guidance=GUIDANCE_XL,
        source=source,
    )


def plain_unet(pipeline: Any, source: str) -> Any:
    """The pipeline's unet.

    Raises:
        ValueError: If it takes more than latents.
    """
    unet = pipeline.unet
    if unet.config.in_channels != unet.config.out_channels:
        raise ValueError(
            f"{source}: a unet with {unet.config.in_channels} input and "
            f"{unet.config.out_channels} output channels (inpainting, depth, editing) is not "
            "supported; give a text-to-image model"
        )
    return unet
