"""Do importance weights still mix the two sides, or has each row fallen to one of them?

For a noisy sample of x, Delta = log q(m|x) - log q(m|a) is distributed as N(mu, 2 mu) with
mu = gamma^2 |x - a|^2 / (2 sigma^2). Once mu is large a row belongs to one side only, and SISS is
the Bernoulli subscore (an ablation of its paper) under another name. Large images and latents are
there at nearly every timestep.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dataunlearn.gradients import NEGLIGIBLE_WEIGHT, drop_negligible
from dataunlearn.rows import Rows
from dataunlearn.trainer import Trainer

MIN_SHARE = 0.05
TRIAL_STEPS = 16


def two_sided(rows: Rows) -> Tensor:
    """Which rows carry a weight worth a backward pass on both sides, ``(R,)`` bool."""
    keep, _ = drop_negligible(rows.keep, NEGLIGIBLE_WEIGHT)
    forget, _ = drop_negligible(rows.forget, NEGLIGIBLE_WEIGHT)
    return (keep.weight != 0) & (forget.weight != 0)


def collapse_warning(trainer: Trainer) -> str | None:
    """Words for a run whose objective is to mix the sides and hardly does; else None.

    Looks at the rows of the first steps, without running the model.
    """
    if not any(part.objective.mixes_sides for part in trainer.phase.parts):
        return None
    found = torch.cat([two_sided(trainer.rows(step)) for step in range(TRIAL_STEPS)])
    share = float(found.float().mean())
    if share >= MIN_SHARE:
        return None
    return (
        f"Only {share:.1%} of the rows carry both sides: at these image sizes and timesteps the "
        "importance weights have collapsed, and the method acts as BernoulliSubscore. Noisier "
        "timesteps (--timesteps Last) mix more; SISSNoIS does without the weights."
    )
