"""Which pairs a step trains on: a pure function of (seed, step), so resuming needs no state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from dataunlearn.conditioning import Cond, choose_conds
from dataunlearn.data.base import ImageSet
from dataunlearn.data.prompt import Prompt
from dataunlearn.models.space import PixelSpace, SampleSpace
from dataunlearn.process import ForwardProcess
from dataunlearn.rows import Pair
from dataunlearn.runtime.seeding import mix_seed, random_stream
from dataunlearn.runtime.streams import (
    DROPOUT_STREAM,
    ENCODING_STREAM,
    FORGET_STREAM,
    KEEP_STREAM,
    NOISE_STREAM,
    OBJECTIVE_STREAM,
    PROMPT_STREAM,
)
from dataunlearn.timesteps import TimestepPolicy, Uniform

PIXELS = PixelSpace()


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
        space: How the model sees pictures.
        prompt_dropout: Probability that a pair loses its prompts, both sides together, as models
            with classifier-free guidance are trained.

    Raises:
        ValueError: If a set is empty, its labels do not fit, the policy does not, or there are no
            prompts to drop.
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
        space: SampleSpace = PIXELS,
        prompt_dropout: float = 0.0,
    ) -> None:
        self.keep, self.forget = keep, keep if forget is None else forget
        self.process = process
        for role, images in (("keep", self.keep), ("forget", self.forget)):
            if len(images) == 0:
                raise ValueError(f"the {role} set is empty")
        self.batch_pairs, self.seed, self.space = batch_pairs, seed, space
        if prompt_dropout and space.nothing(1) is None:
            raise ValueError("prompt_dropout is for models with prompts: leave it at 0")
        self.prompt_dropout = prompt_dropout
        self.timesteps = timesteps or Uniform()
        self.timesteps.bounds(process)
        self._keep_order = EpochOrder(len(self.keep), seed, KEEP_STREAM)
        self._forget_order = EpochOrder(len(self.forget), seed, FORGET_STREAM)
        space.check(self.keep, "keep")
        space.check(self.forget, "forget")

    def __call__(self, step: int) -> Pair:
        """The pairs of step number ``step``, from 0."""
        keep_index, forget_index = self.indices(step)
        generator = random_stream(self.seed, NOISE_STREAM, step)
        encoding = random_stream(self.seed, ENCODING_STREAM, step)
        keep = self.space.samples(self.keep, keep_index, encoding)
        forget = (
            keep
            if self.forget is self.keep
            else self.space.samples(self.forget, forget_index, encoding)
        )
        return Pair(
            keep,
            forget,
            self.timesteps.draw(self.batch_pairs, self.process, generator),
            torch.randn(keep.shape, generator=generator),
            self._conditions(self.keep, keep_index, step),
            self._conditions(self.forget, forget_index, step),
            None if self.forget is self.keep else self._picture_numbers[forget_index],
        )

    @cached_property
    def _picture_numbers(self) -> Tensor:
        """Which of the different forget images each one is, in the order that they come in."""
        numbers: dict[str, int] = {}
        found = [numbers.setdefault(digest, len(numbers)) for digest in self.forget.digests()]
        return torch.tensor(found, dtype=torch.int64)

    def indices(self, step: int) -> tuple[Tensor, Tensor]:
        """Which keep and which forget images make the pairs of a step, each ``(B,)``."""
        keep_index = self._keep_order.batch(step, self.batch_pairs)
        if self.forget is self.keep:
            return keep_index, keep_index
        return keep_index, self._forget_order.batch(step, self.batch_pairs)

    def _conditions(self, images: ImageSet, index: Tensor, step: int) -> Cond | None:
        cond, nothing = self.space.conditions(images, index), None
        if self.prompt_dropout:
            nothing = self.space.nothing(len(index))
        if cond is None or nothing is None:
            return cond
        draw = torch.rand(len(index), generator=random_stream(self.seed, DROPOUT_STREAM, step))
        return choose_conds(draw < self.prompt_dropout, nothing, cond)

    def objective_stream(self, step: int) -> torch.Generator:
        """The generator for the objective's own draws at ``step``."""
        return random_stream(self.seed, OBJECTIVE_STREAM, step)


class PromptPairSampler(PairSampler):
    """Draws pairs whose two pictures have the same caption.

    Prompts take turns in a shuffled order, whatever their number of pictures; within a prompt, keep
    and forget pictures do. SISS's mixture needs one conditioning a pair: this gives it one.

    Args:
        keep: The images to keep, with captions.
        forget: The images to forget, with captions.
        *arguments: As for :class:`PairSampler`.
        **settings: Likewise.

    Raises:
        ValueError: As there; or if a prompt of the forget images has no keep images.
    """

    def __init__(self, keep: ImageSet, forget: ImageSet, *arguments: Any, **settings: Any) -> None:
        super().__init__(keep, forget, *arguments, **settings)
        keep_rows, forget_rows = rows_by_caption(keep), rows_by_caption(forget)
        missing = [text for text in forget_rows if text not in keep_rows]
        if missing:
            raise ValueError(
                f"{len(missing)} prompts to forget have no keep images, the first is "
                f"{missing[0]!r}: give keep images with these captions"
            )
        self._prompts = EpochOrder(len(forget_rows), self.seed, PROMPT_STREAM)
        self._of_prompt = [
            (self._turns(keep_rows[text], KEEP_STREAM, n), self._turns(rows, FORGET_STREAM, n))
            for n, (text, rows) in enumerate(forget_rows.items())
        ]

    def indices(self, step: int) -> tuple[Tensor, Tensor]:
        """Which keep and which forget images make the pairs of a step, each ``(B,)``."""
        first = step * self.batch_pairs
        prompts = self._prompts.batch(step, self.batch_pairs).tolist()
        found = []
        for position, prompt in enumerate(prompts, start=first):
            turn = position // len(self._of_prompt)  # how often each prompt has had its turn
            found.append([turns.at(turn) for turns in self._of_prompt[prompt]])
        both = torch.tensor(found, dtype=torch.int64)
        return both[:, 0], both[:, 1]

    def _turns(self, rows: Sequence[int], stream: int, prompt: int) -> _Turns:
        return _Turns(rows, EpochOrder(len(rows), mix_seed(self.seed, prompt), stream))


class _Turns:
    """The pictures of one side of a prompt, in a shuffled order."""

    def __init__(self, rows: Sequence[int], order: EpochOrder) -> None:
        self._rows, self._order = rows, order

    def at(self, turn: int) -> int:
        return self._rows[int(self._order.batch(turn, 1))]


def rows_by_caption(images: ImageSet) -> dict[Prompt, list[int]]:
    """Positions of a set's pictures by caption, in index order; no caption is the empty one."""
    found: dict[Prompt, list[int]] = {}
    for index in range(len(images)):
        found.setdefault(images.caption(index) or "", []).append(index)
    return found


def shares_prompts(keep: ImageSet, forget: ImageSet) -> bool:
    """Whether there are keep images for every prompt of the forget images."""
    return rows_by_caption(forget).keys() <= rows_by_caption(keep).keys()
