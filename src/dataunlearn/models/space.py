"""How a model sees pictures: as pixels or latents, with class labels, prompts or nothing."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dataunlearn.conditioning import Cond
from dataunlearn.data.base import ImageSet
from dataunlearn.data.prompt import Prompt


class SampleSpace(ABC):
    """What stands between picture files and a denoiser."""

    @abstractmethod
    def samples(
        self, images: ImageSet, indices: Tensor, generator: torch.Generator | None = None
    ) -> Tensor:
        """Pictures as the denoiser's samples.

        Args:
            images: The set.
            indices: Which ones, ``(B,)``.
            generator: Where a random encoding is drawn from; None takes its mean.

        Returns:
            ``(B, *shape)`` float32 on the CPU.
        """

    @abstractmethod
    def encode(self, pixels: Tensor) -> Tensor:
        """Pictures ``(B, C, H, W)`` in [-1, 1] as samples ``(B, *shape)``, without randomness."""

    @abstractmethod
    def decode(self, samples: Tensor) -> Tensor:
        """Samples as pictures ``(B, C, H, W)`` in [-1, 1]."""

    @abstractmethod
    def conditions(self, images: ImageSet, indices: Tensor) -> Cond | None:
        """Labels or prompts of pictures, ``(B, ...)``; None for an unconditional model."""

    @abstractmethod
    def nothing(self, count: int) -> Cond | None:
        """What stands for "no prompt", ``count`` times; None where a model has no such thing."""

    @abstractmethod
    def drawn(self, indices: range, prompts: Sequence[Prompt] = ()) -> Cond | None:
        """What samples number ``indices`` are drawn for: classes or the given prompts, in turn."""

    @abstractmethod
    def asked_for(self, images: ImageSet) -> list[Prompt]:
        """What a model is asked for to draw pictures such as these; empty where it takes none."""

    def to(self, device: torch.device | str) -> None:
        """Move what encodes and decodes to a device."""
        del device

    @abstractmethod
    def check(self, images: ImageSet, role: str) -> None:
        """Refuse a set that lacks what the model is conditioned on.

        Raises:
            ValueError: With what is missing and how to give it.
        """


@dataclass(frozen=True)
class PixelSpace(SampleSpace):
    """Pixels as they are, with class labels or without.

    Args:
        num_classes: Number of the model's classes; None for an unconditional model.
    """

    num_classes: int | None = None

    def samples(
        self, images: ImageSet, indices: Tensor, generator: torch.Generator | None = None
    ) -> Tensor:
        """The pictures themselves."""
        return images.batch(indices)

    def encode(self, pixels: Tensor) -> Tensor:
        """The pictures themselves."""
        return pixels

    def decode(self, samples: Tensor) -> Tensor:
        """The samples, clamped to [-1, 1]."""
        return samples.clamp(-1, 1)

    def conditions(self, images: ImageSet, indices: Tensor) -> Tensor | None:
        """Class labels ``(B,)``; None for an unconditional model."""
        return None if self.num_classes is None else images.labels(indices)

    def nothing(self, count: int) -> None:
        """No such thing: class labels have no "no class"."""

    def drawn(self, indices: range, prompts: Sequence[Prompt] = ()) -> Tensor | None:
        """Classes 0, 1, 2, ... in turn; None for an unconditional model.

        Raises:
            ValueError: If prompts are given.
        """
        if prompts:
            raise ValueError("this model takes no prompts: leave them out")
        if self.num_classes is None:
            return None
        return torch.tensor([index % self.num_classes for index in indices])

    def asked_for(self, images: ImageSet) -> list[Prompt]:
        """Nothing: captions that pictures may have concern no pixel model."""
        return []

    def check(self, images: ImageSet, role: str) -> None:
        """Refuse data without usable labels for a class-conditional model."""
        if self.num_classes is None:
            return
        if not images.has_labels:
            raise ValueError(
                f"the model is class-conditional, but the {role} images carry no labels: sort them "
                "into sub-folders named by class number, or give an .npz with labels"
            )
        labels = images.labels(torch.arange(len(images)))
        assert labels is not None
        if int(labels.min()) < 0 or int(labels.max()) >= self.num_classes:
            raise ValueError(
                f"the {role} images' labels run from {int(labels.min())} to {int(labels.max())}, "
                f"the model has classes 0 to {self.num_classes - 1}"
            )
