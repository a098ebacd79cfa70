"""Schedulers: each is reproduced or refused by name, and docs/schedulers.md says which."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from diffusers import DDIMScheduler, DDPMPipeline, DDPMScheduler

import scheduler_cases as cases
import scheduler_page as page
from dataunlearn.models.families import wrap_pipeline
from dataunlearn.models.schedulers import DETERMINISTIC, RANDOM, SamplingRule, require_supported

PAGE = Path(__file__).resolve().parents[2] / "docs" / "schedulers.md"
SOME: list[tuple[str, dict[str, Any]]] = [
    ("DDIMScheduler", {"set_alpha_to_one": False}),
    ("DDIMScheduler", {"clip_sample": True, "clip_sample_range": 0.7}),
    ("DDIMScheduler", cases.BESIDE["thresholding"] | {"thresholding": True}),
    ("PNDMScheduler", {}),
    ("DPMSolverSinglestepScheduler", {"final_sigmas_type": "sigma_min"}),
    ("EulerDiscreteScheduler", {"use_karras_sigmas": True}),
    ("DPMSolverMultistepScheduler", {}),
    ("FlowMatchEulerDiscreteScheduler", {"shift": 3.0}),
]


@pytest.mark.parametrize(("name", "settings"), SOME)
def test_pictures_are_those_of_diffusers(name: str, settings: dict[str, Any]) -> None:
    assert cases.deviation(name, settings) < cases.LIMIT


@pytest.mark.parametrize("name", ["DDPMScheduler", "DPMSolverMultistepScheduler"])
def test_random_draws_have_the_same_distribution(name: str) -> None:
    settings = {"algorithm_type": "sde-dpmsolver++"} if "Solver" in name else {"clip_sample": True}
    assert cases.deviation_of_random(name, settings) < cases.RANDOM_LIMIT


@pytest.mark.parametrize("name", ["emoji32", "emoji_sd", "mnist_tshirt_small_without"])
def test_models_that_are_here(name: str) -> None:
    """Their schedulers' settings give diffusers' pictures, and no others than they ever did."""
    folder = PAGE.parents[1] / "models" / name / "scheduler"
    settings = json.loads((folder / "scheduler_config.json").read_text())
    scheduler = getattr(diffusers, settings["_class_name"]).from_pretrained(str(folder))
    if settings["_class_name"] == "DDIMScheduler":
        settings["steps_offset"] = 0  # with 1, diffusers cannot walk all timesteps
        assert cases.deviation("DDIMScheduler", settings) < cases.LIMIT
    else:
        require_supported(scheduler)
        assert SamplingRule.of(scheduler) == SamplingRule(clip=1.0)


def test_the_page_is_what_is_made() -> None:
    """Without its distances to the letter; of these every case has its line, below the limit."""
    told, _, lines = PAGE.read_text().partition("|---|---|---|\n")
    assert told == page.tables(), page.REMAKE
    assert "UNKNOWN" not in told
    rows = [
        (page.row(name, case), cases.RANDOM_LIMIT if name in RANDOM else cases.LIMIT)
        for name in (*DETERMINISTIC, *RANDOM)
        for case in cases.cases(name)
    ]
    for line, (start, limit) in zip(lines.splitlines(), rows, strict=True):
        assert line.startswith(start), page.REMAKE
        distance = line.removeprefix(start).removesuffix(" |")
        assert distance in page.NO_DISTANCE or float(distance) < limit, line


@pytest.mark.parametrize("name", cases.every_scheduler())
def test_one_that_is_not_supported_is_named(name: str) -> None:
    kind = getattr(diffusers, name)
    try:
        scheduler = kind()
    except Exception:
        pytest.skip("has no defaults")
    if name in (*DETERMINISTIC, *RANDOM) and not scheduler.config.get("clip_sample"):
        require_supported(scheduler)
    elif name not in (*DETERMINISTIC, *RANDOM):
        with pytest.raises(ValueError, match=f"the scheduler {name} is not supported: "):
            require_supported(scheduler)


@pytest.mark.parametrize(
    ("name", "setting", "value"),
    [
        ("DPMSolverMultistepScheduler", "use_flow_sigmas", True),
        ("DPMSolverMultistepScheduler", "lambda_min_clipped", -5.1),
        ("DPMSolverMultistepScheduler", "thresholding", True),
        ("HeunDiscreteScheduler", "clip_sample", True),
        ("EulerDiscreteScheduler", "sigma_max", 20.0),
        ("EulerDiscreteScheduler", "timestep_type", "continuous"),
        ("DDPMScheduler", "variance_type", "learned_range"),
        ("FlowMatchEulerDiscreteScheduler", "stochastic_sampling", True),
        ("FlowMatchEulerDiscreteScheduler", "shift_terminal", 0.1),
        ("FlowMatchEulerDiscreteScheduler", "invert_sigmas", True),
        ("PNDMScheduler", "beta_schedule", "squaredcos_cap_v2"),
        ("DEISMultistepScheduler", "solver_order", 3),
        ("DPMSolverMultistepScheduler", "use_beta_sigmas", True),
        ("UniPCMultistepScheduler", "use_exponential_sigmas", True),
    ],
)
def test_a_setting_that_cannot_be_kept_is_named(name: str, setting: str, value: Any) -> None:
    scheduler = getattr(diffusers, name)()
    scheduler.register_to_config(**{setting: value})
    with pytest.raises(ValueError, match=f"{name} has {setting}="):
        require_supported(scheduler)


def test_it_is_refused_when_a_model_is_opened(make_unet: Any) -> None:
    pipeline = DDPMPipeline(make_unet(), diffusers.EDMEulerScheduler())
    with pytest.raises(ValueError, match=r"EDMEulerScheduler is not supported: .* keep their size"):
        wrap_pipeline(pipeline)


class OwnScheduler(DDPMScheduler):
    """A class of the user's own."""


