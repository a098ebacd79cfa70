"""The configured optimizer and moving average."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from dataunlearn.config import Training


def make_optimizer(params: Sequence[torch.nn.Parameter], config: Training) -> torch.optim.Optimizer:
    """The configured optimizer over ``params``."""
    optimizer = torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.Adam
    return optimizer(
        params,
        lr=config.learning_rate,
        betas=config.betas,
        weight_decay=config.weight_decay,
    )


def make_ema(params: Sequence[torch.nn.Parameter], config: Training) -> Any:
    """The configured moving average (diffusers' ``EMAModel``), or None."""
    if config.ema is None:
        return None
    from diffusers.training_utils import EMAModel

    return EMAModel(
        params,
        decay=config.ema.max_decay,
        use_ema_warmup=True,
        inv_gamma=config.ema.inv_gamma,
        power=config.ema.power,
        foreach=True,
    )
