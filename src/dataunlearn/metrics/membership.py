"""Membership: does the model denoise an image better than images it never saw?

The loss attack of Carlini et al. 2023 (section 5.1) and Matsumoto et al. 2023: the denoising loss
of an image at some timesteps, with the same noise for every image, against the losses of images
that were held out. A lower loss speaks for membership.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dataunlearn.conditioning import Cond
from dataunlearn.metrics.inputs import Inputs, Side
from dataunlearn.metrics.intervals import mean_interval, two_sample_bootstrap, wilson
from dataunlearn.metrics.measure import Measure
from dataunlearn.metrics.result import Result
from dataunlearn.models import DiffusionModel
from dataunlearn.models.sampling import Progress, noise_for
from dataunlearn.runtime.progress import progress_bar
from dataunlearn.runtime.seeding import mix_seed

FALSE_POSITIVE_RATE = 0.01
SHARES = tuple(tenths / 10 for tenths in range(2, 10))  # of the noise levels


@torch.no_grad()
def denoising_losses(
    model: DiffusionModel,
    images: Tensor,
    timesteps: Sequence[int],
    *,
    num_draws: int = 4,
    seed: int = 0,
    batch_size: int = 64,
    cond: Cond | None = None,
    progress: Progress | None = None,
) -> Tensor:
    """Mean squared error of the model's prediction for each image and timestep.

    Args:
        model: The model, in eval mode.
        images: ``(N, C, H, W)`` in [-1, 1].
        timesteps: T noise levels.
        num_draws: Draws of noise averaged over; draw j of timestep t is the same for all images.
        seed: Names the noise.
        batch_size: Images per call.
        cond: Class labels ``(N,)``, or None.
        progress: Called with the number of calls' images times timesteps times draws done.

    Returns:
        ``(N, T)`` float64, mean over pixels and draws.
    """
    process, device = model.process, model.device
    losses = torch.zeros(len(images), len(timesteps), dtype=torch.float64)
    for column, timestep in enumerate(timesteps):
        draws = noise_for(model.shape, mix_seed(seed, timestep), range(num_draws)).to(device)
        for begin in range(0, len(images), batch_size):
            rows = slice(begin, begin + batch_size)
            clean = model.space.encode(images[rows].to(device))
            t = torch.full((len(clean),), timestep, device=device)
            labels = None if cond is None else cond[rows].to(device)
            for draw in draws:
                noisy = process.add_noise(clean, draw.expand_as(clean), t)
                error = model.denoiser(noisy, t, labels) - process.target(noisy, clean, t)
                losses[rows, column] += error.double().square().flatten(1).mean(1).cpu()
            if progress is not None:
                progress(len(clean) * num_draws)
    return losses / num_draws


def membership_auc(
    members: Tensor, others: Tensor, *, name: str = "membership_auc", seed: int = 0
) -> Result:
    """Area under the ROC curve of "lower loss means member"; 0.5 is chance.

    Args:
        members: Losses ``(N,)`` of the images in question, at least 1.
        others: Losses ``(M,)`` of held-out images, at least 1.
        name: Name of the result.
        seed: Seed of the bootstrap.

    Returns:
        The AUC with its bootstrap interval (members and others resampled apart); ``per_item``
        holds for each member the share of others whose loss is higher, ties counted half.

    Raises:
        ValueError: If a side is empty or not finite.
    """
    inside, outside = _checked(members, others)
    value = _auc(inside, outside)
    above = (inside[:, None] < outside).mean(1) + 0.5 * (inside[:, None] == outside).mean(1)
    interval = two_sample_bootstrap(_auc, inside, outside, seed=seed)
    settings = {"num_members": len(inside), "num_others": len(outside)}
    return Result(name, value, interval, False, settings, torch.from_numpy(above))


def membership_tpr(
    members: Tensor,
    others: Tensor,
    *,
    name: str = "membership_tpr",
    fpr: float = FALSE_POSITIVE_RATE,
) -> Result:
    """Share of members found when at most ``fpr`` of the others are taken for members.

    Carlini et al. 2022 ask for this instead of the AUC: an attack counts if it is sure of a few.

    Args:
        members: Losses ``(N,)`` of the images in question, at least 1.
        others: Losses ``(M,)`` of held-out images; fewer than 1 / fpr cannot resolve the rate, and
            then none may be taken for a member.
        name: Name of the result.
        fpr: The largest share of others taken for members.

    Returns:
        The share with its Wilson interval; ``per_item`` tells which members were found.

    Raises:
        ValueError: If a side is empty or not finite.
    """
    from sklearn.metrics import roc_curve

    inside, outside = _checked(members, others)
    labels = np.concatenate([np.ones(len(inside)), np.zeros(len(outside))])
    rates, _, thresholds = roc_curve(
        labels, -np.concatenate([inside, outside]), drop_intermediate=False
    )
    cut = -thresholds[rates <= fpr][-1]  # the largest loss that still counts as a member's
    found = inside <= cut
    value = float(found.mean())
    settings = {"num_members": len(inside), "num_others": len(outside), "fpr": fpr}
    interval = wilson(int(found.sum()), len(inside))
    return Result(name, value, interval, False, settings, torch.from_numpy(found))


def _checked(members: Tensor, others: Tensor) -> tuple[NDArray[Any], NDArray[Any]]:
    if not len(members) or not len(others):
        raise ValueError(
            f"got losses of {len(members)} members and {len(others)} other images; give both"
        )
    if not (members.isfinite().all() and others.isfinite().all()):
        raise ValueError("losses are not finite: the model diverged on some images")
    return members.double().numpy(), others.double().numpy()


def _auc(inside: NDArray[Any], outside: NDArray[Any]) -> float:
    from sklearn.metrics import roc_auc_score

    labels = np.concatenate([np.ones(len(inside)), np.zeros(len(outside))])
    return float(roc_auc_score(labels, -np.concatenate([inside, outside])))


@dataclass(frozen=True)
class Membership(Measure):
    """How well the denoising loss tells forget images from held-out ones, and from keep images.

    Args:
        timesteps: Noise levels; the loss is averaged over them. Empty for 0.2, 0.3, ... 0.9 of the
            model's.
        num_draws: Draws of noise at each.
        num_images: Most held-out or keep images.
        each_timestep: Give every side's mean loss, and the AUC, at each noise level as well.
    """

    timesteps: tuple[int, ...] = ()
    num_draws: int = 4
    num_images: int = 500
    each_timestep: bool = False
    needs: ClassVar[tuple[str, ...]] = ("forget",)

    def check(self, inputs: Inputs) -> None:
        """There must be something to compare with."""
        super().check(inputs)
        if inputs.keep is None and inputs.held_out is None:
            raise ValueError("Membership needs --held-out or --keep to compare with")
        inputs.model.process.check_timesteps(self.timesteps, "timesteps")

    def __call__(self, inputs: Inputs) -> list[Result]:
        """AUC and TPR at 1 % FPR against each kind of other images."""
        losses = self._losses(inputs)
        means = {side: values.mean(dim=1) for side, values in losses.items()}
        results = []
        for side in [side for side in losses if side != "forget"]:
            pair = (means["forget"], means[side])
            results.append(membership_auc(*pair, name=f"membership_auc_{side}"))
            results.append(membership_tpr(*pair, name=f"membership_tpr_{side}"))
        if self.each_timestep:
            results += by_timestep(losses, self._timesteps(inputs))
        return results

    def _timesteps(self, inputs: Inputs) -> tuple[int, ...]:
        return self.timesteps or inputs.model.process.timesteps_at(SHARES)

    def _losses(self, inputs: Inputs) -> dict[Side, Tensor]:
        """Losses ``(N, T)`` of the forget images and of each kind of other images."""
        kinds: tuple[Side, ...] = ("held_out", "keep")
        sides: dict[Side, Tensor] = {"forget": inputs.originals}
        for side in kinds:
            if getattr(inputs, side) is not None:
                sides[side] = inputs.batch(side)[: self.num_images]
        timesteps = self._timesteps(inputs)
        calls = len(timesteps) * self.num_draws * sum(map(len, sides.values()))
        with progress_bar("membership", calls, shown=inputs.shown) as advance:
            return {
                side: denoising_losses(
                    inputs.model,
                    images,
                    timesteps,
                    num_draws=self.num_draws,
                    seed=inputs.seed,
                    batch_size=inputs.batch_size,
                    cond=inputs.conditions(side),
                    progress=advance,
                )
                for side, images in sides.items()
            }


def by_timestep(losses: Mapping[Side, Tensor], timesteps: Sequence[int]) -> list[Result]:
    """At each noise level every side's mean loss, and the AUC of forget images against others.

    Args:
        losses: Losses ``(N, T)`` by side, the forget images' among them.
        timesteps: The T noise levels.

    Returns:
        ``membership_loss_SIDE_T`` and ``membership_auc_SIDE_T``, each with its bootstrap interval.
    """
    results = []
    for column, timestep in enumerate(timesteps):
        for side, values in losses.items():
            own = values[:, column]
            name, interval = f"membership_loss_{side}_{timestep}", mean_interval(own.numpy())
            settings = {"num_images": len(own), "timestep": timestep}
            results.append(Result(name, float(own.mean()), interval, None, settings, own))
            if side != "forget":
                forget = losses["forget"][:, column]
                name = f"membership_auc_{side}_{timestep}"
                results.append(membership_auc(forget, own, name=name))
    return results
