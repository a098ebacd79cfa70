"""What measures work on: a model and images, with everything drawn from them drawn once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from dataunlearn.conditioning import Cond
from dataunlearn.data import ImageSet
from dataunlearn.data.prompt import Prompt
from dataunlearn.metrics.embedders import Embedder
from dataunlearn.metrics.pixel_distance import MOST_ORIGINALS, copy_threshold, distinct_indices
from dataunlearn.models import DiffusionModel
from dataunlearn.models.sampling import Drawing, generate
from dataunlearn.runtime.checks import require
from dataunlearn.runtime.progress import progress_bar
from dataunlearn.runtime.sealed import DamagedFileError
from dataunlearn.runtime.seeding import random_stream
from dataunlearn.runtime.streams import EVALUATION_SEED, REFERENCE_STREAM
from dataunlearn.runtime.tensors import kept_samples, read_tensors, write_samples

Side = Literal["forget", "keep", "held_out"]


@dataclass(eq=False)
class Inputs:
    """One model's inputs to every measure.

    Attributes:
        model: The model, in eval mode.
        forget: Images that it should not know, or None.
        keep: Images that it was trained on and may know, or None.
        held_out: Images of the same kind that it was not trained on, or None.
        before: The model before unlearning, or None.
        reference: A model that never saw the forget images, or None.
        reference_samples: Samples of a model that never saw the forget images: the
            ``samples.safetensors`` that its evaluation left; or None.
        prompts: What a text-to-image model is asked for, in turn; empty for the captions of the
            forget images, or without these no prompt.
        num_samples: Samples drawn from it.
        sampling_steps: Denoiser calls per sample.
        max_images: Most keep or held-out images used, drawn at random.
        batch_size: Images per denoiser call.
        seed: Names every random draw.
        cache: Folder where samples are kept for a later call, or None.
        shown: Whether to draw progress.
        embedders: Those that measures opened, by name and size.
    """

    model: DiffusionModel
    forget: ImageSet | None = None
    keep: ImageSet | None = None
    held_out: ImageSet | None = None
    before: DiffusionModel | None = None
    reference: DiffusionModel | None = None
    reference_samples: Path | None = None
    prompts: Sequence[Prompt] = ()
    num_samples: int = 512
    sampling_steps: int = 25
    max_images: int = 2000
    batch_size: int = 64
    seed: int = EVALUATION_SEED
    cache: Path | None = field(default=None, repr=False)
    shown: bool = True
    embedders: dict[tuple[str, int | None], Embedder] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        """Check ranges."""
        for name in ("sampling_steps", "max_images", "batch_size"):
            value = getattr(self, name)
            require(value >= 1, f"{name} must be at least 1, not {value}")
        for name in ("num_samples", "seed"):
            value = getattr(self, name)
            require(value >= 0, f"{name} must be at least 0, not {value}")

    @cached_property
    def samples(self) -> Tensor:
        """The model's samples ``(N, C, H, W)``; sample i depends on (seed, i) alone."""
        return self._generated(self.model, "samples", self.asked_for(), self.num_samples)

    @cached_property
    def samples_before(self) -> Tensor:
        """Samples of the model before unlearning, from the same noise."""
        assert self.before is not None
        return self._generated(self.before, "samples_before", self.asked_for(), self.num_samples)

    def samples_of(self, prompts: Sequence[Prompt], count: int, name: str) -> Tensor:
        """Samples ``(count, C, H, W)`` of the model for other prompts, kept under a name."""
        return self._generated(self.model, name, prompts, count)

    def _generated(
        self, model: DiffusionModel, name: str, prompts: Sequence[Prompt], count: int
    ) -> Tensor:
        file = None if self.cache is None else self.cache / f"{name}.safetensors"
        kept = None if file is None else kept_samples(file)
        if kept is not None:
            return kept
        label = "drawing " + name.replace("_", " ")
        with progress_bar(label, count, shown=self.shown) as advance:
            samples = generate(
                model,
                count,
                Drawing(
                    seed=self.seed,
                    num_steps=self.sampling_steps,
                    batch_size=self.batch_size,
                    prompts=prompts,
                    progress=advance,
                ),
            )
        if file is not None:
            write_samples(file, samples)
        return samples

    def asked_for(self) -> Sequence[Prompt]:
        """What a text-to-image model is asked for when samples are drawn."""
        if self.prompts or self.forget is None:
            return self.prompts
        return self.model.space.asked_for(self.forget)

    @cached_property
    def samples_of_reference(self) -> Tensor:
        """The reference's samples ``(M, C, H, W)``."""
        assert self.reference_samples is not None
        return read_samples(self.reference_samples)

    @cached_property
    def originals(self) -> Tensor:
        """The different forget images ``(K, C, H, W)``, at most 64."""
        return self.batch("forget")

    @cached_property
    def keep_images(self) -> Tensor:
        """Keep images drawn at random, forget images left out by content."""
        return self.batch("keep")

    @cached_property
    def held_out_images(self) -> Tensor:
        """Held-out images drawn at random, forget images left out by content."""
        return self.batch("held_out")

    @cached_property
    def pixel_threshold(self) -> float:
        """Pixel distance under which an image counts as a copy of a forget image."""
        assert self.forget is not None
        assert self.keep is not None
        return copy_threshold(self.forget, self.keep)

    def batch(self, side: Side) -> Tensor:
        """A side's images ``(N, C, H, W)`` in [-1, 1]."""
        return self._set(side).batch(self._rows(side))

    def conditions(self, side: Side, most: int | None = None) -> Cond | None:
        """Labels or prompts ``(N, ...)`` of a side's first ``most`` images, or of all of them.

        None for an unconditional model.
        """
        return self.model.space.conditions(self._set(side), self._rows(side)[:most])

    def _set(self, side: Side) -> ImageSet:
        images: ImageSet | None = getattr(self, side)
        assert images is not None, side
        return images

    def _rows(self, side: Side) -> Tensor:
        images = self._set(side)
        if side == "forget":
            return torch.tensor(distinct_indices(images, MOST_ORIGINALS))
        hidden = set() if self.forget is None else set(self.forget.digests())
        stream = random_stream(self.seed, REFERENCE_STREAM)
        rows: list[int] = []
        for index in torch.randperm(len(images), generator=stream).tolist():
            if len(rows) == self.max_images:
                break
            if images.digest(index) not in hidden:
                rows.append(index)
        if not rows:
            raise ValueError(f"the {side} images are nothing but forget images")
        return torch.tensor(rows)


def read_samples(file: Path) -> Tensor:
    """Samples that an evaluation left.

    Raises:
        ValueError: If the file is missing, or holds none or some that are not finite.
    """
    try:
        samples = read_tensors(file)["samples"]
    except (DamagedFileError, KeyError) as error:
        raise ValueError(f"{file} holds no samples of an evaluation: {error}") from error
    if not bool(samples.isfinite().all()):
        raise ValueError(f"{file} holds samples that are not finite: delete it to draw them anew")
    return samples
