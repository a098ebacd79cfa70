"""What of a diffusers scheduler changes pictures: kept by our own sampler, or refused by name.

Settings that only say how steps are spaced or solved are not followed: the sampler has steps of its
own (:mod:`.sampling`), and with many steps it draws what diffusers draws with many.
docs/schedulers.md has every scheduler with every setting, and how far the pictures are apart.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dataunlearn.runtime.checks import require

DETERMINISTIC = (
    "DDIMScheduler",
    "DDIMParallelScheduler",
    "PNDMScheduler",
    "EulerDiscreteScheduler",
    "HeunDiscreteScheduler",
    "LMSDiscreteScheduler",
    "KDPM2DiscreteScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler",
    "DEISMultistepScheduler",
    "UniPCMultistepScheduler",
    "FlowMatchEulerDiscreteScheduler",
    "FlowMatchHeunDiscreteScheduler",
)
RANDOM = (
    "DDPMScheduler",
    "DDPMParallelScheduler",
    "EulerAncestralDiscreteScheduler",
    "KDPM2AncestralDiscreteScheduler",
    "DPMSolverSDEScheduler",
    "SASolverScheduler",
)
EXACT_BOUNDS = ("DDIMScheduler", "DDIMParallelScheduler", "DDPMScheduler", "DDPMParallelScheduler")
# Schedulers whose last step ends at the least noise that the model was trained on.
ENDS_NOISY = ("DEISMultistepScheduler", "SASolverScheduler")

DISTILLED = (
    "it draws with models that were distilled to a few steps, which say nothing at the noise "
    "levels of unlearning: give the model that was distilled"
)
VARIANCE_EXPLODING = (
    "it adds noise to pictures that keep their size (EDM, VE), and only DDPM-like and "
    "flow-matching models are supported; another scheduler in its place would not fit the network"
)
CONTINUOUS = (
    "its noise levels are a formula of its own and not those of betas: give the scheduler that the "
    "model was trained with, for example a DDPMScheduler"
)
ONE_WAY = (
    "it is for turning pictures into noise, or filling gaps: give the scheduler that the model was "
    "trained with"
)
REASONS: Mapping[str, str] = {
    **dict.fromkeys(("LCMScheduler", "TCDScheduler", "SCMScheduler"), DISTILLED),
    **dict.fromkeys(("FlowMatchLCMScheduler", "CMStochasticIterativeScheduler"), DISTILLED),
    **dict.fromkeys(("EDMEulerScheduler", "EDMDPMSolverMultistepScheduler"), VARIANCE_EXPLODING),
    **dict.fromkeys(("KarrasVeScheduler", "ScoreSdeVeScheduler"), VARIANCE_EXPLODING),
    **dict.fromkeys(("ScoreSdeVpScheduler", "IPNDMScheduler"), CONTINUOUS),
    "CosineDPMSolverMultistepScheduler": VARIANCE_EXPLODING,
    **dict.fromkeys(("DDIMInverseScheduler", "RePaintScheduler"), ONE_WAY),
    "DPMSolverMultistepInverseScheduler": ONE_WAY,
}
OTHERS = "only DDPM-like and flow-matching models of pictures are supported"

# Settings that change pictures in a way that is not kept, with the values that change nothing.
HARMLESS: Mapping[str, tuple[Any, ...]] = {
    "use_flow_sigmas": (False,),
    "sigma_min": (None,),
    "sigma_max": (None,),
    "timestep_type": ("discrete",),
    "lambda_min_clipped": (-float("inf"), None),
    "variance_type": ("fixed_small", "fixed_small_log", "fixed_large", "fixed_large_log", None),
    "invert_sigmas": (False,),
    "shift_terminal": (None,),
    "stochastic_sampling": (False,),
}
# Settings under which diffusers' solver does not come within 1e-3 of the path that it approximates
# in as many steps as there are timesteps: it rounds timesteps down, is at odds with the network's
# noise levels, or has too few steps somewhere, or divides by zero.
ROUNDED_DOWN: Mapping[str, Any] = {"use_exponential_sigmas": True, "use_beta_sigmas": True}
UNFIT: Mapping[str, Mapping[str, Any]] = {
    "PNDMScheduler": {"beta_schedule": "squaredcos_cap_v2"},
    "EulerDiscreteScheduler": {"use_beta_sigmas": True, "interpolation_type": "log_linear"},
    "FlowMatchEulerDiscreteScheduler": {"use_exponential_sigmas": True},
    "KDPM2DiscreteScheduler": {"use_beta_sigmas": True},
    "DEISMultistepScheduler": {"solver_order": 3, **ROUNDED_DOWN},
    **dict.fromkeys(("DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler"), ROUNDED_DOWN),
    "UniPCMultistepScheduler": {
        "lower_order_final": False,
        "solver_type": "bh1",
        "predict_x0": False,
        **ROUNDED_DOWN,
    },
    "SASolverScheduler": ROUNDED_DOWN,
}
NUMBERS = ("clip_sample_range", "sample_max_value", "dynamic_thresholding_ratio")
BOUNDS = ("thresholding", "clip_sample")
KEPT = (
    "num_train_timesteps",
    "beta_start",
    "beta_end",
    "beta_schedule",
    "trained_betas",
    "prediction_type",
    "rescale_betas_zero_snr",
    "clip_sample",
    "clip_sample_range",
    "thresholding",
    "dynamic_thresholding_ratio",
    "sample_max_value",
    "set_alpha_to_one",
    "final_sigmas_type",
    "shift",
    "use_dynamic_shifting",
    "base_shift",
    "max_shift",
    "base_image_seq_len",
    "max_image_seq_len",
)


def scheduler_name(scheduler: Any) -> str:
    """The known scheduler that it is, or is derived from; else the name of its class."""
    names = [kind.__name__ for kind in type(scheduler).__mro__]
    known = (*DETERMINISTIC, *RANDOM, *REASONS)
    return next((name for name in names if name in known), names[0])


def settings_in_use(scheduler: Any) -> dict[str, Any]:
    """The part of a scheduler's config that its class reads.

    A config that was another scheduler's keeps what that one had (``clip_sample``,
    ``set_alpha_to_one``, ...), which changes nothing then.
    """
    name = scheduler_name(scheduler)
    kind: Any = next(kind for kind in type(scheduler).__mro__ if kind.__name__ == name)
    known = inspect.signature(kind.__init__).parameters
    return {key: value for key, value in scheduler.config.items() if key in known}


def require_supported(scheduler: Any) -> None:
    """Refuse a scheduler whose pictures our sampler would not draw.

    Raises:
        ValueError: Naming the scheduler, or its setting, with what can be done.
    """
    name = scheduler_name(scheduler)
    if name not in (*DETERMINISTIC, *RANDOM):
        why = REASONS.get(name, OTHERS)
        raise ValueError(f"the scheduler {name} is not supported: {why}")
    for setting, value in refused_settings(name, settings_in_use(scheduler)).items():
        raise ValueError(
            f"the scheduler {name} has {setting}={value!r}, which changes its pictures in a way "
            "that is not supported: if the model was not trained for it, take it out of "
            "scheduler_config.json"
        )
    for setting in NUMBERS:
        value = settings_in_use(scheduler).get(setting, 1.0)
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        require(
            number and math.isfinite(value) and value > 0,
            f"the scheduler {name} has {setting}={value!r}: it must be a number above 0",
        )


def refused_settings(name: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings in use by a supported scheduler that are refused, with their values."""
    found = {
        setting: settings[setting]
        for setting, harmless in HARMLESS.items()
        if setting in settings and not any(_same(settings[setting], value) for value in harmless)
    }
    found |= {
        setting: settings[setting]
        for setting, unfit in UNFIT.get(name, {}).items()
        if settings.get(setting) == unfit
    }
    if name not in EXACT_BOUNDS:
        found |= {setting: True for setting in BOUNDS if settings.get(setting, False)}
    return found


