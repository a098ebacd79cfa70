"""What every unlearning objective is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from dataunlearn.combine import Combination, Direction
from dataunlearn.conditioning import Cond, join_conds, same_conds
from dataunlearn.objectives._checks import Conditioning
from dataunlearn.objectives._context import Context
from dataunlearn.objectives._typed import TypedFields
from dataunlearn.process import ForwardProcess
from dataunlearn.rows import Pair, Rows, Term, stack_terms
from dataunlearn.timesteps import Above, TimestepPolicy


class Objective(TypedFields, ABC):
    """Turns clean pairs into rows to regress on; never sees the model.

    Implementations are frozen dataclasses whose fields are the method's hyper-parameters.

    Attributes:
        default_combination: The rule that the method is published with, or works best with.
        keep_direction: Which way the update follows the keep gradient.
        forget_direction: Which way it follows the forget gradient.
        mixes_sides: Whether rows are meant to carry both sides, by importance weights.
        asks: Whether rows carry questions to the frozen model; see :class:`Question`.
        keeps_predictions: Whether the keep side is best held to what the model predicted before.
        default_timesteps: The noise levels that the method works best on.
        rate_factor: Times the default learning rate for the model's size.
    """

    default_combination: ClassVar[Combination]
    keep_direction: ClassVar[Direction]
    forget_direction: ClassVar[Direction]
    mixes_sides: ClassVar[bool] = False
    asks: ClassVar[bool] = False
    keeps_predictions: ClassVar[bool] = False
    default_timesteps: ClassVar[TimestepPolicy] = Above()
    rate_factor: ClassVar[float] = 1.0

    def prepare(self, context: Context) -> Objective:
        """The objective for a run, called once before training; as it is where it needs nothing.

        It must depend on the context alone: a resumed run prepares anew and must get the same.
        """
        del context
        return self

    @property
    def arrives(self) -> bool:
        """Whether the method has an aim: forgetting ends once the images are at their levels."""
        return False

    def easing(self, arrived: Sequence[bool]) -> Objective:
        """The objective once some of the K forget images have arrived where they should end."""
        del arrived
        return self

    @abstractmethod
    def __call__(self, process: ForwardProcess, pair: Pair, generator: torch.Generator) -> Rows:
        """Build the rows of one step.

        Args:
            process: The model's forward process.
            pair: B clean pairs with their timesteps and noise.
            generator: Source of the method's own randomness, on the pair's device.

        Returns:
            Rows in pair order.
        """

    def check_combination(self, combination: Combination) -> None:
        """Refuse a rule that makes no sense for this objective.

        Raises:
            ValueError: If the rule needs a side that the objective does not have, or moves along a
                side's gradient the wrong way.
        """
        wanted = (self.keep_direction, self.forget_direction)
        for side, direction, allowed in zip(
            ("keep", "forget"),
            wanted,
            (combination.keep_directions, combination.forget_directions),
            strict=True,
        ):
            if direction not in allowed:
                raise ValueError(
                    f"{combination} does not fit {self}: the objective's {side} gradient is to be "
                    f"{direction.value}, the rule allows {', '.join(d.value for d in allowed)}; "
                    f"leave the combination out to get {self.default_combination}"
                )


def absent(inputs: Tensor) -> Term:
    """A term with weight zero everywhere, for rows that have no such side."""
    return Term(torch.zeros_like(inputs), inputs.new_zeros(len(inputs), dtype=torch.float32))


def plain(process: ForwardProcess, clean: Tensor, pair: Pair) -> tuple[Tensor, Term]:
    """Ordinary denoising rows of ``clean``: noisy inputs, and their own target at weight 1."""
    inputs = process.add_noise(clean, pair.noise, pair.t)  # (B, *shape)
    target = process.target(inputs, clean, pair.t)
    return inputs, Term(target, inputs.new_ones(len(inputs), dtype=torch.float32))


def two_pass(
    pair: Pair,
    keep: tuple[Tensor, Term],
    forget: tuple[Tensor, Term],
    forget_t: Tensor | None = None,
) -> Rows:
    """First every keep row, then every forget row: 2B, or fewer with ``forget_t`` of their own.

    Forget row i is about pair i and has its timestep, or ``forget_t[i]``.
    """
    (keep_inputs, keep_term), (forget_inputs, forget_term) = keep, forget
    count = len(forget_inputs)
    conds: list[Cond] = []
    if pair.keep_cond is not None and pair.forget_cond is not None:
        conds = [pair.keep_cond, pair.forget_cond[torch.arange(count)]]
    return Rows(
        torch.cat([keep_inputs, forget_inputs]),
        torch.cat([pair.t, pair.t[:count] if forget_t is None else forget_t]),
        stack_terms(keep_term, absent(forget_inputs), conds),
        stack_terms(absent(keep_inputs), forget_term, conds),
        join_conds(conds) if conds else None,
        num_pairs=len(pair),
    )


def image_numbers(pair: Pair) -> Tensor:
    """Which of the different forget images each pair is about, ``(B,)`` int64.

    Raises:
        ValueError: If the pair does not say.
    """
    if pair.forget_index is None:
        raise ValueError(
            "this objective needs to know which forget image each row is about: give the pair "
            "a forget_index"
        )
    return pair.forget_index


def choose_rows(from_forget: Tensor, keep: Tensor, forget: Tensor) -> Tensor:
    """Row by row ``forget`` where ``from_forget (B,)`` is true, else ``keep``."""
    mask = from_forget.reshape(-1, *[1] * (keep.ndim - 1))
    return torch.where(mask, forget, keep)


def one_conditioning(pair: Pair, choice: Conditioning) -> Cond | None:
    """The single conditioning of each pair that a one-pass objective needs.

    Raises:
        ValueError: If the two sides differ and ``choice`` is "equal".
    """
    if pair.keep_cond is None or pair.forget_cond is None:
        return None
    if choice == "keep":
        return pair.keep_cond
    if choice == "forget":
        return pair.forget_cond
    if not same_conds(pair.keep_cond, pair.forget_cond):
        raise ValueError(
            "this objective runs one forward pass per pair, so both sides need one conditioning, "
            "but the keep and forget samples carry different ones; choose with "
            "conditioning='forget' or conditioning='keep', use keep samples of the forget "
            "samples' class or prompt, or take SISSNoIS, which runs both sides separately"
        )
    return pair.keep_cond
