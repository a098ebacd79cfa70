"""How far a model is from one that never saw the forget images: in loss, and in what it predicts.

Equal losses do not make equal models: one that was pushed away from an image may be as far from a
retrained one as a broken model is, at the same loss. So predictions are compared, too. Two models
that never saw the images, trained from different seeds, differ as well: their distance is the floor
that an unlearned one can be held to.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from dataunlearn.metrics.inputs import Inputs
from dataunlearn.metrics.intervals import paired_bootstrap
from dataunlearn.metrics.measure import Measure
from dataunlearn.metrics.never_seen import different_pictures, witness_of
from dataunlearn.metrics.pace import Cost
from dataunlearn.metrics.result import Result
from dataunlearn.recognition.witness import Pictures, Witness

SHARES = (0.1, 0.2, 0.3, 0.4, 0.5)  # of the noise levels


@dataclass(frozen=True, eq=False)
class Compared:
    """Two models on the same noisy pictures, at T noise levels.

    Attributes:
        losses: The model's mean squared errors a dimension, ``(N, T)`` float64.
        reference: The reference's.
        apart: Mean squared difference a dimension between the two models' predictions, ``(N, T)``.
    """

    losses: Tensor
    reference: Tensor
    apart: Tensor


def compare(
    model: Witness,
    reference: Witness,
    pictures: tuple[Pictures, Pictures],
    timesteps: tuple[int, ...],
) -> Compared:
    """Ask two models about the same noisy pictures.

    Args:
        model: The model; its seed and number of draws count.
        reference: The other one.
        pictures: N pictures as the model takes them, and as the reference does, which encodes
            prompts itself.
        timesteps: T noise levels.
    """
    mine, others = pictures
    shape = (len(mine), len(timesteps))
    losses, other, apart = (torch.zeros(shape, dtype=torch.float64) for _ in range(3))
    for column, t in enumerate(timesteps):
        for draw in range(model.num_draws):
            own = model.answers(mine, t, draw, None)
            theirs = reference.answers(others, t, draw, None)
            losses[:, column] += model.losses(own, mine, t, draw)
            other[:, column] += reference.losses(theirs, others, t, draw)
            apart[:, column] += (own - theirs).double().square().flatten(1).mean(1).cpu()
    return Compared(*(each / model.num_draws for each in (losses, other, apart)))


@dataclass(frozen=True)
class ReferenceDistance(Measure):
    """Loss over the reference's, and mean squared difference to its predictions, on forget images.

    Of a second model that never saw the images this is the floor.

    Args:
        num_draws: Draws of noise at each of five noise levels.
    """

    num_draws: int = 4
    needs: ClassVar[tuple[str, ...]] = ("forget", "reference")

    def cost(self, inputs: Inputs) -> Cost:
        """Both models at each noise level and draw."""
        return Cost(2 * len(inputs.originals) * len(SHARES) * self.num_draws)

    def __call__(self, inputs: Inputs) -> list[Result]:
        """``loss_over_reference_T`` and ``distance_to_reference_T``, with intervals over images."""
        forget, reference = inputs.forget, inputs.reference
        assert forget is not None
        assert reference is not None
        timesteps = inputs.model.process.timesteps_at(SHARES)
        pictures = (different_pictures(inputs.model, forget), different_pictures(reference, forget))
        witness = replace(witness_of(inputs.model, 1, inputs.seed), num_draws=self.num_draws)
        found = compare(witness, witness_of(reference, 1, inputs.seed), pictures, timesteps)
        results = []
        for column, t in enumerate(timesteps):
            own, theirs = found.losses[:, column].numpy(), found.reference[:, column].numpy()
            apart = found.apart[:, column]
            settings = {"num_images": len(own), "timestep": t, "reference": reference.source}
            ratio = _ratio(own, theirs)
            bounds = None if len(own) == 1 else paired_bootstrap(_ratio, own, theirs)
            results.append(Result(f"loss_over_reference_{t}", ratio, bounds, None, settings))
            spread = None if len(own) == 1 else paired_bootstrap(_mean, apart.numpy())
            name = f"distance_to_reference_{t}"
            results.append(Result(name, float(apart.mean()), spread, False, settings, apart))
        return results


def _ratio(own: object, theirs: object) -> float:
    return _mean(own) / _mean(theirs)


def _mean(values: object) -> float:
    return float(torch.as_tensor(values).mean())
