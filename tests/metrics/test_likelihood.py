"""Likelihood by the probability flow against densities in closed form and scipy's solver."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler, FlowMatchEulerDiscreteScheduler
from scipy.integrate import solve_ivp
from torch import Tensor, nn

from dataunlearn.metrics.likelihood import Estimator, bits_per_dim, negative_log_likelihood
from dataunlearn.models import DiffusionModel
from dataunlearn.models.probability_flow import ProbabilityFlow
from dataunlearn.models.space import PixelSpace
from dataunlearn.process import ForwardProcess

SCHEDULERS = {
    "epsilon": DDPMScheduler(),
    "sample": DDPMScheduler(prediction_type="sample"),
    "v_prediction": DDPMScheduler(prediction_type="v_prediction"),
    "flow": FlowMatchEulerDiscreteScheduler(),
}


class Mixture(nn.Module):
    """The perfect denoiser of a mixture of Gaussians with means ``(K, D)`` and one covariance.

    With data z ~ sum_k p_k N(mu_k, S), noisy data m = gamma z + sigma eps is a mixture of
    N(gamma mu_k, C) with C = gamma^2 S + sigma^2 I, and
    E[z | m] = sum_k r_k(m) (mu_k + gamma S C^-1 (m - gamma mu_k)), r the responsibilities.
    """

    def __init__(self, process: ForwardProcess, means: Tensor, covariance: Tensor) -> None:
        super().__init__()
        self.process, self.means, self.covariance = process, means, covariance
        self.anchor = nn.Parameter(torch.zeros((), dtype=torch.float64))

    def coefficients(self, t: Tensor) -> tuple[float, float]:
        """Gamma and sigma at a timestep with a fraction: between whole ones the ratio's asinh."""
        steps = np.arange(self.process.first_timestep, self.process.last_timestep + 1)
        sigmas = self.process.sigma(torch.tensor(steps)).numpy()
        if self.process.alphas_cumprod is None:
            sigma = float(np.interp(float(t), steps, sigmas))
            return 1 - sigma, sigma
        gammas = np.sqrt(1 - sigmas**2)
        s = np.interp(float(t), steps, np.arcsinh(sigmas / gammas))
        return float(1 / np.cosh(s)), float(np.tanh(s))

    def log_density(self, noisy: Tensor, t: Tensor) -> Tensor:
        """Log density ``(B,)`` of noisy samples ``(B, D)`` at one timestep."""
        gamma, sigma = self.coefficients(t)
        wide = gamma**2 * self.covariance + sigma**2 * torch.eye(len(self.covariance))
        parts = torch.distributions.MultivariateNormal(gamma * self.means, wide.double())
        return parts.log_prob(noisy[:, None]).logsumexp(1) - math.log(len(self.means))

    def forward(self, noisy: Tensor, t: Tensor, cond: Tensor | None = None) -> Tensor:
        flat = noisy.flatten(1)
        gamma, sigma = self.coefficients(t[0])
        wide = gamma**2 * self.covariance + sigma**2 * torch.eye(len(self.covariance)).double()
        away = flat[:, None] - gamma * self.means  # (B, K, D)
        solved = torch.linalg.solve(wide, away.mT).mT
        share = (-0.5 * (away * solved).sum(-1)).softmax(1)[..., None]
        clean = (share * (self.means + gamma * solved @ self.covariance)).sum(1)
        clean = clean.reshape(noisy.shape)
        one = torch.ones((), dtype=noisy.dtype)
        return self.process.prediction.target(noisy, clean, gamma * one, sigma * one)


def mixture_model(name: str, means: Tensor, covariance: Tensor) -> DiffusionModel:
    process = ForwardProcess.from_scheduler(SCHEDULERS[name])
    denoiser = Mixture(process, means, covariance)
    shape = (1, 1, means.shape[1])
    return DiffusionModel(None, denoiser, process, shape, shape, PixelSpace(), "test")  # type: ignore[arg-type]


def expected_bits(model: DiffusionModel, images: Tensor) -> Tensor:
    flat = images.double().flatten(1)
    first = torch.tensor(float(model.process.first_timestep))
    log_density = model.denoiser.log_density(flat, first)  # type: ignore[operator]
    return 7 - log_density / (flat.shape[1] * math.log(2))


@pytest.mark.parametrize("name", SCHEDULERS)
def test_gaussian_with_independent_pixels(name: str) -> None:
    """A diagonal Jacobian makes a single probe exact.

    What is left is the schedule's end: gamma is 0.006 there, and the noise not quite N(0, 1).
    """
    means, variance = torch.tensor([[0.3, -0.2, 0.1]]), torch.tensor([0.04, 0.25, 0.5])
    model = mixture_model(name, means.double(), variance.diag().double())
    images = torch.tensor([[0.2, -0.5, 0.0], [0.9, 0.1, -0.8]]).reshape(2, 1, 1, 3)
    found = bits_per_dim(model, images, estimator=Estimator(num_probes=1, tolerance=1e-7))
    torch.testing.assert_close(found.bits_per_dim, expected_bits(model, images), atol=4e-3, rtol=0)
    assert found.standard_error.isnan().all()


