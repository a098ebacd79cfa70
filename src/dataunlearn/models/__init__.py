"""Model adapters: every model family behind one call ``(noisy, t, cond) -> prediction``."""

from __future__ import annotations

from dataunlearn.models.base import DiffusionModel
from dataunlearn.models.loading import load_model
from dataunlearn.models.saving import save_model
from dataunlearn.models.unconditional import UnconditionalDenoiser

__all__ = ["DiffusionModel", "UnconditionalDenoiser", "load_model", "save_model"]
