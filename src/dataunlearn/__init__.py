"""Remove chosen training images from a diffusion model, and show that they are gone."""

from __future__ import annotations

from dataunlearn.api import audit, unlearn
from dataunlearn.combine import BoundedDescent, Combination, Fixed, NormFix, Superfactor
from dataunlearn.objectives import (
    SISS,
    BernoulliSubscore,
    EraseDiff,
    NaiveDeletion,
    NegGrad,
    Objective,
    SISSNoIS,
)
from dataunlearn.process import ForwardProcess
from dataunlearn.rows import Pair, Rows, Term
from dataunlearn.timesteps import Above, Last, TimestepPolicy, Uniform, Window
from dataunlearn.unlearning.config import Evaluation

__version__ = "0.1.0"

__all__ = [
    "SISS",
    "Above",
    "BernoulliSubscore",
    "BoundedDescent",
    "Combination",
    "EraseDiff",
    "Evaluation",
    "Fixed",
    "ForwardProcess",
    "Last",
    "NaiveDeletion",
    "NegGrad",
    "NormFix",
    "Objective",
    "Pair",
    "Rows",
    "SISSNoIS",
    "Superfactor",
    "Term",
    "TimestepPolicy",
    "Uniform",
    "Window",
    "audit",
    "unlearn",
]
