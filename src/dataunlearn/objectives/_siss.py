"""SISS: subtracted importance sampled scores, the paper's method."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from dataunlearn.combine import DEFAULT_RATIO, Combination, Direction, NormFix
from dataunlearn.objectives._base import Objective, choose_rows, one_conditioning
from dataunlearn.objectives._ceiling import under_ceilings
from dataunlearn.objectives._checks import Conditioning, check_conditioning, check_lam
from dataunlearn.objectives._context import Context
from dataunlearn.process import ForwardProcess
from dataunlearn.rows import Pair, Rows, Term


def log_importance_weights(log_ratio: Tensor, lam: float) -> tuple[Tensor, Tensor]:
    """Log importance weights of both sides under the mixture q_lam.

    With q_lam = (1 - lam) q(.|x) + lam q(.|a) and Delta = log q(m|x) - log q(m|a):

        log w_x = log q(m|x)/q_lam(m) = logsigmoid( Delta + log((1-lam)/lam)) - log(1-lam)
        log w_a = log q(m|a)/q_lam(m) = logsigmoid(-Delta - log((1-lam)/lam)) - log lam

    so that (1-lam) w_x + lam w_a = 1, w_x <= 1/(1-lam) and w_a <= 1/lam.

    Args:
        log_ratio: Delta, ``(B,)``, float32 or wider.
        lam: Share of the forget samples in the mixture, in [0, 1].

    Returns:
        (log w_x, log w_a), each ``(B,)``; the limits (0, -Delta) at 0 and (Delta, 0) at 1.
    """
    if lam == 0:
        return torch.zeros_like(log_ratio), -log_ratio
    if lam == 1:
        return log_ratio, torch.zeros_like(log_ratio)
    log_keep, log_forget = math.log1p(-lam), math.log(lam)
    logit = log_ratio + (log_keep - log_forget)
    return logsigmoid(logit) - log_keep, logsigmoid(-logit) - log_forget


@dataclass(frozen=True)
class SISS(Objective):
    """Subtracted importance sampled scores: both terms from one forward pass.

    A row's noisy input is made from the forget sample with probability ``lam``, else from the keep
    sample; importance weights make each side's loss unbiased for its own denoising loss. The keep
    weight times the keep sample's target is descended, the forget weight times the forget sample's
    target ascended. Alberti et al., "Data Unlearning in Diffusion Models", ICLR 2025, section 3.

    Args:
        lam: Mixture share lambda in [0, 1]. Between 0 and 1 the weights are bounded.
        conditioning: What a conditional model is given when the two sides differ.
        ceiling: Whether a forget row counts for nothing once it loses more than its image's level,
            what a model that never saw the image is predicted to lose; the ascent then has an end.
    """

    default_combination: ClassVar[Combination] = NormFix(ratio=DEFAULT_RATIO)
    keep_direction: ClassVar[Direction] = Direction.DESCENDED
    forget_direction: ClassVar[Direction] = Direction.ASCENDED
    keeps_predictions: ClassVar[bool] = True
    mixes_sides: ClassVar[bool] = True

    lam: float = 0.5
    conditioning: Conditioning = "equal"
    ceiling: bool = False

    def __post_init__(self) -> None:
        """Check lam and the choice of conditioning."""
        check_lam(self.lam)
        check_conditioning(self.conditioning)

    @property
    def arrives(self) -> bool:
        """With ceilings it does."""
        return self.ceiling

    def prepare(self, context: Context) -> Objective:
        """With ceilings, the objective with those of the forget images; else as it is."""
        return under_ceilings(self, context) if self.ceiling else self

    def __call__(self, process: ForwardProcess, pair: Pair, generator: torch.Generator) -> Rows:
        """B rows, each with both sides; see the class."""
        cond = one_conditioning(pair, self.conditioning)
        draw = torch.rand(len(pair), generator=generator, device=pair.t.device)
        clean = choose_rows(draw < self.lam, pair.keep, pair.forget)
        inputs = process.add_noise(clean, pair.noise, pair.t)  # m ~ q_lam, (B, *shape)
        log_ratio = process.log_density_ratio(inputs, pair.keep, pair.forget, pair.t)
        log_keep, log_forget = log_importance_weights(log_ratio, self.lam)
        return Rows(
            inputs,
            pair.t,
            Term(process.target(inputs, pair.keep, pair.t), log_keep.exp().float()),
            Term(process.target(inputs, pair.forget, pair.t), log_forget.exp().float()),
            cond,
        )
