"""A small stand-in for the paper's faces: emoji of 32 pixels, twelve of them planted often."""

from __future__ import annotations

from dataunlearn.base_models.config import BaseModel
from dataunlearn.recipes._small import small_base_model


def emoji32() -> BaseModel:
    """An unconditional model of 1,000 emoji for two CPU cores: 1.5 M parameters, 310 epochs.

    Twelve of the pictures are there 20 times more. It reads ``data/emoji32.npz`` of the repository;
    see ``data/README.md``.
    """
    return small_base_model(
        32,
        3,
        6000,
        images="data/emoji32.npz:train",
        planted="data/emoji32.npz:planted",
        planted_copies=20,
    )
