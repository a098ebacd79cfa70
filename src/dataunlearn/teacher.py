"""A frozen copy of the model as it was, whose predictions training can hold on to.

The mean of the noise target given a noisy input is the prediction of a perfect model, so regressing
the keep side on the copy's predictions has the same aim as training on the noise, without the
noise's spread about its mean (distillation: Hinton, Vinyals and Dean, 2015, arXiv 1503.02531).
"""

from __future__ import annotations

import copy

from torch import nn


def frozen_copy(denoiser: nn.Module) -> nn.Module:
    """The denoiser as it is now, in eval mode and without gradients."""
    return copy.deepcopy(denoiser).eval().requires_grad_(False)
