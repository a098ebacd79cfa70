"""The probability-flow ODE of a model: noise and data joined without randomness, with a density.

A sample's path x = gamma z + sigma eps, with z and eps replaced by the model's estimates, obeys
dx = dgamma z + dsigma eps (Song et al. 2021, eq. 13, in the parametrisation of Karras et al. 2022,
eq. 4). Time is measured so that the right side stays tame at both ends:

    DDPM-like   gamma = sech s, sigma = tanh s:   dx/ds = eps(x) - sigma x
    flow        gamma = 1 - s, sigma = s:         dx/ds = eps(x) - z(x), the model's own output

The network was trained at whole timesteps only; between two of them it is given the fraction.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dataunlearn.conditioning import Cond
from dataunlearn.models import DiffusionModel
from dataunlearn.prediction import noise_if_clean
from dataunlearn.process import ForwardProcess


class ProbabilityFlow:
    """Velocity and divergence of a model's probability flow.

    Attributes:
        start: Time of the least noise that the model was trained on.
        end: Time of the most noise.
    """

    def __init__(self, model: DiffusionModel, cond: Cond | None = None) -> None:
        """Read the times of the model's timesteps.

        Args:
            model: The model, in eval mode.
            cond: Class labels of the samples ``(B,)``, or None.
        """
        self.model, self.cond = model, cond
        self.times = times_of(model.process)
        self.start, self.end = float(self.times[0]), float(self.times[-1])

    def timestep(self, time: Tensor) -> Tensor:
        """The timestep, with its fraction, that belongs to a time ``()``."""
        times = self.times
        after = int(torch.searchsorted(times, time.detach().cpu()).clamp(1, len(times) - 1))
        low, high = times[after - 1], times[after]
        share = ((time.cpu() - low) / (high - low)).clamp(0, 1)
        timestep: Tensor = share + (self.model.process.first_timestep + after - 1)
        return timestep

    def velocity(self, time: Tensor, sample: Tensor) -> Tensor:
        """dx/ds at samples ``(B, C, H, W)``, in their dtype."""
        process, now = self.model.process, time.to(sample)
        t = self.timestep(time).to(sample).expand(len(sample))
        prediction: Tensor = self.model.denoiser(sample, t, self.cond)
        is_flow = process.alphas_cumprod is None
        gamma, sigma = (1 - now, now) if is_flow else (1 / now.cosh(), now.tanh())
        clean = process.prediction.clean(sample, prediction, gamma, sigma)
        noise = noise_if_clean(sample, clean, gamma, sigma)
        return noise - clean if is_flow else noise - sigma * sample

    def divergence(self, time: Tensor, sample: Tensor, probe: Tensor) -> tuple[Tensor, Tensor]:
        """Velocity, and an unbiased estimate of its divergence ``(B,)``.

        Args:
            time: The time, ``()``.
            sample: Samples ``(B, C, H, W)``.
            probe: Independent signs of the same shape (Hutchinson 1989 with Rademacher probes).
        """
        with torch.enable_grad():
            sample = sample.detach().requires_grad_()
            velocity = self.velocity(time, sample)
            (product,) = torch.autograd.grad(velocity, sample, probe)
        return velocity.detach(), (product * probe).flatten(1).sum(1)


def times_of(process: ForwardProcess) -> Tensor:
    """The flow's times of all timesteps from the least noisy on, ``(T,)`` float64, rising.

    A timestep that leaves nothing of the picture, as the last one of rescale_betas_zero_snr, lies
    at infinity and is left out: the flow ends at the last one that leaves something.
    """
    steps = torch.arange(process.first_timestep, process.last_timestep + 1)
    if process.alphas_cumprod is not None:
        steps = steps[process.gamma(steps) > 0]
    sigma = process.sigma(steps)
    return sigma if process.alphas_cumprod is None else torch.asinh(sigma / process.gamma(steps))
