"""Recipes: functions that return a complete configuration, to read, print and override."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from dataunlearn.config import BaseModel
from dataunlearn.recipes.emoji import emoji32
from dataunlearn.recipes.mnist_tshirt import mnist_tshirt, mnist_tshirt_small

BASE_RECIPES: Mapping[str, Callable[[], BaseModel]] = {
    "mnist_tshirt": mnist_tshirt,
    "mnist_tshirt_small": mnist_tshirt_small,
    "emoji32": emoji32,
}

__all__ = ["BASE_RECIPES", "emoji32", "mnist_tshirt", "mnist_tshirt_small"]
