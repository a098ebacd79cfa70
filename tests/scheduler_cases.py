"""Every scheduler of diffusers beside our sampler.

The model is the perfect denoiser of a mixture of three normal distributions, in closed form, so
that a thousand steps take no time and nothing but samplers is compared. Both sides start from the
same noise and take as many steps as there are timesteps.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import diffusers
import torch
from torch import Tensor, nn

from dataunlearn.models import DiffusionModel
from dataunlearn.models.sampling import walk
from dataunlearn.models.schedulers import RANDOM, require_supported
from dataunlearn.models.space import PixelSpace
from dataunlearn.process import ForwardProcess

SHAPE = (1, 4, 4)
LIMIT = 1e-3
RANDOM_COUNT, RANDOM_LIMIT = 2000, 0.02
SMALL_BETAS = {"beta_start": 0.0001, "beta_end": 0.02}
# What each setting is set to for a comparison, where a scheduler has it.
CHANGES: Mapping[str, tuple[Any, ...]] = {
    "beta_schedule": ("scaled_linear", "squaredcos_cap_v2"),
    "beta_end": (0.012,),
    "prediction_type": ("v_prediction", "sample"),
    "clip_sample": (True,),
    "clip_sample_range": (0.7,),
    "thresholding": (True,),
    "final_sigmas_type": ("sigma_min",),
    "set_alpha_to_one": (True, False),
    "rescale_betas_zero_snr": (True,),
    "use_karras_sigmas": (True,),
    "use_exponential_sigmas": (True,),
    "use_beta_sigmas": (True,),
    "use_lu_lambdas": (True,),
    "timestep_spacing": ("leading", "trailing", "linspace"),
    "solver_order": (1, 2, 3),
    "algorithm_type": ("dpmsolver", "dpmsolver++"),
    "solver_type": ("heun", "bh1"),
    "predict_x0": (False,),
    "lower_order_final": (False,),
    "euler_at_final": (True,),
    "interpolation_type": ("log_linear",),
    "skip_prk_steps": (True,),
    "shift": (3.0,),
}
# Those of them that schedulers with random draws are compared under.
CHANGES_OF_RANDOM = ("prediction_type", "clip_sample", "thresholding", "rescale_betas_zero_snr")
BESIDE: Mapping[str, dict[str, Any]] = {
    "algorithm_type": {"final_sigmas_type": "sigma_min"},
    "clip_sample_range": {"clip_sample": True},
    "rescale_betas_zero_snr": {"prediction_type": "v_prediction"},
    "thresholding": {"sample_max_value": 1.5, "dynamic_thresholding_ratio": 0.8},
}


class Mixture(nn.Module):
    """The perfect denoiser of three normal distributions of one spread about three pictures.

    Of a component, E[z | m] = mu + gamma s^2 / (gamma^2 s^2 + sigma^2) (m - gamma mu), weighted by
    its density at m, which is normal with variance gamma^2 s^2 + sigma^2. Between timesteps the
    logarithm of sigma/gamma is linear in the timestep, as diffusers has it.
    """

    def __init__(self, process: ForwardProcess, scale: float, spread: float) -> None:
        super().__init__()
        self.process, self.anchor = process, nn.Parameter(torch.zeros(()))
        draw = torch.Generator().manual_seed(0)
        self.means = scale * torch.randn(3, 16, generator=draw).double()
        self.spread = spread

    def levels(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Gamma and sigma ``(B, 1)`` at timesteps with fractions."""
        if self.process.alphas_cumprod is None:
            return self.process.gamma(t)[:, None], self.process.sigma(t)[:, None]
        low = t.floor().clamp(0, self.process.last_timestep)
        high = (low + 1).clamp(max=self.process.last_timestep)
        share = (t - low).double()
        gammas, sigmas = self.process.gamma, self.process.sigma
        if bool((share == 0).all()):
            return gammas(low)[:, None], sigmas(low)[:, None]
        logs = [(sigmas(at) / gammas(at).clamp(min=1e-8)).log() for at in (low, high)]
        ratio = ((1 - share) * logs[0] + share * logs[1]).exp()[:, None]
        return 1 / (1 + ratio.square()).sqrt(), ratio / (1 + ratio.square()).sqrt()

    def forward(self, noisy: Tensor, t: Tensor, cond: Any = None) -> Tensor:
        gamma, sigma = self.levels(t)
        flat = noisy.double().flatten(1)
        variance = gamma.square() * self.spread**2 + sigma.square()  # (B, 1)
        away = flat[:, None] - gamma[..., None] * self.means  # (B, 3, D)
        weight = (-0.5 * away.square().sum(2) / variance).softmax(1)[..., None]
        own = self.means + (gamma * self.spread**2 / variance)[..., None] * away
        clean = (weight * own).sum(1)
        target = self.process.prediction.target(flat, clean, gamma, sigma)
        return target.reshape(noisy.shape).to(noisy.dtype)


def tiny(scheduler: Any, scale: float, spread: float) -> DiffusionModel:
    """A mixture's denoiser as a model with this scheduler."""
    process = ForwardProcess.from_scheduler(scheduler)
    mixture = Mixture(process, scale, spread)
    pipeline: Any = SimpleNamespace(scheduler=scheduler)
    return DiffusionModel(pipeline, mixture, process, SHAPE, SHAPE, PixelSpace(), "mixture")