def test_one_derived_from_a_supported_one(make_unet: Any) -> None:
    assert wrap_pipeline(DDPMPipeline(make_unet(), OwnScheduler())).shape == (1, 8, 8)


@pytest.mark.parametrize("value", [[], None, "x", 0, -1.0, float("nan"), True])
def test_a_bound_that_is_no_number_is_named(value: Any) -> None:
    scheduler = DDIMScheduler()
    scheduler.register_to_config(clip_sample_range=value)
    with pytest.raises(ValueError, match=r"clip_sample_range=.*: it must be a number above 0"):
        require_supported(scheduler)


@pytest.mark.parametrize("name", ["DPMSolverMultistepScheduler", "EulerDiscreteScheduler"])
def test_settings_of_the_scheduler_before_it_change_nothing(name: str) -> None:
    """A config that was DDIM's keeps DDIM's settings, of which the other's class reads none."""
    before = DDIMScheduler(clip_sample=True, set_alpha_to_one=False).config
    scheduler = getattr(diffusers, name).from_config(before)
    assert scheduler.config["clip_sample"] and not scheduler.config["set_alpha_to_one"]
    require_supported(scheduler)
    assert SamplingRule.of(scheduler) == SamplingRule()


def test_bounds() -> None:
    """With a share of 0.8 of 5 values the bound is the 4th by size, at most 1.5 and at least 1."""
    clean = torch.tensor([[0.1, -0.2, 0.3, 1.2, -4.0], [0.1, 0.2, 0.3, 3.0, 9.0]])
    scheduler = DDIMScheduler(
        thresholding=True, dynamic_thresholding_ratio=0.75, sample_max_value=1.5
    )
    found = SamplingRule.of(scheduler).bounded(clean)
    torch.testing.assert_close(
        found,
        torch.tensor([[0.1, -0.2, 0.3, 1.2, -1.2], [0.1, 0.2, 0.3, 1.5, 1.5]])
        / torch.tensor([[1.2], [1.5]]),
    )
    clipped = SamplingRule.of(DDIMScheduler(clip_sample=True, clip_sample_range=2.0))
    assert clipped.bounded(clean).abs().max() == 2