@pytest.mark.parametrize("name", SCHEDULERS)
def test_mixture_of_two_points_in_one_dimension(name: str) -> None:
    """In one dimension a probe is exact too, whatever the density's shape."""
    model = mixture_model(
        name, torch.tensor([[-0.6], [0.5]]).double(), torch.tensor([[0.01]]).double()
    )
    images = torch.tensor([-0.7, -0.2, 0.45]).reshape(3, 1, 1, 1)
    found = bits_per_dim(model, images, estimator=Estimator(num_probes=1, tolerance=1e-6))
    torch.testing.assert_close(found.bits_per_dim, expected_bits(model, images), atol=1e-2, rtol=0)


def test_probes_agree_with_the_density_of_dependent_pixels() -> None:
    """Probes scatter where pixels depend on each other; their mean lies within their error."""
    covariance = torch.tensor([[0.3, 0.2], [0.2, 0.3]]).double()
    model = mixture_model("epsilon", torch.zeros(1, 2).double(), covariance)
    images = torch.tensor([[0.4, -0.3]]).reshape(1, 1, 1, 2)
    found = bits_per_dim(model, images, estimator=Estimator(num_probes=64, tolerance=1e-5))
    gap = (found.bits_per_dim - expected_bits(model, images)).abs()
    assert 0 < found.standard_error < 0.2
    assert gap < 3 * found.standard_error
    result = negative_log_likelihood(
        model, images, estimator=Estimator(num_probes=64, tolerance=1e-5)
    )
    assert result.interval is not None
    assert result.interval[0] < expected_bits(model, images) < result.interval[1]


def test_scipy_finds_the_same_noise_and_density() -> None:
    """The same flow solved by scipy, with the divergence in closed form by finite differences."""
    model = mixture_model(
        "epsilon", torch.tensor([[-0.6], [0.5]]).double(), torch.tensor([[0.02]]).double()
    )
    flow = ProbabilityFlow(model)

    def slope(time: float, state: np.ndarray) -> list[float]:
        step = 1e-5
        samples = torch.tensor([state[0] - step, state[0], state[0] + step]).reshape(3, 1, 1, 1)
        low, here, high = flow.velocity(torch.tensor(time).double(), samples).flatten().tolist()
        return [here, (high - low) / (2 * step)]

    end = solve_ivp(slope, (flow.start, flow.end), [0.1, 0.0], rtol=1e-8, atol=1e-10).y[:, -1]
    log_density = -0.5 * (end[0] ** 2 + math.log(2 * math.pi)) + end[1]
    images = torch.full((1, 1, 1, 1), 0.1, dtype=torch.float64)
    found = bits_per_dim(model, images, estimator=Estimator(num_probes=1, tolerance=1e-7))
    assert found.bits_per_dim.item() == pytest.approx(7 - log_density / math.log(2), abs=1e-4)


def test_probes_depend_on_the_image_number_alone() -> None:
    covariance = torch.tensor([[0.3, 0.2], [0.2, 0.3]]).double()
    model = mixture_model("epsilon", torch.zeros(1, 2).double(), covariance)
    images = torch.tensor([[0.4, -0.3], [0.1, 0.2], [-0.5, 0.5]]).reshape(3, 1, 1, 2)
    estimator = Estimator(num_probes=2, tolerance=1e-7)
    together = bits_per_dim(model, images, estimator=estimator)
    apart = bits_per_dim(model, images, estimator=estimator, batch_size=2)
    torch.testing.assert_close(together.bits_per_dim, apart.bits_per_dim, atol=1e-5, rtol=0)
    other = bits_per_dim(model, images, estimator=estimator, seed=1)
    assert (together.bits_per_dim - other.bits_per_dim).abs().max() > 1e-3


def test_dequantisation_moves_an_image_by_less_than_half_a_grey_level() -> None:
    model = mixture_model("v_prediction", torch.zeros(1, 1).double(), torch.eye(1).double())
    images = torch.full((1, 1, 1, 1), 0.5)
    plain = bits_per_dim(model, images, estimator=Estimator(num_probes=1))
    moved = bits_per_dim(model, images, estimator=Estimator(num_probes=1, dequantise=True))
    slope = 0.5 / (2 * math.log(2)) * 2  # of x^2 / (2 ln 2) at x = 0.5
    assert 0 < (plain.bits_per_dim - moved.bits_per_dim).abs().item() < slope / 255 * 1.2


def test_no_images_and_no_probes_are_errors() -> None:
    model = mixture_model("epsilon", torch.zeros(1, 1).double(), torch.eye(1).double())
    with pytest.raises(ValueError, match="at least 1 each"):
        bits_per_dim(model, torch.zeros(0, 1, 1, 1))
    with pytest.raises(ValueError, match="at least 1 each"):
        bits_per_dim(model, torch.zeros(1, 1, 1, 1), estimator=Estimator(num_probes=0))