def made(name: str, settings: Mapping[str, Any]) -> Any:
    """A scheduler that noises as usual, with these settings where it has them.

    Raises:
        ValueError: If it is not supported.
    """
    kind = getattr(diffusers, name)
    usual = {} if "FlowMatch" in name else {**SMALL_BETAS, "clip_sample": False}
    known = inspect.signature(kind.__init__).parameters
    given = {key: value for key, value in {**usual, **settings}.items() if key in known}
    scheduler = kind(**given)
    require_supported(scheduler)
    return scheduler


def start(count: int, seed: int = 1) -> Tensor:
    """Noise ``(count, *SHAPE)``."""
    return torch.randn(count, *SHAPE, generator=torch.Generator().manual_seed(seed)).double()


@torch.no_grad()
def of_diffusers(model: DiffusionModel, scheduler: Any, steps: int, sample: Tensor) -> Tensor:
    """What the scheduler draws from noise with the model, as diffusers' pipelines call it."""
    scheduler.set_timesteps(steps)
    if float(getattr(scheduler, "init_noise_sigma", 1)) != 1:
        # The same noise level: some start from sigma, and others from sqrt(sigma^2 + 1).
        sample = sample * (float(scheduler.sigmas[0]) ** 2 + 1) ** 0.5
    draws = torch.Generator().manual_seed(7)
    takes_draws = "generator" in inspect.signature(scheduler.step).parameters
    more = {"generator": draws} if takes_draws else {}
    for t in scheduler.timesteps:
        seen = sample
        if hasattr(scheduler, "scale_model_input"):
            seen = scheduler.scale_model_input(sample, t)
        prediction = model.denoiser(seen, t.double().expand(len(seen)))
        sample = scheduler.step(prediction, t, sample, **more).prev_sample
    return sample.clamp(-1, 1).float()


def of_ours(model: DiffusionModel, timesteps: list[int], sample: Tensor) -> Tensor:
    """What our sampler draws from noise."""
    return walk(model, sample, timesteps).pictures.float()


def is_bounded(settings: Mapping[str, Any]) -> bool:
    """Whether clean estimates are kept within bounds."""
    return bool(settings.get("clip_sample") or settings.get("thresholding"))


def steps_for(name: str, settings: Mapping[str, Any]) -> int:
    """How many steps diffusers takes: all of them, or as many as its solver's formula stands.

    Where estimates are bounded our sampler takes the same steps: bounds leave no limit to go to.
    """
    if is_bounded(settings):
        return 25
    return 1000 if name.startswith(("DDIM", "Euler", "FlowMatchEuler", "PNDM")) else 800


def every_timestep(process: ForwardProcess) -> list[int]:
    """All timesteps, falling."""
    return list(range(process.last_timestep, process.first_timestep - 1, -1))


def deviation(name: str, settings: Mapping[str, Any]) -> float:
    """Root mean square difference between the pictures of diffusers' scheduler and of ours."""
    scheduler = made(name, settings)
    scale = 1.5 if is_bounded(settings) else 0.3
    model, steps = tiny(scheduler, scale, 0.8), steps_for(name, settings)
    other = of_diffusers(model, scheduler, steps, start(4))
    timesteps = every_timestep(model.process)
    if steps == 25:
        timesteps = [int(t) for t in scheduler.timesteps]
    timesteps = [t for t in timesteps if t <= round(float(scheduler.timesteps[0]))]
    return float((other - of_ours(model, timesteps, start(4))).square().mean().sqrt())


def deviation_of_random(name: str, settings: Mapping[str, Any]) -> float:
    """How far the pictures of a scheduler with random draws are from ours in distribution.

    The Wasserstein-1 distance between each pixel's values in two sets, averaged over pixels.
    Of a model whose pictures lie within bounds: where they do not, draws and bounds together lead
    to another distribution than bounds alone.
    """
    scheduler = made(name, settings)
    model = tiny(scheduler, 0.3, 0.1)
    steps = 1000 if name.startswith("DDPM") else 200  # of more, rescaled levels do not fall
    other = of_diffusers(model, scheduler, steps, start(RANDOM_COUNT, 2))
    return apart(other, of_ours(model, every_timestep(model.process)[::4], start(RANDOM_COUNT)))


def apart(first: Tensor, second: Tensor) -> float:
    """The Wasserstein-1 distance of each pixel's values, averaged over pixels."""
    one, other = (values.flatten(1).sort(dim=0).values for values in (first, second))
    return float((one - other).abs().mean())


def every_scheduler() -> list[str]:
    """The names of all schedulers that diffusers has."""
    names = [name for name in dir(diffusers) if name.endswith("Scheduler")]
    kinds = {name: getattr(diffusers, name) for name in names}
    return sorted(
        name
        for name, kind in kinds.items()
        if isinstance(kind, type) and issubclass(kind, diffusers.SchedulerMixin)
    )


def cases(name: str) -> list[dict[str, Any]]:
    """The settings that a scheduler is compared under: each changed alone."""
    known = inspect.signature(getattr(diffusers, name).__init__).parameters
    found: list[dict[str, Any]] = [{}]
    for setting, values in CHANGES.items():
        if setting in known and (name not in RANDOM or setting in CHANGES_OF_RANDOM):
            found += [{**BESIDE.get(setting, {}), setting: value} for value in values]
    return found
