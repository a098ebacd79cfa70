"""Do importance weights still mix the two sides, or has each row fallen to one of them?

For a noisy sample of x, Delta = log q(m|x) - log q(m|a) is distributed as N(mu, 2 mu) with
mu = gamma^2 |x - a|^2 / (2 sigma^2). Once mu is large a row belongs to one side only, and SISS is
the Bernoulli subscore (an ablation of its paper) under another name. Large images and latents are
there at nearly every timestep.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from dataunlearn.process import ForwardProcess
from dataunlearn.rows import Rows
from dataunlearn.training.engine import NEGLIGIBLE_WEIGHT, drop_negligible
from dataunlearn.training.phase import StepPart

NUM_BUCKETS = 10

MIN_SHARE = 0.05
TRIAL_STEPS = 16


def two_sided(rows: Rows) -> Tensor:
    """Which rows carry a weight worth a backward pass on both sides, ``(R,)`` bool."""
    keep, _ = drop_negligible(rows.keep, NEGLIGIBLE_WEIGHT)
    forget, _ = drop_negligible(rows.forget, NEGLIGIBLE_WEIGHT)
    return (keep.weight != 0) & (forget.weight != 0)


def collapse_warning(parts: Sequence[StepPart], rows_of: Callable[[int], Rows]) -> str | None:
    """Words for a run whose objective is to mix the sides and hardly does; else None.

    Looks at the rows of the first steps, without running the model.

    Args:
        parts: What the steps train on.
        rows_of: The rows of a step, by its number from 0.
    """
    if not any(part.objective.mixes_sides for part in parts):
        return None
    found = torch.cat([two_sided(rows_of(step)) for step in range(TRIAL_STEPS)])
    share = float(found.float().mean())
    if share >= MIN_SHARE:
        return None
    return (
        f"Only {share:.1%} of the rows carry both sides: at these image sizes and timesteps the "
        "importance weights have collapsed, and the method acts as BernoulliSubscore. Noisier "
        "timesteps (--timesteps Last) mix more; SISSNoIS does without the weights."
    )


def effective_sample_size(weights: Tensor) -> float | None:
    """Kish's effective sample size as a share of the rows, (sum w)^2 / (n sum w^2), in (0, 1].

    None where all weights are zero.
    """
    squares = weights.double().square().sum()
    if squares == 0:
        return None
    return float(weights.double().sum().square() / (len(weights) * squares))


def sample_size_by_bucket(
    weights: Tensor, t: Tensor, process: ForwardProcess
) -> dict[str, float | None]:
    """Effective sample size of one side's weights in each tenth of the timesteps.

    Args:
        weights: Row weights ``(R,)``.
        t: Row timesteps ``(R,)``.
        process: Gives the range of timesteps.

    Returns:
        {"0-99": share, ...}, for the buckets that hold at least one row.
    """
    width = -(-process.num_train_timesteps // NUM_BUCKETS)
    buckets = (t - process.first_timestep).long() // width
    sizes = {}
    for bucket in torch.unique(buckets).tolist():
        low = process.first_timestep + bucket * width
        name = f"{low}-{min(low + width - 1, process.last_timestep)}"
        sizes[name] = effective_sample_size(weights[buckets == bucket])
    return sizes


def weight_record(rows: Rows, process: ForwardProcess) -> dict[str, Any]:
    """Effective sample sizes of both sides, for the log."""
    t = rows.t.cpu()
    return {
        "ess_keep": sample_size_by_bucket(rows.keep.weight.cpu(), t, process),
        "ess_forget": sample_size_by_bucket(rows.forget.weight.cpu(), t, process),
    }
