"""How much each parameter matters: to the forget images' loss, to predictions for kept pictures."""

from __future__ import annotations

import torch
from torch import Tensor

from dataunlearn.models import DiffusionModel
from dataunlearn.objectives import NegGrad
from dataunlearn.runtime.progress import progress_bar
from dataunlearn.runtime.seeding import random_stream
from dataunlearn.runtime.streams import IMPORTANCE_STREAM
from dataunlearn.training.engine import GradientEngine, trainable
from dataunlearn.training.pairs import PairSampler
from dataunlearn.training.two_gradients import views_like

BATCHES = 16


def forget_gradient(
    model: DiffusionModel, sampler: PairSampler, micro_batch_rows: int, *, shown: bool = True
) -> Tensor:
    """Gradient of the forget images' mean denoising loss, ``(P,)`` float32.

    Args:
        model: The model before its first step.
        sampler: Gives pairs of pictures; sixteen batches of it are looked at.
        micro_batch_rows: Most rows per forward pass.
        shown: Whether to draw progress.
    """
    engine, objective = GradientEngine(micro_batch_rows), NegGrad()
    total = torch.zeros(model.num_parameters, device=model.device)
    with progress_bar("which parameters the images depend on", BATCHES, shown=shown) as advance:
        for number in range(BATCHES):
            stream = sampler.objective_stream(number)
            rows = objective(model.process, sampler(number), stream)
            total += engine(model.denoiser, rows, number).flat_forget
            advance()
    return total / BATCHES


def prediction_sensitivity(
    model: DiffusionModel, sampler: PairSampler, micro_batch_rows: int, *, shown: bool = True
) -> Tensor:
    """Diagonal of the Gauss-Newton matrix of predictions for keep pictures, ``(P,)`` float32.

    The gradient of <z, prediction> with a random sign z for each dimension of each row has this
    mean square, since signs of different dimensions and rows do not correlate (Hutchinson 1990;
    Bekas, Kokiopoulou and Saad 2007): a batch costs one backward pass, not one a row.

    Args:
        model: The model before its first step.
        sampler: Gives pairs of pictures; sixteen batches of it are looked at.
        micro_batch_rows: Most rows per forward pass.
        shown: Whether to draw progress.
    """
    params = trainable(model.denoiser)
    total = torch.zeros(sum(param.numel() for param in params), device=model.device)
    parts, num_rows = views_like(params, total), 0
    with progress_bar("which parameters the rest depends on", BATCHES, shown=shown) as advance:
        for number in range(BATCHES):
            pair = sampler(number)
            generator = random_stream(sampler.seed, IMPORTANCE_STREAM, number)
            signs = torch.randint(0, 2, pair.keep.shape, generator=generator).float() * 2 - 1
            noisy = model.process.add_noise(pair.keep, pair.noise, pair.t)
            for rows in torch.split(torch.arange(len(pair)), micro_batch_rows):
                cond = None if pair.keep_cond is None else pair.keep_cond[rows].to(model.device)
                own = (each[rows].to(model.device) for each in (noisy, pair.t, signs))
                inputs, t, sign = own
                scalar = (model.denoiser(inputs, t, cond).float() * sign).sum()
                found = torch.autograd.grad(scalar, params, materialize_grads=True)
                for part, gradient in zip(parts, found, strict=True):
                    part.add_(gradient.float().square())
            num_rows += len(pair)
            advance()
    return total / num_rows
