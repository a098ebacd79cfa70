"""How an autoencoder's latents spread, and how well it restores pictures."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from diffusers import AutoencoderKL

from dataunlearn.data import ImageSet
from dataunlearn.runtime.checks import require
from dataunlearn.runtime.seeding import random_stream

MAX_SPREAD_IMAGES = 512


@dataclass(frozen=True)
class ReconstructionError:
    """How far reconstructions are from a set of pictures.

    Attributes:
        mean_absolute: Mean absolute difference of pixels in [0, 255].
        psnr: Peak signal-to-noise ratio in dB, from the mean squared difference over all pictures;
            infinite where nothing differs.
    """

    mean_absolute: float
    psnr: float


@torch.no_grad()
def latent_deviation(
    vae: AutoencoderKL, images: ImageSet, seed: int, batch_images: int = 64
) -> float:
    """Standard deviation of posterior samples over all dimensions of at most 512 pictures.

    Args:
        vae: The autoencoder.
        images: Pictures of its size; beyond 512, so many are drawn.
        seed: Names the pictures and the noise.
        batch_images: Pictures per call.

    Raises:
        ValueError: If the latents do not vary, or are not finite.
    """
    generator = random_stream(seed)
    chosen = torch.randperm(len(images), generator=generator)[:MAX_SPREAD_IMAGES]
    latents = [
        vae.encode(images.batch(indices).to(vae.device)).latent_dist.sample(generator).cpu()
        for indices in torch.split(chosen, batch_images)
    ]
    deviation = float(torch.cat(latents).double().std())
    require(
        math.isfinite(deviation) and deviation > 0,
        f"the latents' standard deviation is {deviation}: lower kl_weight or the learning rate",
    )
    return deviation


@torch.no_grad()
def reconstruction_error(
    vae: AutoencoderKL, images: ImageSet, batch_size: int = 64
) -> ReconstructionError:
    """Compare pictures with what the autoencoder makes of the means of their posteriors.

    Args:
        vae: The autoencoder.
        images: Pictures of its size, at least one; reconstructions are clamped to their range.
        batch_size: Pictures per call.

    Raises:
        ValueError: If there is no picture.
    """
    require(len(images) > 0, "there is no picture to reconstruct")
    absolute = squared = 0.0
    for indices in torch.split(torch.arange(len(images)), batch_size):
        pictures = images.batch(indices)
        on_device = pictures.to(vae.device)
        restored = vae.decode(vae.encode(on_device).latent_dist.mean).sample.clamp(-1, 1)
        difference = (restored.cpu() - pictures).double() * 127.5
        absolute += float(difference.abs().sum())
        squared += float(difference.square().sum())
    count = len(images) * math.prod(images.shape)
    psnr = 10 * math.log10(255**2 * count / squared) if squared > 0 else math.inf
    return ReconstructionError(absolute / count, psnr)
