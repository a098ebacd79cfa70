"""Unlearning objectives, one file a method."""

from __future__ import annotations

from collections.abc import Mapping

from dataunlearn.objectives._base import Objective
from dataunlearn.objectives._bernoulli import BernoulliSubscore
from dataunlearn.objectives._context import Context
from dataunlearn.objectives._counterfactual import Counterfactual
from dataunlearn.objectives._erasediff import EraseDiff
from dataunlearn.objectives._naive import NaiveDeletion
from dataunlearn.objectives._neggrad import NegGrad
from dataunlearn.objectives._retrack import ReTrack
from dataunlearn.objectives._siss import SISS
from dataunlearn.objectives._siss_no_is import SISSNoIS
from dataunlearn.objectives._surrogate_redirect import SurrogateRedirect
from dataunlearn.objectives._without_prompt import WithoutPrompt

OBJECTIVES: Mapping[str, type[Objective]] = {
    "Counterfactual": Counterfactual,
    "SISS": SISS,
    "SISSNoIS": SISSNoIS,
    "BernoulliSubscore": BernoulliSubscore,
    "NaiveDeletion": NaiveDeletion,
    "NegGrad": NegGrad,
    "EraseDiff": EraseDiff,
    "ReTrack": ReTrack,
    "SurrogateRedirect": SurrogateRedirect,
    "WithoutPrompt": WithoutPrompt,
}

__all__ = [
    "OBJECTIVES",
    "SISS",
    "BernoulliSubscore",
    "Context",
    "Counterfactual",
    "EraseDiff",
    "NaiveDeletion",
    "NegGrad",
    "Objective",
    "ReTrack",
    "SISSNoIS",
    "SurrogateRedirect",
    "WithoutPrompt",
]
