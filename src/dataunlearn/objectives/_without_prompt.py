"""Without the prompt: at the prompt's pictures the model learns to say what it says without it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch

from dataunlearn.combine import Combination, Direction, Fixed
from dataunlearn.conditioning import Cond
from dataunlearn.objectives._base import Objective, plain, two_pass
from dataunlearn.objectives._context import Context
from dataunlearn.process import ForwardProcess
from dataunlearn.questions import Question
from dataunlearn.rows import Pair, Rows, Term


@dataclass(frozen=True)
class WithoutPrompt(Objective):
    """Descend towards what the frozen model predicts for the same noisy picture without its prompt.

    For models that know a picture by its prompt: with the prompt they draw it, without they do not.
    Both sides are descended, so the loss is bounded. It is :class:`Counterfactual` with another
    conditioning in place of a view, for noise levels where there is no picture yet to turn. Concept
    erasure does the like with a prompt's words, whose target is the prediction for a more general
    prompt (Kumari et al. 2023, arXiv 2303.13516).
    """

    default_combination: ClassVar[Combination] = Fixed(keep=1.0, forget=1.0)
    keep_direction: ClassVar[Direction] = Direction.DESCENDED
    forget_direction: ClassVar[Direction] = Direction.DESCENDED
    asks: ClassVar[bool] = True

    def prepare(self, context: Context) -> Objective:
        """The objective with what stands for "no prompt" in this model.

        Raises:
            ValueError: If the model takes no prompts.
        """
        if context.forget.other is None:
            raise ValueError("WithoutPrompt is for models that take prompts: try Counterfactual")
        return _PreparedWithoutPrompt(context.forget.other[torch.zeros(1, dtype=torch.int64)])

    def __call__(self, process: ForwardProcess, pair: Pair, generator: torch.Generator) -> Rows:
        """Nothing: what stands for "no prompt" is not known yet.

        Raises:
            ValueError: Always.
        """
        raise ValueError("WithoutPrompt must be prepared before it makes rows: call prepare")


@dataclass(frozen=True, eq=False)
class _PreparedWithoutPrompt(WithoutPrompt):
    """:class:`WithoutPrompt` for one model.

    Args:
        nothing: What stands for "no prompt", ``(1, ...)``.
    """

    nothing: Cond | None = field(default=None, repr=False)

    def __call__(self, process: ForwardProcess, pair: Pair, generator: torch.Generator) -> Rows:
        """2B rows: keep rows first, then forget rows, which ask."""
        assert self.nothing is not None
        inputs, own = plain(process, pair.forget, pair)
        everyone = torch.ones(len(pair), dtype=torch.bool)
        question = Question(everyone, self.nothing[torch.zeros(len(pair), dtype=torch.int64)])
        forget = Term(own.target, own.weight, question)
        return two_pass(pair, plain(process, pair.keep, pair), (inputs, forget))
