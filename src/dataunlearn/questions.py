"""What the frozen model can be asked about rows: through which view, under which conditioning.

A *view* is a lossless map of a sample's coordinates that leaves white noise white, a signed
permutation; see :class:`View`. A model that recognises a picture may not recognise its view, while
the noise that it is asked for stays the same noise, turned.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from dataunlearn.conditioning import Cond, join_conds
from dataunlearn.process import expand_to


@dataclass(frozen=True, eq=False)
class View:
    """A signed permutation of a sample's D coordinates.

    Attributes:
        order: Coordinate ``order[i]`` of a sample becomes coordinate i of its view, ``(D,)`` int64.
        sign: What it is multiplied by, 1 or -1, ``(D,)`` float32.
    """

    order: Tensor
    sign: Tensor

    def __post_init__(self) -> None:
        """Check that nothing is lost.

        Raises:
            ValueError: If ``order`` is no permutation, or ``sign`` holds another number.
        """
        size = len(self.order)
        if not torch.equal(self.order.sort().values.cpu(), torch.arange(size)):
            raise ValueError(f"a view's order must hold 0 to {size - 1} once each")
        if self.sign.shape != (size,) or not bool((self.sign.abs() == 1).all()):
            raise ValueError(f"a view's sign must hold {size} times 1 or -1")

    def __call__(self, samples: Tensor) -> Tensor:
        """Samples ``(B, *shape)`` as this view shows them."""
        flat = samples.flatten(1)[:, self.order.to(samples.device)]
        return (flat * self.sign.to(flat)).reshape(samples.shape)

    @cached_property
    def inverse(self) -> View:
        """The view that undoes this one, exactly."""
        back = torch.empty_like(self.order)
        back[self.order] = torch.arange(len(back), device=back.device)
        return View(back, self.sign[back])

    def after(self, first: View) -> View:
        """This view of what ``first`` shows."""
        return View(first.order[self.order], first.sign[self.order] * self.sign)


@dataclass(frozen=True, eq=False)
class Question:
    """What the frozen model is asked about R rows, in place of the targets that they have.

    Its answer to a row is the prediction for the row's input, seen through a view and turned back.

    Attributes:
        asked: Which rows ask, ``(R,)`` bool on the CPU; the others keep their targets.
        cond: Conditioning to ask under, ``(R, ...)``; None for the rows' own.
        views: The views that rows choose from.
        view: Which one each row is seen through, ``(R,)`` int64 on the CPU, -1 for none; None where
            no row has any.
        blend: How much of its own target and of the answer each row aims at, ``(R, 2)`` float32 on
            the CPU; None for the answers themselves.
    """

    asked: Tensor
    cond: Cond | None = None
    views: Sequence[View] = ()
    view: Tensor | None = None
    blend: Tensor | None = None

    def __post_init__(self) -> None:
        """Check that the parts fit each other.

        Raises:
            ValueError: If a row asks through a view that is not there, or there are more or fewer
                conditionings than rows.
        """
        if self.cond is not None and len(self.cond) != len(self.asked):
            raise ValueError(f"{len(self.asked)} rows ask under {len(self.cond)} conditionings")
        if self.blend is not None and self.blend.shape != (len(self.asked), 2):
            raise ValueError(
                f"{len(self.asked)} rows need a share of their own targets and one of the answers "
                f"each, not a blend of shape {tuple(self.blend.shape)}"
            )
        if self.view is None or not len(self.view):
            return
        if self.view.shape != self.asked.shape or int(self.view.max()) >= len(self.views):
            raise ValueError(
                f"each of {len(self.asked)} rows needs one of the {len(self.views)} views, or -1"
            )

    def __len__(self) -> int:
        return len(self.asked)

    def take(self, indices: Tensor) -> Question:
        """The question of the rows at ``indices``."""
        return Question(
            self.asked[indices],
            None if self.cond is None else self.cond[indices],
            self.views,
            None if self.view is None else self.view[indices],
            None if self.blend is None else self.blend[indices],
        )

    def to(self, device: torch.device) -> Question:
        """The same question, its conditioning on another device.

        Who asks what stays on the CPU, so that the device need not be waited for.
        """
        return self if self.cond is None else replace(self, cond=self.cond.to(device))

    def seen(self, samples: Tensor) -> Tensor:
        """Each row's sample ``(R, *shape)`` through its view."""
        return self._through(samples, self.views)

    def turned_back(self, predictions: Tensor) -> Tensor:
        """Predictions ``(R, *shape)`` for what was seen, as predictions for the rows' inputs."""
        return self._through(predictions, [view.inverse for view in self.views])

    def aims(self, answers: Tensor, targets: Tensor) -> Tensor:
        """Where rows ``(R, *shape)`` that had these targets are to go, given the answers."""
        if self.blend is None:
            return answers
        own, answered = (expand_to(part, answers) for part in self.blend.to(answers).unbind(1))
        return own * targets.to(answers) + answered * answers

    def _through(self, samples: Tensor, views: Sequence[View]) -> Tensor:
        if self.view is None:
            return samples
        shown = samples.clone()
        for number in set(self.view.tolist()) - {-1}:
            rows = (self.view == number).nonzero().flatten().to(samples.device)
            shown[rows] = views[number](samples[rows])
        return shown


def join_questions(
    first: Question | None, second: Question | None, sizes: tuple[int, int], conds: Sequence[Cond]
) -> Question | None:
    """The question of two parts' rows, one part after the other.

    Args:
        first: What the first part asks; None for nothing.
        second: What the second part asks.
        sizes: Their numbers of rows.
        conds: The parts' own conditionings, empty without any: asked under where one part's
            question names another conditioning and the other's does not.

    Raises:
        ValueError: If a question names a conditioning where rows have none.
    """
    if first is None and second is None:
        return None
    nothing = [Question(torch.zeros(size, dtype=torch.bool)) for size in sizes]
    parts = [first or nothing[0], second or nothing[1]]
    cond = None
    if any(part.cond is not None for part in parts):
        if len(conds) != len(parts):
            raise ValueError(
                "a question names a conditioning, and the rows have none: leave it out"
            )
        cond = join_conds(
            [
                own if part.cond is None else part.cond
                for part, own in zip(parts, conds, strict=True)
            ]
        )
    return Question(
        torch.cat([part.asked for part in parts]),
        cond,
        [view for part in parts for view in part.views],
        _joined_view(parts),
        _joined_blend(parts),
    )


def _joined_view(parts: Sequence[Question]) -> Tensor | None:
    """Which view each row of two parts has among the views of both."""
    if all(part.view is None for part in parts):
        return None
    found, earlier = [], 0
    for part in parts:
        view = part.view
        if view is None:
            view = torch.full_like(part.asked, -1, dtype=torch.int64)
        found.append(torch.where(view < 0, view, view + earlier))
        earlier += len(part.views)
    return torch.cat(found)


def _joined_blend(parts: Sequence[Question]) -> Tensor | None:
    """What each row of two parts aims at; a part without a blend at its answers."""
    if all(part.blend is None for part in parts):
        return None
    answers = torch.tensor([[0.0, 1.0]])
    return torch.cat([answers.expand(len(p), 2) if p.blend is None else p.blend for p in parts])
