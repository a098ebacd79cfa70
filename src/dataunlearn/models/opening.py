"""Open a model for measuring: where it is, and how it samples."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Literal

import torch

from dataunlearn.config import require
from dataunlearn.models.base import DiffusionModel
from dataunlearn.models.loading import load_model


def best_device() -> str:
    """The name of the best device there is: cuda, mps, or cpu."""
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


@dataclass(frozen=True)
class ModelSource:
    """A model and how it is sampled.

    Args:
        model: Pipeline folder, bare unet folder, or hub id.
        scheduler: Folder with the scheduler's config, for a bare unet folder.
        image_size: Pixels of a side that a text-to-image model works at; None for its own.
        guidance: Scale of classifier-free guidance; None takes the family's usual.
        device: cpu, cuda or mps; None takes the best there is.
    """

    model: str
    scheduler: str | None = None
    image_size: int | None = None
    guidance: float | None = None
    device: Literal["cpu", "cuda", "mps"] | None = None

    def __post_init__(self) -> None:
        """Check ranges."""
        require(self.guidance is None or self.guidance >= 1, "guidance must be at least 1")

    def open(self, device: str | torch.device) -> DiffusionModel:
        """Load the model in eval mode.

        Raises:
            ValueError: If it cannot be loaded, or lacks what a setting is about.
        """
        found = load_model(
            self.model, scheduler=self.scheduler, image_size=self.image_size, device=device
        )
        found.denoiser.eval()
        set_guidance(found, self.guidance)
        return found

    def like(self, model: str) -> ModelSource:
        """Another model, sampled in the same way."""
        return replace(self, model=model)


def set_guidance(model: DiffusionModel, scale: float | None) -> None:
    """Set the scale of classifier-free guidance; None leaves it.

    Raises:
        ValueError: If the model takes no prompts.
    """
    if scale is None:
        return
    require(model.space.nothing(1) is not None, "--guidance is for text-to-image models")
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
