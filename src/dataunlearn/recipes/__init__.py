"""Recipes: functions that return a complete configuration, to read, print and override."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from dataunlearn.config import BaseModel
from dataunlearn.recipes.celeba_hq import celeba_hq, celeba_hq_ours
from dataunlearn.recipes.emoji import emoji32
from dataunlearn.recipes.mnist_tshirt import (
    mnist_tshirt,
    mnist_tshirt_small,
    mnist_tshirt_unlearning,
)
from dataunlearn.unlearning_config import Unlearning

BASE_RECIPES: Mapping[str, Callable[[], BaseModel]] = {
    "mnist_tshirt": mnist_tshirt,
    "mnist_tshirt_small": mnist_tshirt_small,
    "emoji32": emoji32,
}

UNLEARNING_RECIPES: Mapping[str, Callable[[], Unlearning]] = {
    "mnist_tshirt": mnist_tshirt_unlearning,
    "celeba_hq": celeba_hq,
    "celeba_hq_ours": celeba_hq_ours,
}

__all__ = [
    "BASE_RECIPES",
    "UNLEARNING_RECIPES",
    "celeba_hq",
    "celeba_hq_ours",
    "emoji32",
    "mnist_tshirt",
    "mnist_tshirt_small",
    "mnist_tshirt_unlearning",
]
