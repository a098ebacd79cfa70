"""The configured optimizer and moving average."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from dataunlearn.training.config import Training


def _adamw8bit() -> Any:
    try:
        from bitsandbytes.optim import AdamW8bit  # type: ignore[import-not-found]
    except ImportError as error:
        raise ValueError(
            "the optimizer adamw8bit needs bitsandbytes: pip install 'dataunlearn[8bit]'"
        ) from error
    return AdamW8bit


OPTIMIZERS: Mapping[str, Callable[[], Any]] = {
    "adamw": lambda: torch.optim.AdamW,
    "adam": lambda: torch.optim.Adam,
    "adamw8bit": _adamw8bit,
}

FUSED = ("adamw", "adam")


def make_optimizer(params: Sequence[torch.nn.Parameter], config: Training) -> torch.optim.Optimizer:
    """The configured optimizer over ``params``; on a GPU torch's own in one kernel.

    Raises:
        ValueError: If it needs a package that is not installed.
    """
    own: dict[str, Any] = (
        {"fused": True} if config.optimizer in FUSED and are_on_a_gpu(params) else {}
    )
    found: torch.optim.Optimizer = OPTIMIZERS[config.optimizer]()(
        params,
        lr=config.learning_rate,
        betas=config.betas,
        weight_decay=config.weight_decay,
        **own,
    )
    return found


def are_on_a_gpu(params: Sequence[torch.nn.Parameter]) -> bool:
    """Whether all of them lie on a CUDA device."""
    return all(param.is_cuda for param in params)


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
