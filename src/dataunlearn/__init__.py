"""Remove chosen training images from a diffusion model, and show that they are gone.

Importing this package costs next to nothing: each name is imported when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dataunlearn.api import audit, unlearn
    from dataunlearn.combine import (
        BalancedDescent,
        BoundedDescent,
        Combination,
        Fixed,
        NormFix,
        ProjectedDescent,
        Superfactor,
    )
    from dataunlearn.objectives import (
        SISS,
        BernoulliSubscore,
        Counterfactual,
        EraseDiff,
        NaiveDeletion,
        NegGrad,
        Objective,
        ReTrack,
        SISSNoIS,
        SurrogateRedirect,
        WithoutPrompt,
    )
    from dataunlearn.process import ForwardProcess
    from dataunlearn.rows import Pair, Rows, Term
    from dataunlearn.timesteps import Above, Last, TimestepPolicy, Uniform, Window
    from dataunlearn.unlearning.config import Evaluation

__version__ = "0.1.0"

__all__ = [
    "SISS",
    "Above",
    "BalancedDescent",
    "BernoulliSubscore",
    "BoundedDescent",
    "Combination",
    "Counterfactual",
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
    "ProjectedDescent",
    "ReTrack",
    "Rows",
    "SISSNoIS",
    "Superfactor",
    "SurrogateRedirect",
    "Term",
    "TimestepPolicy",
    "Uniform",
    "Window",
    "WithoutPrompt",
    "audit",
    "unlearn",
]

_MODULES = {
    "SISS": "dataunlearn.objectives",
    "Above": "dataunlearn.timesteps",
    "BernoulliSubscore": "dataunlearn.objectives",
    "BalancedDescent": "dataunlearn.combine",
    "BoundedDescent": "dataunlearn.combine",
    "Combination": "dataunlearn.combine",
    "Counterfactual": "dataunlearn.objectives",
    "EraseDiff": "dataunlearn.objectives",
    "Evaluation": "dataunlearn.unlearning.config",
    "Fixed": "dataunlearn.combine",
    "ForwardProcess": "dataunlearn.process",
    "Last": "dataunlearn.timesteps",
    "NaiveDeletion": "dataunlearn.objectives",
    "NegGrad": "dataunlearn.objectives",
    "NormFix": "dataunlearn.combine",
    "Objective": "dataunlearn.objectives",
    "Pair": "dataunlearn.rows",
    "ProjectedDescent": "dataunlearn.combine",
    "ReTrack": "dataunlearn.objectives",
    "Rows": "dataunlearn.rows",
    "SISSNoIS": "dataunlearn.objectives",
    "Superfactor": "dataunlearn.combine",
    "SurrogateRedirect": "dataunlearn.objectives",
    "Term": "dataunlearn.rows",
    "TimestepPolicy": "dataunlearn.timesteps",
    "Uniform": "dataunlearn.timesteps",
    "Window": "dataunlearn.timesteps",
    "WithoutPrompt": "dataunlearn.objectives",
    "audit": "dataunlearn.api",
    "unlearn": "dataunlearn.api",
}

# Modules and rooms that ``import dataunlearn`` alone makes available, imported at first use.
_ROOMS = (
    "api",
    "assets",
    "attacks",
    "base_models",
    "bench",
    "combine",
    "conditioning",
    "data",
    "metrics",
    "models",
    "objectives",
    "prediction",
    "process",
    "prompts",
    "questions",
    "recipes",
    "recognition",
    "report",
    "rows",
    "runtime",
    "timesteps",
    "training",
    "unlearning",
    "views",
)

if not TYPE_CHECKING:  # a type checker takes a module with `__getattr__` to have every name

    def __getattr__(name: str) -> Any:
        """Import a public name or a module when it is first used."""
        if name in _ROOMS:
            return import_module(f"{__name__}.{name}")
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(_MODULES[name]), name)
        return value


def __dir__() -> list[str]:
    """The public names, imported or not, and whatever else there is."""
    return sorted({*globals(), *__all__, *_ROOMS})
