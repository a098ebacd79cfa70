"""Questions to the frozen model: views lose nothing, and answers take the targets' place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import nn

from dataunlearn.objectives._base import plain, two_pass
from dataunlearn.process import ForwardProcess
from dataunlearn.questions import Question, View, join_questions
from dataunlearn.rows import Pair, Rows, Term, concatenate
from dataunlearn.training.engine import GradientEngine

SHAPE = (2, 3, 3)
SIZE = 18


def random_view(seed: int) -> View:
    generator = torch.Generator().manual_seed(seed)
    sign = torch.where(torch.rand(SIZE, generator=generator) < 0.5, -1.0, 1.0)
    return View(torch.randperm(SIZE, generator=generator), sign)


def turn() -> View:
    """A quarter turn of both channels, in the order of ``torch.rot90``."""
    order = torch.rot90(torch.arange(SIZE).reshape(SHAPE), dims=(1, 2)).flatten()
    return View(order, torch.ones(SIZE))


class TestViews:
    def test_a_turn_is_that_of_torch(self) -> None:
        samples = torch.randn(4, *SHAPE)
        assert torch.equal(turn()(samples), torch.rot90(samples, dims=(2, 3)))

    @pytest.mark.parametrize("seed", range(3))
    def test_the_inverse_gives_every_bit_back(self, seed: int) -> None:
        view, samples = random_view(seed), torch.randn(5, *SHAPE)
        assert not torch.equal(view(samples), samples)
        assert torch.equal(view.inverse(view(samples)), samples)
        assert torch.equal(view(view.inverse(samples)), samples)

    def test_a_product_is_one_after_the_other(self) -> None:
        first, second, samples = random_view(0), random_view(1), torch.randn(5, *SHAPE)
        assert torch.equal(second.after(first)(samples), second(first(samples)))

    def test_white_noise_stays_white(self) -> None:
        """A signed permutation is orthogonal, so T Tᵀ = 1: the covariance of noise is unchanged."""
        view = random_view(2)
        matrix = view(torch.eye(SIZE).reshape(SIZE, *SHAPE)).reshape(SIZE, SIZE)
        assert torch.equal(matrix @ matrix.T, torch.eye(SIZE))

    @pytest.mark.parametrize(
        ("order", "sign"),
        [
            (torch.tensor([0, 0, 1]), torch.ones(3)),
            (torch.arange(3), torch.tensor([1.0, 0.5, 1])),
            (torch.arange(3), torch.ones(2)),
        ],
        ids=["repeats", "shrinks", "short"],
    )
    def test_what_loses_something_is_refused(self, order: torch.Tensor, sign: torch.Tensor) -> None:
        with pytest.raises(ValueError, match="a view's"):
            View(order, sign)


class Frozen(nn.Module):
    """Answers t + 10 cond + 0.5 x, so that a test knows what it was asked; counts its rows."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0

    def forward(
        self, noisy: torch.Tensor, t: torch.Tensor, cond: torch.Tensor | None
    ) -> torch.Tensor:
        self.asked += len(noisy)
        number = t.float() + (0 if cond is None else 10 * cond.float())
        return 0.5 * noisy + number.reshape(-1, 1, 1, 1)


def rows(count: int = 6, classes: int = 0) -> Rows:
    generator = torch.Generator().manual_seed(count)
    inputs, target = (torch.randn(count, *SHAPE, generator=generator) for _ in range(2))
    cond = torch.arange(count) % classes if classes else None
    term = Term(target, torch.ones(count))
    return Rows(inputs, torch.arange(count), term, Term(target, torch.zeros(count)), cond)


def keep_losses(given: Rows, denoiser: nn.Module, frozen: nn.Module | None) -> torch.Tensor:
    return GradientEngine(micro_batch_rows=4)(denoiser, given, 0, frozen).keep_losses


def expected_losses(given: Rows, denoiser: nn.Module, targets: torch.Tensor) -> torch.Tensor:
    """Weight times squared distance over pairs, row by row."""
    predicted = denoiser(given.inputs, given.t, given.cond).detach()
    away = (predicted - targets).square().flatten(1).sum(dim=1)
    return given.keep.weight * away / given.num_pairs


