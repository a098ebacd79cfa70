"""The frozen model: as it was before training, for training to ask.

The mean of the noise target given a noisy input is the prediction of a perfect model, so regressing
the keep side on the copy's predictions has the same aim as training on the noise, without the
noise's spread about its mean (distillation: Hinton, Vinyals and Dean, 2015, arXiv 1503.02531).
"""

from __future__ import annotations

import copy

from torch import nn

from dataunlearn.models.base import DiffusionModel
from dataunlearn.models.lora import ADAPTER, WithoutLora, network_of


def frozen_model(model: DiffusionModel) -> nn.Module:
    """The model as it is now, for training to ask: a copy, or with an adapter the model without."""
    network = network_of(model)
    if ADAPTER in getattr(network, "peft_config", {}):
        return WithoutLora(model.denoiser, network)
    return frozen_copy(model.denoiser)


def frozen_copy(denoiser: nn.Module) -> nn.Module:
    """The denoiser as it is now, in eval mode and without gradients."""
    return copy.deepcopy(denoiser).eval().requires_grad_(False)
