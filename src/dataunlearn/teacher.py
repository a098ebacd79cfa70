"""A frozen copy of the model as it was, whose predictions training can hold on to."""

from __future__ import annotations

import copy
from dataclasses import replace

import torch
from torch import nn

from dataunlearn.rows import Rows


def frozen_copy(denoiser: nn.Module) -> nn.Module:
    """The denoiser as it is now, in eval mode and without gradients."""
    return copy.deepcopy(denoiser).eval().requires_grad_(False)


@torch.no_grad()
def keep_predictions(teacher: nn.Module, rows: Rows, micro_batch_rows: int) -> Rows:
    """The same rows with the teacher's predictions as the keep side's targets.

    The mean of the noise target given a noisy input is the prediction of a perfect model, so this
    regression has the same aim as the teacher's own training, without the spread of the noise
    about its mean (distillation: Hinton, Vinyals and Dean, 2015, arXiv 1503.02531).

    Args:
        teacher: The adapter ``(noisy, t, cond) -> prediction``, in eval mode.
        rows: R rows; they may live on another device than the teacher.
        micro_batch_rows: Most rows in one forward pass.

    Returns:
        Rows with float32 targets where ``rows`` lives.
    """
    device = next(teacher.parameters()).device
    found = []
    for indices in torch.split(torch.arange(len(rows)), micro_batch_rows):
        part = rows.take(indices).to(device)
        found.append(teacher(part.inputs, part.t, part.cond).float().to(rows.inputs.device))
    return replace(rows, keep=replace(rows.keep, target=torch.cat(found)))
