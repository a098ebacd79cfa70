"""The forward process x_t = gamma_t x + sigma_t eps of a diffusers scheduler."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dataunlearn.prediction import EPSILON, FLOW, PREDICTION_TYPES, PredictionType


def expand_to(coefficient: Tensor, sample: Tensor) -> Tensor:
    """Reshape ``(B,)`` to ``(B, 1, ...)`` in ``sample``'s dtype, so that it scales samples."""
    return coefficient.to(sample.dtype).reshape(-1, *[1] * (sample.ndim - 1))


@dataclass(frozen=True, eq=False)
class ForwardProcess:
    """How a model's training data is noised, and what the model is trained to predict.

    Attributes:
        num_train_timesteps: T, the number of noise levels.
        prediction: What the model predicts.
        alphas_cumprod: ``(T,)`` float64 for variance-preserving processes, where gamma^2 is
            ``alphas_cumprod`` and timesteps run from 0 to T - 1; None for flow matching, where
            sigma = t/T, gamma = 1 - t/T and timesteps run from 1 to T.
    """

    num_train_timesteps: int
    prediction: PredictionType
    alphas_cumprod: Tensor | None = None

    @classmethod
    def from_scheduler(cls, scheduler: Any) -> ForwardProcess:
        """Read the training process from a diffusers scheduler.

        The scheduler's own ``add_noise`` is never called: some schedulers have no ``get_velocity``,
        and the Euler family's ``add_noise`` is not variance preserving. In flow matching t is the
        timestep that the model is given, whatever the sampler's shift.

        Raises:
            ValueError: If the scheduler has neither form, an unknown prediction type, or noise
                levels that such a prediction says nothing at.
        """
        num_train_timesteps = int(scheduler.config.num_train_timesteps)
        alphas_cumprod = getattr(scheduler, "alphas_cumprod", None)
        if alphas_cumprod is None and "FlowMatch" in type(scheduler).__name__:
            return cls(num_train_timesteps, FLOW)
        if alphas_cumprod is None:
            raise ValueError(
                f"{type(scheduler).__name__} has no alphas_cumprod and is not a flow-matching "
                "scheduler; give the scheduler that the model was trained with, for example a "
                "DDPMScheduler"
            )
        name = scheduler.config.get("prediction_type", "epsilon")
        if not isinstance(name, str) or name not in PREDICTION_TYPES:
            known = ", ".join(PREDICTION_TYPES)
            raise ValueError(f"unknown prediction_type {name!r} in the scheduler; known: {known}")
        alphas = torch.as_tensor(alphas_cumprod, dtype=torch.float64, device="cpu")
        _check_alphas(alphas, PREDICTION_TYPES[name], scheduler.config)
        return cls(num_train_timesteps, PREDICTION_TYPES[name], alphas)

    @property
    def first_timestep(self) -> int:
        """The least noisy timestep."""
        return 1 if self.alphas_cumprod is None else 0

    @property
    def last_timestep(self) -> int:
        """The noisiest timestep."""
        return self.first_timestep + self.num_train_timesteps - 1

    def timesteps_at(self, shares: Iterable[float]) -> tuple[int, ...]:
        """The timesteps at shares of the noise levels, in [0, 1]: 0.25 is 250 of 1000."""
        near = (round(self.num_train_timesteps * share) for share in shares)
        return tuple(min(max(t, self.first_timestep), self.last_timestep) for t in near)

    def check_timesteps(self, timesteps: Iterable[int], name: str) -> None:
        """Refuse timesteps that this process does not have.

        Args:
            timesteps: Timesteps.
            name: What the user calls them.

        Raises:
            ValueError: If one is out of range.
        """
        first, last = self.first_timestep, self.last_timestep
        for t in timesteps:
            if not first <= t <= last:
                raise ValueError(f"{name} must lie from {first} to {last} for this model, not {t}")

    def gamma(self, t: Tensor) -> Tensor:
        """Signal coefficient at timesteps ``t (B,)``, as ``(B,)`` float64."""
        if self.alphas_cumprod is None:
            return 1 - t.double() / self.num_train_timesteps
        return self.alphas_cumprod.to(t.device)[t.long()].sqrt()

    def sigma(self, t: Tensor) -> Tensor:
        """Noise coefficient at timesteps ``t (B,)``, as ``(B,)`` float64."""
        if self.alphas_cumprod is None:
            return t.double() / self.num_train_timesteps
        return (1 - self.alphas_cumprod.to(t.device)[t.long()]).sqrt()

    def add_noise(self, clean: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """Noisy samples gamma_t x + sigma_t eps.

        Args:
            clean: Clean samples ``(B, *shape)``.
            noise: Standard normal noise of the same shape.
            t: Timesteps ``(B,)``.

        Returns:
            Noisy samples ``(B, *shape)`` in ``clean``'s dtype.
        """
        return expand_to(self.gamma(t), clean) * clean + expand_to(self.sigma(t), clean) * noise

    def target(self, noisy: Tensor, clean: Tensor, t: Tensor) -> Tensor:
        """What the model should predict at ``noisy`` if its clean sample were ``clean``.

        ``clean`` need not be what ``noisy`` was made from: that is the point of SISS.

        Args:
            noisy: Noisy samples ``(B, *shape)``.
            clean: Clean samples ``(B, *shape)``.
            t: Timesteps ``(B,)``.

        Returns:
            Regression targets ``(B, *shape)`` in the model's prediction type.
        """
        gamma, sigma = expand_to(self.gamma(t), clean), expand_to(self.sigma(t), clean)
        return self.prediction.target(noisy, clean, gamma, sigma)

    def clean_estimate(self, noisy: Tensor, prediction: Tensor, t: Tensor) -> Tensor:
        """The clean sample ``(B, *shape)`` that a prediction at ``noisy`` stands for."""
        gamma, sigma = expand_to(self.gamma(t), noisy), expand_to(self.sigma(t), noisy)
        return self.prediction.clean(noisy, prediction, gamma, sigma)

    def noise_estimate(self, noisy: Tensor, prediction: Tensor, t: Tensor) -> Tensor:
        """The noise ``(B, *shape)`` that a prediction at ``noisy`` stands for."""
        gamma, sigma = expand_to(self.gamma(t), noisy), expand_to(self.sigma(t), noisy)
        return self.prediction.noise(noisy, prediction, gamma, sigma)

    def log_density_ratio(self, noisy: Tensor, first: Tensor, second: Tensor, t: Tensor) -> Tensor:
        """Log of q(noisy | first) / q(noisy | second), as ``(B,)`` float64.

        With d_z = |m - gamma z|^2 / (2 sigma^2) this is d_second - d_first. The difference of two
        large squares is taken before summing, as (a - b)(a + b), so that nothing cancels.
        """
        gamma = expand_to(self.gamma(t), noisy.double())
        sigma = self.sigma(t)
        first, second = gamma * first.double(), gamma * second.double()
        product = (first - second) * (2 * noisy.double() - first - second)
        return product.flatten(1).sum(dim=1) / (2 * sigma.square())


def _check_alphas(alphas: Tensor, prediction: PredictionType, config: Any) -> None:
    """Refuse noise levels at which there is no picture, or no noise, where one is needed."""
    given = config.get("trained_betas") is not None
    setting = "trained_betas" if given else "beta_start and beta_end"
    count = config.get("num_train_timesteps")
    if tuple(alphas.shape) != (count,):
        raise ValueError(
            f"the scheduler's noise levels are none: there are {alphas.numel()}, and "
            f"num_train_timesteps is {count}. Mend its {setting}"
        )
    usable = alphas.isfinite() & (alphas > 0) & (alphas < 1)
    usable[-1] |= alphas[-1] == 0
    if not bool(usable.all()):
        t = int((~usable).nonzero()[0])
        raise ValueError(
            f"the scheduler's noise levels are none: alphas_cumprod is {float(alphas[t]):.4g} at "
            f"timestep {t}, and must lie between 0 and 1. Mend its {setting}"
        )
    if prediction is EPSILON and float(alphas[-1]) == 0:
        t = len(alphas) - 1
        rescaled = config.get("rescale_betas_zero_snr", False)
        setting = "rescale_betas_zero_snr=True" if rescaled else "betas that reach 1"
        raise ValueError(
            f"the scheduler has {setting}, so that at timestep {t} nothing of the picture is left, "
            "and prediction_type 'epsilon': there the predicted noise says nothing of the picture, "
            "and every sample would be NaN. Set rescale_betas_zero_snr to false, or "
            "prediction_type to 'v_prediction' if the model was trained with it"
        )