def _same(first: Any, second: Any) -> bool:
    number = isinstance(first, (int, float)) and isinstance(second, (int, float))
    return first == second if number or type(first) is type(second) else first is second


@dataclass(frozen=True)
class SamplingRule:
    """How a scheduler bounds what the model believes in, and where its last step ends.

    Attributes:
        clip: Largest absolute value of the clean estimate; None for any.
        quantile: Dynamic thresholding (Saharia et al. 2022, arXiv 2205.11487): share of a sample's
            values within the bound that it is then scaled by; None without.
        largest: The bound's largest value.
        ends_noisy: Whether the last step leaves the least noise that the model was trained on.
    """

    clip: float | None = None
    quantile: float | None = None
    largest: float = 1.0
    ends_noisy: bool = False

    @classmethod
    def of(cls, scheduler: Any) -> SamplingRule:
        """The rule of a supported scheduler."""
        settings = settings_in_use(scheduler)
        clips, thresholds = settings.get("clip_sample"), settings.get("thresholding")
        ends_noisy = (
            settings.get("set_alpha_to_one") is False
            or settings.get("final_sigmas_type") == "sigma_min"
            or scheduler_name(scheduler) in ENDS_NOISY
        )
        return cls(
            float(settings.get("clip_sample_range", 1.0)) if clips else None,
            float(settings["dynamic_thresholding_ratio"]) if thresholds else None,
            float(settings.get("sample_max_value", 1.0)),
            ends_noisy,
        )

    def bounded(self, clean: Tensor) -> Tensor:
        """Clean estimates ``(B, ...)`` within bounds."""
        if self.quantile is not None:
            sizes = clean.flatten(1).float().abs()
            bound = torch.quantile(sizes, self.quantile, dim=1).clamp(min=1, max=self.largest)
            bound = bound.to(clean.dtype).reshape(-1, *[1] * (clean.ndim - 1))
            return clean.clamp(-bound, bound) / bound
        return clean if self.clip is None else clean.clamp(-self.clip, self.clip)
