"""Recipes: functions that return a complete configuration, to read, print and override."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from dataunlearn.base_models.config import BaseModel, TextToImageModel
from dataunlearn.prompts.config import PromptUnlearning
from dataunlearn.recipes.celeba_hq import celeba_hq, celeba_hq_ours
from dataunlearn.recipes.emoji import emoji32
from dataunlearn.recipes.emoji_sd import emoji_sd
from dataunlearn.recipes.mnist_tshirt import (
    mnist_tshirt,
    mnist_tshirt_small,
    mnist_tshirt_unlearning,
)
from dataunlearn.recipes.stable_diffusion import stable_diffusion
from dataunlearn.unlearning.config import Unlearning

BASE_RECIPES: Mapping[str, Callable[[], BaseModel]] = {
    "mnist_tshirt": mnist_tshirt,
    "mnist_tshirt_small": mnist_tshirt_small,
    "emoji32": emoji32,
}

TRAINING_RECIPES: Mapping[str, Callable[[], BaseModel | TextToImageModel]] = {
    **BASE_RECIPES,
    "emoji_sd": emoji_sd,
}

PROMPT_RECIPES: Mapping[str, Callable[[], PromptUnlearning]] = {
    "stable_diffusion": stable_diffusion,
}

UNLEARNING_RECIPES: Mapping[str, Callable[[], Unlearning]] = {
    "mnist_tshirt": mnist_tshirt_unlearning,
    "celeba_hq": celeba_hq,
    "celeba_hq_ours": celeba_hq_ours,
}

__all__ = [
    "BASE_RECIPES",
    "PROMPT_RECIPES",
    "TRAINING_RECIPES",
    "UNLEARNING_RECIPES",
    "celeba_hq",
    "celeba_hq_ours",
    "emoji32",
    "emoji_sd",
    "mnist_tshirt",
    "mnist_tshirt_small",
    "mnist_tshirt_unlearning",
    "stable_diffusion",
]
