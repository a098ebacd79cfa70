"""The level: what a model that never saw an image is predicted to lose on it, from the model alone.

A model is near the true noise of a noisy picture a_t that it knows by heart, because it recognises
it. Shown the same noisy picture through a view T that it does not recognise, it answers as for any
picture, and its answer turned back, T⁻¹ f(T a_t), is a prediction of the same noise. The mean of
these answers over some views is what an unlearned model should say, and its loss is the *level*.
Where no view of an image is unfamiliar, or nothing to keep is of its kind, the answers are mixed
with what pictures to keep say (:mod:`dataunlearn.recognition.empirical`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dataunlearn.recognition.choosing import choose_views
from dataunlearn.recognition.empirical import (
    empirical_prediction,
    keep_weight,
    mixed,
    noise_share,
)
from dataunlearn.recognition.witness import Pictures, Witness
from dataunlearn.views import Views

# A noise level counts where at least this much of the images is recognised.
LEAST_RECOGNITION = 0.3


@dataclass(frozen=True, eq=False)
class Levels:
    """What a model is predicted to lose on K images had it never seen them.

    Attributes:
        timesteps: T noise levels, rising.
        views: The views that were chosen for some image, by name.
        chosen: For each image the positions of its views among ``views``.
        unfamiliar: Whether they are unfamiliar to the model, ``(K,)`` bool; where not, they are the
            best there are.
        asks_other: Whether the model is asked under the other conditioning.
        before: What the model itself loses, ``(K, T, J)`` float64, at J draws of noise.
        level: What it loses on average through the image's views: the loss of their mean answer,
            ``(K, T, J)``; of the mixture with ``keep`` where that has a weight.
        keep_weight: How much of the noise's share is what pictures to keep say, ``(K,)`` float32:
            1 for images without unfamiliar views, less for those of another kind, else 0.
        keep: Those pictures, ``(N, *shape)``; None where they have no say.
    """

    timesteps: tuple[int, ...]
    views: Views
    chosen: tuple[tuple[int, ...], ...]
    unfamiliar: Tensor
    asks_other: bool
    before: Tensor
    level: Tensor
    keep_weight: Tensor
    keep: Tensor | None = None

    @property
    def names(self) -> list[list[str]]:
        """For each image the names of its views."""
        names = list(self.views)
        return [[names[position] for position in chosen] for chosen in self.chosen]

    @property
    def recognition(self) -> Tensor:
        """How far the model recognises each image, ``(K, T)`` in [0, 1]: 1 - before/level."""
        return (1 - self.before.mean(2) / self.level.mean(2)).clamp(0, 1)

    @property
    def recognised_below(self) -> int | None:
        """The timestep from which the images are not recognised any more.

        None where they are recognised up to the last one that was measured, or nowhere.
        """
        known = (self.recognition.mean(0) >= LEAST_RECOGNITION).nonzero().flatten()
        first = int(known[-1]) + 1 if len(known) else len(self.timesteps)
        return self.timesteps[first] if first < len(self.timesteps) else None


def measure_levels(
    witness: Witness, forget: Pictures, keep: Pictures, timesteps: Sequence[int], *, latent: bool
) -> Levels:
    """Choose each image's views and measure its level through them.

    Args:
        witness: The model before anything is unlearned.
        forget: The K different images.
        keep: Some pictures to keep, at least 2.
        timesteps: Noise levels, rising.
        latent: Whether samples are latents, whose channels are no colours.
    """
    views, chosen, unfamiliar = choose_views(witness, forget, keep, latent=latent)
    asks_other = forget.other is not None
    weight = keep_weight(unfamiliar, forget.clean, keep.clean)
    rows = weight.nonzero().flatten()
    before, level = [], []
    for t in timesteps:
        for draw in range(witness.num_draws):
            own = witness.answers(forget, t, draw, None)
            before.append(witness.losses(own, forget, t, draw))
            mean = mean_answers(witness, forget, (t, draw), views, chosen, other=asks_other)
            if len(rows):
                said = _said_by(witness, keep, forget.take(rows), (t, draw))
                share = weight[rows] * noise_share(witness.process, torch.tensor([t]))
                mean[rows] = mixed(mean[rows], said, share)
            level.append(witness.losses(mean, forget, t, draw))
    shape = (len(forget), len(timesteps), witness.num_draws)
    return Levels(
        tuple(timesteps),
        views,
        chosen,
        unfamiliar,
        asks_other,
        torch.stack(before, 1).reshape(shape),
        torch.stack(level, 1).reshape(shape),
        weight,
        keep.clean if len(rows) else None,
    )


def _said_by(witness: Witness, keep: Pictures, pictures: Pictures, at: tuple[int, int]) -> Tensor:
    """What pictures to keep say of others ``(N, *shape)``, at (timestep, draw)."""
    noisy, t = witness.noisy(pictures.clean, *at)
    return empirical_prediction(witness.process, noisy, keep.clean, t)


def mean_answers(
    witness: Witness,
    pictures: Pictures,
    at: tuple[int, int],
    views: Views,
    chosen: Sequence[Sequence[int]],
    *,
    other: bool = False,
) -> Tensor:
    """Each picture's mean answer ``(N, *shape)`` through its own views, at (timestep, draw)."""
    total = torch.zeros_like(pictures.clean, dtype=torch.float32)
    counts = torch.tensor([len(own) for own in chosen])
    for position, view in enumerate(views.values()):
        rows = torch.tensor([row for row, own in enumerate(chosen) if position in own])
        if len(rows):
            total[rows] += witness.answers(pictures.take(rows), *at, view, other=other)
    return total / counts.to(total).reshape(-1, *[1] * (total.ndim - 1))
