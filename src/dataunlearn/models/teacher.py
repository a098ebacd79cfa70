"""A frozen copy of the model as it was, whose predictions training can hold on to.

The mean of the noise target given a noisy input is the prediction of a perfect model, so regressing
the keep side on the copy's predictions has the same aim as training on the noise, without the
noise's spread about its mean (distillation: Hinton, Vinyals and Dean, 2015, arXiv 1503.02531).
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from dataunlearn.conditioning import Cond
from dataunlearn.models.base import DiffusionModel
from dataunlearn.models.lora import ADAPTER, network_of


def frozen_model(model: DiffusionModel) -> nn.Module:
    """The model as it is now, for training to ask: a copy, or with an adapter the model without."""
    network = network_of(model)
    if ADAPTER in getattr(network, "peft_config", {}):
        return WithoutLora(model.denoiser, network)
    return frozen_copy(model.denoiser)


def frozen_copy(denoiser: nn.Module) -> nn.Module:
    """The denoiser as it is now, in eval mode and without gradients."""
    return copy.deepcopy(denoiser).eval().requires_grad_(False)


class WithoutLora(nn.Module):
    """The model without its adapter: what it was before, at no cost in memory.

    Args:
        denoiser: The adapted model's denoiser.
        network: The network inside it that has the adapter.
    """

    def __init__(self, denoiser: nn.Module, network: Any) -> None:
        super().__init__()
        self.run, self.network = [denoiser], [network]  # lists: not a part of this module

    def forward(self, noisy: Tensor, t: Tensor, cond: Cond | None = None) -> Tensor:
        """The prediction without the adapter, ``(B, *shape)``."""
        with without_adapter(self.network[0]):
            prediction: Tensor = self.run[0](noisy, t, cond)
        return prediction


@contextmanager
def without_adapter(network: Any) -> Iterator[None]:
    """Switch the adapter off for a while."""
    network.disable_adapters()
    try:
        yield
    finally:
        network.enable_adapters()
