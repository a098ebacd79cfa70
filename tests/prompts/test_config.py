"""What ``unlearn-prompts`` does where nothing is set, and that each of it can be set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dataunlearn.objectives import SISS, WithoutPrompt
from dataunlearn.prompts.config import PromptUnlearning
from dataunlearn.timesteps import Last, Uniform
from dataunlearn.unlearning.config import Settings


def settings(**unlearning: Any) -> Settings:
    return PromptUnlearning("model", Path("p.yaml"), Path("out"), unlearning=unlearning).settings


def test_defaults() -> None:
    found = settings()
    assert found.objective == SISS()
    assert found.noise_levels == Last()
    assert not found.keeps_predictions and not found.stops_at_level
    assert (found.stop.every_steps, found.stop.copies) == (10, 4)


def test_another_method_keeps_the_other_defaults() -> None:
    found = settings(objective="WithoutPrompt")
    assert found.objective == WithoutPrompt()
    assert found.noise_levels == Last()
    assert not found.keeps_predictions and not found.stops_at_level


def test_what_is_given_counts() -> None:
    found = settings(objective="WithoutPrompt", timesteps="Uniform", keep_towards="predictions")
    assert found.noise_levels == Uniform()
    assert found.keeps_predictions