class TestAnswers:
    def test_only_rows_that_ask_get_another_target(
        self, make_toy: Callable[..., nn.Module]
    ) -> None:
        given, denoiser, frozen = rows(), make_toy(channels=2), Frozen()
        asked = torch.tensor([True, False, True, False, False, True])
        asking = replace(given, keep=replace(given.keep, question=Question(asked)))
        targets = torch.where(
            asked.reshape(-1, 1, 1, 1), frozen(given.inputs, given.t, None), given.keep.target
        )
        frozen.asked = 0
        found = keep_losses(asking, denoiser, frozen)
        torch.testing.assert_close(found, expected_losses(given, denoiser, targets))
        assert frozen.asked == 3

    def test_a_view_is_turned_back(self, make_toy: Callable[..., nn.Module]) -> None:
        """The answer to a turned input is 0.5 T x + t; turned back that is 0.5 x + t."""
        given, denoiser = rows(), make_toy(channels=2)
        view = torch.tensor([0, 1, -1, 0, 1, -1])
        every = torch.ones(6, dtype=torch.bool)
        signs = torch.ones(SIZE)
        views = [turn(), View(torch.arange(SIZE - 1, -1, -1), signs)]
        question = Question(every, views=views, view=view)
        asking = replace(given, keep=replace(given.keep, question=question))
        targets = 0.5 * given.inputs + given.t.float().reshape(-1, 1, 1, 1)
        found = keep_losses(asking, denoiser, Frozen())
        torch.testing.assert_close(found, expected_losses(given, denoiser, targets))

    def test_rows_can_aim_past_the_answers(self, make_toy: Callable[..., nn.Module]) -> None:
        """Or anywhere else on the line from their own targets, at no row more to ask about."""
        given, denoiser, frozen = rows(), make_toy(channels=2), Frozen()
        asked = torch.tensor([True, True, True, True, False, False])
        past = torch.tensor([0.0, 0.25, 1.0, -0.5, 0.5, 0.0])
        question = Question(asked, blend=torch.stack([-past, 1 + past], 1))
        asking = replace(given, keep=replace(given.keep, question=question))
        answer = 0.5 * given.inputs + given.t.reshape(-1, 1, 1, 1)
        aims = answer + past.reshape(-1, 1, 1, 1) * (answer - given.keep.target)
        targets = torch.where(asked.reshape(-1, 1, 1, 1), aims, given.keep.target)
        found = keep_losses(asking, denoiser, frozen)
        torch.testing.assert_close(found, expected_losses(given, denoiser, targets))
        assert frozen.asked == 4

    def test_a_negative_view_turns_the_answer_too(self) -> None:
        negative = View(torch.arange(SIZE), -torch.ones(SIZE))
        question = Question(
            torch.ones(2, dtype=torch.bool),
            views=[negative],
            view=torch.zeros(2, dtype=torch.int64),
        )
        predictions = torch.randn(2, *SHAPE)
        assert torch.equal(question.turned_back(predictions), -predictions)

    def test_another_conditioning_can_be_asked_for(
        self, make_toy: Callable[..., nn.Module]
    ) -> None:
        given, denoiser = rows(classes=3), make_toy(channels=2, classes=3)
        other = (given.cond + 1) % 3  # type: ignore[operator]
        question = Question(torch.ones(6, dtype=torch.bool), cond=other)
        asking = replace(given, keep=replace(given.keep, question=question))
        targets = Frozen()(given.inputs, given.t, other)
        found = keep_losses(asking, denoiser, Frozen())
        torch.testing.assert_close(found, expected_losses(given, denoiser, targets))

    def test_the_forget_side_can_ask_as_well(self, make_toy: Callable[..., nn.Module]) -> None:
        given, denoiser, frozen = rows(), make_toy(channels=2), Frozen()
        asking = replace(given, forget=given.keep.asking())
        found = GradientEngine()(denoiser, asking, 0, frozen)
        targets = frozen(given.inputs, given.t, None)
        torch.testing.assert_close(found.forget_losses, expected_losses(given, denoiser, targets))
        torch.testing.assert_close(
            found.keep_losses, expected_losses(given, denoiser, given.keep.target)
        )

    def test_nobody_to_ask_is_an_error(self, make_toy: Callable[..., nn.Module]) -> None:
        given = rows()
        with pytest.raises(ValueError, match="there is none: set `asks = True`"):
            keep_losses(replace(given, keep=given.keep.asking()), make_toy(channels=2), None)


