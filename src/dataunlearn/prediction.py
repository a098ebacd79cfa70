"""Prediction types: the regression target of a clean sample z, given its noisy version m.

Pure functions of (m, z, gamma, sigma), all linear in (m, z). Writing eps_z(m) = (m - gamma z)/sigma
for the noise that m would hold if its clean sample were z, the targets are

    epsilon       eps_z(m)                       Ho et al. 2020, eq. 14
    sample        z
    v_prediction  gamma eps_z(m) - sigma z       Salimans and Ho 2022, appendix D
    flow          eps_z(m) - z                   Lipman et al. 2023 (here: noise - data)

and each can be turned back into the clean sample that the model believes in, and into the noise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

TargetFunction = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class PredictionType:
    """One parametrisation of a denoiser.

    Attributes:
        name: The name diffusers gives it in ``scheduler.config.prediction_type``.
        target: (noisy, clean, gamma, sigma) -> target, all broadcastable to the sample's shape.
        clean: (noisy, prediction, gamma, sigma) -> clean sample, the inverse of ``target``.
        noise: (noisy, prediction, gamma, sigma) -> the noise that goes with that clean sample, in
            one step: by way of the clean sample it would lose digits where sigma is small.
    """

    name: str
    target: TargetFunction
    clean: TargetFunction
    noise: TargetFunction


def noise_if_clean(noisy: Tensor, clean: Tensor, gamma: Tensor, sigma: Tensor) -> Tensor:
    """The noise eps_z(m) that ``noisy`` holds if its clean sample is ``clean``."""
    return (noisy - gamma * clean) / sigma


def _sample_target(noisy: Tensor, clean: Tensor, gamma: Tensor, sigma: Tensor) -> Tensor:
    return clean


def _velocity_target(noisy: Tensor, clean: Tensor, gamma: Tensor, sigma: Tensor) -> Tensor:
    return gamma * noise_if_clean(noisy, clean, gamma, sigma) - sigma * clean


def _flow_target(noisy: Tensor, clean: Tensor, gamma: Tensor, sigma: Tensor) -> Tensor:
    return noise_if_clean(noisy, clean, gamma, sigma) - clean


def _epsilon_clean(noisy: Tensor, prediction: Tensor, gamma: Tensor, sigma: Tensor) -> Tensor:
    return (noisy - sigma * prediction) / gamma


def _sample_clean(noisy: Tensor, prediction: Tensor, gamma: Tensor, sigma: Tensor) -> Tensor:
    return prediction


def _velocity_clean(noisy: Tensor, prediction: Tensor, gamma: Tensor, sigma: Tensor) -> Tensor:
    # gamma * noisy - sigma * v = (gamma^2 + sigma^2) z, and that factor is 1 in the DDPM family.
    return (gamma * noisy - sigma * prediction) / (gamma.square() + sigma.square())


def _flow_clean(noisy: Tensor, prediction: Tensor, gamma: Tensor, sigma: Tensor) -> Tensor:
    # noisy - sigma * (eps - z) = (gamma + sigma) z, and that factor is 1 in rectified flow.
    return (noisy - sigma * prediction) / (gamma + sigma)


def _epsilon_noise(noisy: Tensor, prediction: Tensor, gamma: Tensor, sigma: Tensor) -> Tensor:
    return prediction


def _velocity_noise(noisy: Tensor, prediction: Tensor, gamma: Tensor, sigma: Tensor) -> Tensor:
    # sigma * noisy + gamma * v = (gamma^2 + sigma^2) eps.
    return (sigma * noisy + gamma * prediction) / (gamma.square() + sigma.square())


def _flow_noise(noisy: Tensor, prediction: Tensor, gamma: Tensor, sigma: Tensor) -> Tensor:
    # noisy + gamma * (eps - z) = (gamma + sigma) eps.
    return (noisy + gamma * prediction) / (gamma + sigma)


EPSILON = PredictionType("epsilon", noise_if_clean, _epsilon_clean, _epsilon_noise)
SAMPLE = PredictionType("sample", _sample_target, _sample_clean, noise_if_clean)
V_PREDICTION = PredictionType("v_prediction", _velocity_target, _velocity_clean, _velocity_noise)
FLOW = PredictionType("flow_prediction", _flow_target, _flow_clean, _flow_noise)

PREDICTION_TYPES: Mapping[str, PredictionType] = {
    "epsilon": EPSILON,
    "sample": SAMPLE,
    "v_prediction": V_PREDICTION,
    "flow_prediction": FLOW,
}
