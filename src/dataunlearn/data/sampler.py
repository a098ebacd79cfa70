"""Which pairs a step trains on: a pure function of (seed, step), so resuming needs no state."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from dataunlearn.data.base import ImageSet
from dataunlearn.process import ForwardProcess
from dataunlearn.rows import Pair
from dataunlearn.seeding import random_stream
from dataunlearn.timesteps import TimestepPolicy, Uniform

KEEP_STREAM, FORGET_STREAM, NOISE_STREAM, OBJECTIVE_STREAM = range(4)


@dataclass(eq=False)
class EpochOrder:
    """Batches of indices 0..size-1 in an order that is reshuffled every epoch.

    Args:
        size: Number of items.
        seed: Names the shuffles.
        stream: Tells several orders under one seed apart.
    """

    size: int
    seed: int
    stream: int
    _cache: dict[int, Tensor] = field(default_factory=dict, repr=False)

    def batch(self, step: int, count: int) -> Tensor:
        """The ``count`` indices of batch number ``step``; batches run on across epochs."""
        positions = torch.arange(step * count, (step + 1) * count)
        epochs = positions // self.size
        picked = torch.empty_like(positions)
        for epoch in range(int(epochs[0]), int(epochs[-1]) + 1):
            inside = epochs == epoch
            picked[inside] = self._shuffle(epoch)[positions[inside] % self.size]
        return picked

    def _shuffle(self, epoch: int) -> Tensor:
        if epoch not in self._cache:
            generator = random_stream(self.seed, self.stream, epoch)
            self._cache = {old: order for old, order in self._cache.items() if old >= epoch - 1}
            self._cache[epoch] = torch.randperm(self.size, generator=generator)
        return self._cache[epoch]


class PairSampler:
    """Draws the global pairs of every step, on the CPU.

    Args:
        keep: The images to keep (or to train on).
        forget: The images to forget; None where an objective has no forget side, which then sees
            the keep samples in their place.
        process: The model's forward process.
        batch_pairs: B, pairs per step over all processes.
        timesteps: Policy for the noise levels.
        seed: Names all draws.
        num_classes: Number of the model's classes; None for an unconditional model.

    Raises:
        ValueError: If a set is empty, its labels do not fit, or the policy does not.
    """

    def __init__(
        self,
        keep: ImageSet,
        forget: ImageSet | None,
        process: ForwardProcess,
        *,
        batch_pairs: int,
        timesteps: TimestepPolicy | None = None,
        seed: int = 0,
        num_classes: int | None = None,
    ) -> None:
        self.keep, self.forget = keep, keep if forget is None else forget
        self.process = process
        for role, images in (("keep", self.keep), ("forget", self.forget)):
            if len(images) == 0:
                raise ValueError(f"the {role} set is empty")
        self.batch_pairs, self.seed, self.num_classes = batch_pairs, seed, num_classes
        self.timesteps = timesteps or Uniform()
        self.timesteps.bounds(process)
        self._keep_order = EpochOrder(len(self.keep), seed, KEEP_STREAM)
        self._forget_order = EpochOrder(len(self.forget), seed, FORGET_STREAM)
        if num_classes is not None:
            check_labels(self.keep, num_classes, "keep")
            check_labels(self.forget, num_classes, "forget")

    def __call__(self, step: int) -> Pair:
        """The pairs of step number ``step``, from 0."""
        keep_index = self._keep_order.batch(step, self.batch_pairs)
        forget_index = (
            keep_index
            if self.forget is self.keep
            else self._forget_order.batch(step, self.batch_pairs)
        )
        generator = random_stream(self.seed, NOISE_STREAM, step)
        keep = self.keep.batch(keep_index)
        conditional = self.num_classes is not None
        return Pair(
            keep,
            self.forget.batch(forget_index),
            self.timesteps.draw(self.batch_pairs, self.process, generator),
            torch.randn(keep.shape, generator=generator),
            self.keep.labels(keep_index) if conditional else None,
            self.forget.labels(forget_index) if conditional else None,
        )

    def objective_stream(self, step: int) -> torch.Generator:
        """The generator for the objective's own draws at ``step``."""
        return random_stream(self.seed, OBJECTIVE_STREAM, step)


def check_labels(images: ImageSet, num_classes: int, role: str) -> None:
    """Refuse data without usable labels for a class-conditional model.

    Raises:
        ValueError: If labels are missing or out of range.
    """
    if not images.has_labels:
        raise ValueError(
            f"the model is class-conditional, but the {role} images carry no labels: sort them "
            "into sub-folders named by class number, or give an .npz with labels"
        )
    labels = images.labels(torch.arange(len(images)))
    assert labels is not None
    if int(labels.min()) < 0 or int(labels.max()) >= num_classes:
        raise ValueError(
            f"the {role} images' labels run from {int(labels.min())} to {int(labels.max())}, the "
            f"model has classes 0 to {num_classes - 1}"
        )
