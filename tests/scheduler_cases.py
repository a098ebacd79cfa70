"""Every scheduler of diffusers beside our sampler, and the page docs/schedulers.md about it.

    python tests/scheduler_cases.py > docs/schedulers.md

The model is the perfect denoiser of a mixture of three normal distributions, in closed form, so
that a thousand steps take no time and nothing but samplers is compared. Both sides start from the
same noise and take as many steps as there are timesteps.
"""

from __future__ import annotations

import inspect
import sys
import warnings
from collections.abc import Iterable, Mapping
from types import SimpleNamespace
from typing import Any

import diffusers
import torch
from diffusers.utils import logging
from torch import Tensor, nn

from dataunlearn.models import DiffusionModel
from dataunlearn.models.sampling import walk
from dataunlearn.models.schedulers import (
    BOUNDS,
    DETERMINISTIC,
    HARMLESS,
    KEPT,
    OTHERS,
    RANDOM,
    REASONS,
    UNFIT,
    require_supported,
)
from dataunlearn.models.space import PixelSpace
from dataunlearn.process import ForwardProcess

SHAPE = (1, 4, 4)
SPREAD = 0.8
LIMIT = 1e-3
SMALL_BETAS = {"beta_start": 0.0001, "beta_end": 0.02}
ONLY_STEPS = (
    "timestep_spacing",
    "steps_offset",
    "solver_order",
    "solver_type",
    "solver_p",
    "predict_x0",
    "disable_corrector",
    "predictor_order",
    "corrector_order",
    "tau_func",
    "algorithm_type",
    "lower_order_final",
    "euler_at_final",
    "skip_prk_steps",
    "use_karras_sigmas",
    "use_exponential_sigmas",
    "use_beta_sigmas",
    "use_lu_lambdas",
    "interpolation_type",
    "flow_shift",  # without use_flow_sigmas it has no meaning
    "time_shift_type",
    "noise_sampler_seed",
)
# What each setting is set to for a comparison, where a scheduler has it.
CHANGES: Mapping[str, tuple[Any, ...]] = {
    "beta_schedule": ("scaled_linear", "squaredcos_cap_v2"),
    "beta_end": (0.012,),
    "prediction_type": ("v_prediction", "sample"),
    "clip_sample": (True,),
    "clip_sample_range": (0.7,),
    "thresholding": (True,),
    "set_alpha_to_one": (True, False),
    "rescale_betas_zero_snr": (True,),
    "use_karras_sigmas": (True,),
    "use_exponential_sigmas": (True,),
    "timestep_spacing": ("leading", "trailing", "linspace"),
    "solver_order": (1, 2, 3),
    "algorithm_type": ("dpmsolver", "dpmsolver++"),
    "skip_prk_steps": (True,),
    "shift": (3.0,),
}
BESIDE: Mapping[str, dict[str, Any]] = {
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

    def __init__(self, process: ForwardProcess, wide: bool = False) -> None:
        super().__init__()
        self.process, self.anchor = process, nn.Parameter(torch.zeros(()))
        draw = torch.Generator().manual_seed(0)
        self.means = (1.5 if wide else 0.3) * torch.randn(3, 16, generator=draw).double()

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
        variance = gamma.square() * SPREAD**2 + sigma.square()  # (B, 1)
        away = flat[:, None] - gamma[..., None] * self.means  # (B, 3, D)
        weight = (-0.5 * away.square().sum(2) / variance).softmax(1)[..., None]
        own = self.means + (gamma * SPREAD**2 / variance)[..., None] * away
        clean = (weight * own).sum(1)
        target = self.process.prediction.target(flat, clean, gamma, sigma)
        return target.reshape(noisy.shape).to(noisy.dtype)


def tiny(scheduler: Any) -> DiffusionModel:
    """The mixture's denoiser as a model with this scheduler."""
    process = ForwardProcess.from_scheduler(scheduler)
    wide = bool(scheduler.config.get("clip_sample") or scheduler.config.get("thresholding"))
    pipeline: Any = SimpleNamespace(scheduler=scheduler)
    return DiffusionModel(
        pipeline, Mixture(process, wide), process, SHAPE, SHAPE, PixelSpace(), "mixture"
    )


def start() -> Tensor:
    return torch.randn(4, *SHAPE, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def of_diffusers(model: DiffusionModel, scheduler: Any, steps: int) -> Tensor:
    """What the scheduler draws with the model, as diffusers' pipelines call it."""
    scheduler.set_timesteps(steps)
    sample = start().double()
    if float(getattr(scheduler, "init_noise_sigma", 1)) != 1:
        # The same noise level: some start from sigma, and others from sqrt(sigma^2 + 1).
        sample = sample * (float(scheduler.sigmas[0]) ** 2 + 1) ** 0.5
    for t in scheduler.timesteps:
        seen = sample
        if hasattr(scheduler, "scale_model_input"):
            seen = scheduler.scale_model_input(sample, t)
        prediction = model.denoiser(seen, t.double().expand(len(seen)))
        sample = scheduler.step(prediction, t, sample).prev_sample
    return sample.clamp(-1, 1).float()


def of_ours(model: DiffusionModel, timesteps: list[int]) -> Tensor:
    """What our sampler draws."""
    return walk(model, start().double(), timesteps).pictures.float()


def steps_for(name: str, settings: Mapping[str, Any]) -> int:
    """How many steps diffusers takes: all of them, or as many as its solver's formula stands.

    Where estimates are bounded our sampler takes the same steps: bounds leave no limit to go to.
    """
    if settings.get("clip_sample") or settings.get("thresholding"):
        return 25
    return 1000 if name.startswith(("DDIM", "Euler", "FlowMatchEuler", "PNDM")) else 800


def deviation(name: str, settings: Mapping[str, Any]) -> float:
    """Root mean square difference between the pictures of diffusers' scheduler and of ours."""
    kind = getattr(diffusers, name)
    usual = {} if "FlowMatch" in name else {**SMALL_BETAS, "clip_sample": False}
    known = inspect.signature(kind.__init__).parameters
    given = {key: value for key, value in {**usual, **settings}.items() if key in known}
    scheduler = kind(**given)
    require_supported(scheduler)
    model, steps = tiny(scheduler), steps_for(name, settings)
    process = model.process
    timesteps = list(range(process.last_timestep, process.first_timestep - 1, -1))
    other = of_diffusers(model, scheduler, steps)
    if steps == 25:
        timesteps = [int(t) for t in scheduler.timesteps]
    timesteps = [t for t in timesteps if t <= round(float(scheduler.timesteps[0]))]
    return float((other - of_ours(model, timesteps)).square().mean().sqrt())


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
        if setting in known:
            found += [{**BESIDE.get(setting, {}), setting: value} for value in values]
    return found


def sampled(name: str, settings: Mapping[str, Any]) -> str:
    """What the page says of one comparison."""
    try:
        return f"{deviation(name, settings):.1e}"
    except (ValueError, NotImplementedError) as error:
        refused = str(error).startswith("the scheduler ")
        return "refused" if refused else "not in diffusers"


def verdict(name: str) -> str:
    """What becomes of a scheduler."""
    if name in DETERMINISTIC:
        return "reproduced"
    if name in RANDOM:
        return "reproduced but for its own random draws"
    return f"refused: {REASONS.get(name, OTHERS)}"


def becomes(setting: str) -> str:
    """What becomes of a setting."""
    if setting in HARMLESS:
        values = ", ".join(f"`{value}`" for value in HARMLESS[setting])
        return f"refused unless {values}"
    if setting in BOUNDS:
        return "kept for DDIM and DDPM, else refused where it is on"
    if setting in ONLY_STEPS:
        return "says only how steps are spaced, solved or drawn: not followed"
    return "kept" if setting in KEPT else "UNKNOWN"


def settings_of(names: Iterable[str]) -> list[str]:
    """The settings that some of these schedulers have."""
    found = {
        setting
        for name in names
        if hasattr(diffusers, name)
        for setting in inspect.signature(getattr(diffusers, name).__init__).parameters
    }
    return sorted(found - {"self", "args", "kwargs"})


def in_words(settings: Mapping[str, Any]) -> str:
    """A case as the page has it."""
    return ", ".join(f"{key}={value}" for key, value in settings.items()) or "as usual"


def page() -> str:
    """The whole page."""
    supported = (*DETERMINISTIC, *RANDOM)
    lines = [HEADER.format(version=diffusers.__version__, limit=LIMIT)]
    lines += ["| scheduler | what becomes of it |", "|---|---|"]
    lines += [f"| {name} | {verdict(name)} |" for name in every_scheduler()]
    lines += ["", "## Settings of supported schedulers", "", "| setting | what becomes of it |"]
    lines += ["|---|---|", *(f"| `{s}` | {becomes(s)} |" for s in settings_of(supported))]
    for name, unfit in UNFIT.items():
        words = " and ".join(f"`{key}={value}`" for key, value in unfit.items())
        lines += ["", f"{name} is refused with {words}: {UNFIT_WORDS}"]
    lines += ["", "## Distances", "", "| scheduler | settings | distance |", "|---|---|---|"]
    for name in DETERMINISTIC:
        lines += [f"| {name} | {in_words(c)} | {sampled(name, c)} |" for c in cases(name)]
    return "\n".join(lines) + "\n"


HEADER = """# Schedulers

Made by `python tests/scheduler_cases.py > docs/schedulers.md` with diffusers {version}, on a CPU.

Pictures are drawn by one deterministic sampler (`models/sampling.py`), whatever a pipeline's
scheduler: of the scheduler it keeps the noise levels, what the network predicts, and whatever else
changes the picture that many steps lead to. What it cannot keep is refused by name when a model is
opened. Distances below are root mean squares of pixels in [-1, 1] between diffusers' pictures and
ours, from the same noise, of a model whose predictions are known in closed form; all are below
{limit}. Schedulers that draw at random are followed without those draws.
"""
UNFIT_WORDS = "diffusers' own pictures are then far from what more steps lead to."

if __name__ == "__main__":
    logging.set_verbosity_error()
    warnings.filterwarnings("ignore")
    sys.stdout.write(page())