class TestJoining:
    def test_parts_join_whether_or_not_they_ask(self, make_toy: Callable[..., nn.Module]) -> None:
        """Joined rows lose what the parts lose one by one, each over its own pairs."""
        denoiser = make_toy(channels=2)
        plain, asking = rows(4), replace(rows(6), keep=rows(6).keep.asking())
        joined = concatenate([(plain, 1.0), (asking, 0.5)])
        apart = [
            keep_losses(plain, denoiser, None),
            0.5 * keep_losses(asking, denoiser, Frozen()),
        ]
        found = keep_losses(joined, denoiser, Frozen())
        torch.testing.assert_close(found, torch.cat(apart))

    def test_views_and_conditionings_keep_their_rows(self) -> None:
        first = Question(
            torch.ones(2, dtype=torch.bool), views=[turn()], view=torch.tensor([0, -1])
        )
        second = Question(
            torch.ones(3, dtype=torch.bool),
            cond=torch.tensor([5, 6, 7]),
            views=[random_view(0), random_view(1)],
            view=torch.tensor([1, -1, 0]),
        )
        own = [torch.tensor([1, 2]), torch.tensor([3, 4, 4])]
        joined = join_questions(first, second, (2, 3), own)
        assert joined is not None
        assert joined.view is not None
        assert joined.view.tolist() == [0, -1, 2, -1, 1]
        assert joined.cond is not None
        assert torch.as_tensor(joined.cond).tolist() == [1, 2, 5, 6, 7]
        samples = torch.randn(5, *SHAPE)
        expected = torch.cat([first.seen(samples[:2]), second.seen(samples[2:])])
        assert torch.equal(joined.seen(samples), expected)

    def test_nothing_and_nothing_is_nothing(self) -> None:
        assert join_questions(None, None, (2, 3), []) is None

    def test_rows_that_are_taken_keep_their_questions(self) -> None:
        view = torch.tensor([0, -1, 0, -1])
        question = Question(torch.arange(4) < 3, views=[turn()], view=view)
        given = rows(4)
        asking = replace(given, keep=replace(given.keep, question=question))
        taken = asking.take(torch.tensor([2, 3])).keep.question
        assert taken is not None and taken.view is not None
        assert (taken.asked.tolist(), taken.view.tolist()) == ([True, False], [0, -1])

    @pytest.mark.parametrize("view", [torch.tensor([0, 2]), torch.tensor([0])])
    def test_a_view_that_is_not_there_is_an_error(self, view: torch.Tensor) -> None:
        with pytest.raises(ValueError, match="needs one of the 1 views"):
            Question(torch.ones(2, dtype=torch.bool), views=[turn()], view=view)

    def test_a_question_is_as_long_as_its_rows(self) -> None:
        given = rows(4)
        with pytest.raises(ValueError, match="one entry for each row"):
            replace(given, keep=replace(given.keep, question=Question(torch.ones(3).bool())))

    def test_two_passes_join_a_question_with_its_conditioning(
        self, make_pair: Callable[..., Pair], make_process: Callable[..., ForwardProcess]
    ) -> None:
        """The side that asks under another conditioning is one of two: the other asks nothing."""
        pair, process = make_pair(3, SHAPE, classes=4), make_process()
        inputs, own = plain(process, pair.forget, pair)
        question = Question(torch.ones(3, dtype=torch.bool), cond=torch.tensor([7, 8, 9]))
        asking = (inputs, replace(own, question=question))
        both = two_pass(pair, plain(process, pair.keep, pair), asking)
        found = both.forget.question
        assert found is not None and found.cond is not None
        assert found.asked.tolist() == [False] * 3 + [True] * 3
        assert torch.as_tensor(found.cond).tolist()[3:] == [7, 8, 9]
        assert both.keep.question is None

    def test_a_conditioning_where_rows_have_none_is_an_error(self) -> None:
        asking = Question(torch.ones(2, dtype=torch.bool), cond=torch.tensor([1, 2]))
        with pytest.raises(ValueError, match="rows have none"):
            join_questions(asking, None, (2, 3), [])

    def test_there_is_a_conditioning_for_each_row(self) -> None:
        with pytest.raises(ValueError, match="2 rows ask under 3 conditionings"):
            Question(torch.ones(2, dtype=torch.bool), cond=torch.tensor([1, 2, 3]))


def test_b_is_divided_once(make_pair: Callable[..., Pair]) -> None:
    given = rows(6)
    once = given.over_pairs()
    assert once.num_pairs == 1
    torch.testing.assert_close(once.keep.weight, given.keep.weight / 6)
    assert once.over_pairs() is once
    torch.testing.assert_close(given.over_pairs(0.5).keep.weight, given.keep.weight / 12)


@pytest.mark.parametrize("factors", [None, (1.0, 1.0)])
def test_rows_without_weight_ask_nothing(
    factors: tuple[float, float] | None, make_toy: Callable[..., nn.Module]
) -> None:
    """A side that keeps to the frozen model's predictions asks about its own rows alone, also where
    micro-batches hold rows of the other side."""
    generator = torch.Generator().manual_seed(0)
    inputs, target = (torch.randn(6, *SHAPE, generator=generator) for _ in range(2))
    weight = torch.tensor([1.0, 0, 1, 0, 0, 1])
    keep, forget = Term(target, weight).asking(), Term(target, 1 - weight)
    given = Rows(inputs, torch.arange(6), keep, forget)
    frozen, denoiser = Frozen(), make_toy(channels=2)
    found = GradientEngine()(denoiser, given, 0, frozen, factors)
    assert frozen.asked == 3
    expected = expected_losses(given, denoiser, Frozen()(inputs, given.t, None))
    torch.testing.assert_close(found.keep_losses, expected)
