"""The frozen model: as it was before training, for training to ask.

The mean of the noise target given a noisy input is the prediction of a perfect model, so regressing
the keep side on the copy's predictions has the same aim as training on the noise, without the
noise's spread about its mean (distillation: Hinton, Vinyals and Dean, 2015, arXiv 1503.02531).
"""

from __future__ import annotations

import copy

import torch
from torch import nn

from dataunlearn.models.base import DiffusionModel
from dataunlearn.models.lora import ADAPTER, WithoutLora, network_of

# Layers whose weights autocast rounds in every pass: to hold them rounded changes no prediction.
ROUNDED = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d)


def frozen_model(model: DiffusionModel, *, rounded: bool = False) -> nn.Module:
    """The model as it is now, for training to ask: a copy, or with an adapter the model without.

    Args:
        model: The model.
        rounded: Whether it is asked under bfloat16 autocast alone, so that a copy may hold the
            weights that this rounds as bfloat16, in half the memory.
    """
    network = network_of(model)
    if ADAPTER in getattr(network, "peft_config", {}):
        return WithoutLora(model.denoiser, network)
    return frozen_copy(model.denoiser, rounded=rounded)


def frozen_copy(denoiser: nn.Module, *, rounded: bool = False) -> nn.Module:
    """The denoiser as it is now, in eval mode and without gradients."""
    copied = copy.deepcopy(denoiser).eval().requires_grad_(False)
    for module in copied.modules() if rounded else ():
        if isinstance(module, ROUNDED):
            module.to(torch.bfloat16)
    return copied
