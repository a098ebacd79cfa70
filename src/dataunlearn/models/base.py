"""A loaded model of any family, behind one call ``(noisy, t, cond) -> prediction``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dataunlearn.conditioning import Cond
from dataunlearn.models.space import PixelSpace, SampleSpace
from dataunlearn.process import ForwardProcess
from dataunlearn.runtime.checks import require

Shape = tuple[int, int, int]


@dataclass(eq=False)
class DiffusionModel:
    """A loaded model: its pipeline, and what the rest of the library needs to know of it.

    Attributes:
        pipeline: The diffusers pipeline.
        denoiser: The adapter around the network that is trained.
        process: The forward process it was trained with.
        shape: (channels, height, width) of a sample: pixels in [-1, 1], or latents.
        image_shape: (channels, height, width) of a picture; as ``shape`` for pixel models.
        space: How pictures become samples and captions conditioning, and back.
        source: Where it was loaded from.
        guidance: Scale of classifier-free guidance while sampling; 1 is none.
        shift: How much more of the sampling steps a flow model spends on noisy levels; 1 is evenly.
    """

    pipeline: Any
    denoiser: nn.Module
    process: ForwardProcess
    shape: Shape
    image_shape: Shape
    space: SampleSpace
    source: str
    guidance: float = 1.0
    shift: float = 1.0

    @property
    def num_classes(self) -> int | None:
        """Number of class labels; None for an unconditional or text-to-image model."""
        return self.space.num_classes if isinstance(self.space, PixelSpace) else None

    @property
    def takes_prompts(self) -> bool:
        """Whether it is asked for something in words."""
        return self.space.nothing(1) is not None

    @property
    def device(self) -> torch.device:
        """Where the denoiser's parameters live."""
        return next(self.denoiser.parameters()).device

    @property
    def num_parameters(self) -> int:
        """Number of the denoiser's parameters."""
        return sum(param.numel() for param in self.denoiser.parameters())

    def to(self, device: str | torch.device) -> DiffusionModel:
        """Move the denoiser and the sample space to a device, in place."""
        self.denoiser.to(device)
        self.space.to(device)
        return self

    @torch.no_grad()
    def predict(self, noisy: Tensor, t: Tensor, cond: Cond | None) -> Tensor:
        """The prediction that sampling follows: with classifier-free guidance, if it is on.

        With guidance scale s this is n + s (p - n), p the prediction for the conditioning and n the
        one for no prompt (Ho and Salimans, 2022, arXiv 2207.12598); it is the same combination for
        noise, v and flow predictions, since they are linear in each other.

        Args:
            noisy: Samples ``(B, *shape)``.
            t: Timesteps ``(B,)``.
            cond: Conditioning ``(B, ...)``, or None.

        Returns:
            ``(B, *shape)``.
        """
        prediction: Tensor = self.denoiser(noisy, t, cond)
        nothing = None if self.guidance == 1 else self.space.nothing(len(noisy))
        if cond is None or nothing is None:
            return prediction
        without: Tensor = self.denoiser(noisy, t, nothing.to(noisy.device))
        return without + self.guidance * (prediction - without)


def require_comparable(reference: DiffusionModel, like: DiffusionModel) -> None:
    """Refuse a reference that draws other things than the model that it is compared with.

    Raises:
        ValueError: If their pictures, classes or prompts differ.
    """
    require(
        reference.image_shape == like.image_shape and reference.num_classes == like.num_classes,
        f"the reference {reference.source} draws {reference.image_shape} with "
        f"{reference.num_classes} classes, the model {like.image_shape} with {like.num_classes}: "
        "they cannot be compared",
    )
    require(
        reference.takes_prompts == like.takes_prompts,
        f"of the reference {reference.source} and the model one takes prompts and the other does "
        "not: they cannot be compared",
    )


def set_guidance(model: DiffusionModel, scale: float | None) -> None:
    """Set the scale of classifier-free guidance; None leaves it.

    Raises:
        ValueError: If the model takes no prompts.
    """
    if scale is None:
        return
    require(model.takes_prompts, "--guidance is for text-to-image models")
    model.guidance = scale


@contextmanager
def guided(model: DiffusionModel, scale: float) -> Iterator[None]:
    """Another scale of classifier-free guidance for a while.

    Raises:
        ValueError: If the model takes no prompts.
    """
    usual = model.guidance
    set_guidance(model, scale)
    try:
        yield
    finally:
        model.guidance = usual
