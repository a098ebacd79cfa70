"""A picture's latent is the same whatever was encoded before it, and with it."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from dataunlearn.data import ArrayImages
from dataunlearn.models.latents import LatentCoder, TextSpace


class BatchDependentCoder(LatentCoder):
    """A coder whose last bits depend on the batch, as a convolution's do (by 3e-6 for emoji_sd)."""

    def posterior(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        mean = pixels.mean(1, keepdim=True) * (1 + 1e-6 * len(pixels))
        return mean, torch.ones_like(mean)


def test_latents_do_not_depend_on_what_is_known_already() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (6, 3, 4, 4), dtype=np.uint8)
    images = ArrayImages(pixels)

    def space() -> TextSpace:
        return TextSpace(BatchDependentCoder(None, 1.0, 0.0), encode_texts=lambda texts: None)  # type: ignore[arg-type, return-value]

    at_once = space().samples(images, torch.arange(6))
    other = space()
    for part in ([4], [0, 4, 2], [5, 1, 3, 0]):
        other.samples(images, torch.tensor(part))
    assert torch.equal(other.samples(images, torch.arange(6)), at_once)
