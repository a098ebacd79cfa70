"""One backward pass for both sides, ceilings, and questions, against the slow loop."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from dataunlearn.combine import Fixed
from dataunlearn.objectives import Counterfactual
from dataunlearn.questions import Question
from dataunlearn.rows import Term, concatenate, stack_terms
from dataunlearn.training.config import Training
from dataunlearn.training.engine import GradientEngine, trainable
from dataunlearn.training.networks import row_losses
from dataunlearn.training.pairs import PairSampler
from dataunlearn.training.phase import Phase, StepPart
from dataunlearn.training.trainer import Trainer
from dataunlearn.views import plain_views, products
from slow_gradients import assert_same_gradients, sided_rows, slow_gradients
from toy_levels import prepared

SIDES = "kbfkbf-kkf"
EXACT = {"rtol": 0, "atol": 0}


def asking_rows(sides=SIDES, classes=0, seed=0):
    """Rows some of which ask on either side, through views or none, under another class or not."""
    generator = torch.Generator().manual_seed(seed)
    rows = sided_rows(sides, seed)
    turns = plain_views((1, 4, 4))
    views = [*turns.values(), *products(turns, turns).values()]
    count = len(rows)
    blend = torch.tensor([[-0.5, 1.5], [0.0, 1.0], [1.0, 0.3]]).repeat(count, 1)[:count]
    cond = torch.randint(classes, (count,), generator=generator) if classes else None

    def question(own):
        return Question(
            torch.rand(count, generator=generator) < 0.7,
            None if cond is None or own else (cond + 1) % classes,
            views,
            torch.randint(-1, len(views), (count,), generator=generator),
            None if own else blend,
        )

    keep, forget = replace(rows.keep, question=question(True)), rows.forget
    forget = replace(forget, question=question(False))
    return replace(rows, keep=keep, forget=forget, cond=cond)


def with_ceilings(rows, denoiser, frozen=None):
    """The rows with a ceiling just below the loss of every other row, just above the rest's.

    Losses come from the slow loop; what is dropped is known, so that no rounding decides it.
    """
    *_, losses = slow_gradients(denoiser, rows, frozen)
    terms, below = [], torch.arange(len(rows)) % 2 == 0
    for side, term in zip(losses, (rows.keep, rows.forget), strict=True):
        there = term.weight != 0
        raw = side * rows.num_pairs / term.weight.double().clamp(min=1e-9)
        mean = raw / rows.inputs[0].numel()
        ceiling = torch.where(below, 1.01 * mean, 0.99 * mean).float()
        ceiling[-1] = torch.inf
        terms.append(replace(term, ceiling=torch.where(there, ceiling, 0.0)))
    return replace(rows, keep=terms[0], forget=terms[1])


class TestQuestions:
    @pytest.mark.parametrize("size", [1, 3, 64])
    @pytest.mark.parametrize("classes", [0, 3])
    def test_answers_equal_the_slow_loop(self, classes, size, make_toy):
        denoiser, frozen = make_toy(classes=classes), make_toy(classes=classes, seed=1)
        rows = asking_rows(classes=classes)
        found = GradientEngine(size)(denoiser, rows, 0, frozen)
        assert found.counts.teacher_rows == sum(frozen.forward_batches) > 0
        keep, forget, losses = slow_gradients(denoiser, rows, frozen)
        assert_same_gradients(found, (keep, forget))
        torch.testing.assert_close(found.keep_losses.double(), losses[0], rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(found.forget_losses.double(), losses[1], rtol=1e-4, atol=1e-6)

    def test_questions_of_joined_parts_equal_the_slow_loop(self, make_toy):
        """Each part's views keep their numbers, its rows their own conditioning."""
        denoiser, frozen = make_toy(classes=3), make_toy(classes=3, seed=1)
        parts = [asking_rows("kbf", 3, 1), asking_rows("fbk-", 3, 2)]
        found = GradientEngine(2)(denoiser, concatenate([(rows, 1.0) for rows in parts]), 0, frozen)
        sides = [slow_gradients(denoiser, rows, frozen)[:2] for rows in parts]
        expected = [
            [a + b for a, b in zip(*side, strict=True)] for side in zip(*sides, strict=True)
        ]
        assert_same_gradients(found, expected)


class TestOnePass:
    @pytest.mark.parametrize("ceilings", [False, True])
    @pytest.mark.parametrize("size", [1, 3, 64])
    @pytest.mark.parametrize("factors", [(1.0, 1.0), (2.0, 0.5), (1.0, -0.25)])
    def test_it_is_the_weighted_sum_of_two(self, factors, size, ceilings, make_toy):
        """g = u_keep g_keep + u_forget g_forget, of the two passes and of the slow loop."""
        denoiser, frozen = make_toy(), make_toy(seed=1)
        rows = asking_rows()
        if ceilings:
            rows = with_ceilings(rows, denoiser, frozen)
        one = GradientEngine(size)(denoiser, rows, 0, frozen, factors)
        two = GradientEngine()(denoiser, rows, 0, frozen)
        assert one.in_one_pass and not two.in_one_pass
        assert len(one.flat_forget) == len(one.forget) == 0
        expected = factors[0] * two.flat_keep + factors[1] * two.flat_forget
        largest = float(expected.abs().max())
        torch.testing.assert_close(one.flat_keep, expected, rtol=0, atol=1e-5 * largest)
        torch.testing.assert_close(one.keep_losses, two.keep_losses, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(one.forget_losses, two.forget_losses, rtol=1e-5, atol=1e-6)
        keep, forget, _ = slow_gradients(denoiser, rows, frozen)
        for grad, k, f in zip(one.keep, keep, forget, strict=True):
            slow = factors[0] * k + factors[1] * f
            torch.testing.assert_close(grad.double(), slow, rtol=0, atol=1e-5 * largest)

    def test_each_row_is_run_once(self, make_toy):
        """Micro-batches of 4 mix kinds: 9 of the 10 rows have a side, so three passes each way."""
        denoiser = make_toy()
        counts = GradientEngine(4)(denoiser, sided_rows(SIDES), 0, None, (1.0, 2.0)).counts
        assert denoiser.forward_batches == [4, 4, 1]
        assert denoiser.backward_batches == [4, 4, 1]
        assert (counts.forward_rows, counts.backward_rows) == (9, 9)
        assert (counts.forward_passes, counts.backward_passes) == (3, 3)

    @pytest.mark.parametrize("sides", ["kkk", "fff", "---"])
    def test_a_side_may_be_absent(self, sides, make_toy):
        denoiser, rows = make_toy(), sided_rows(sides)
        one = GradientEngine()(denoiser, rows, 0, None, (2.0, 3.0))
        two = GradientEngine()(denoiser, rows)
        expected = 2 * two.flat_keep + 3 * two.flat_forget
        torch.testing.assert_close(one.flat_keep, expected, rtol=1e-5, atol=1e-7)

    @pytest.mark.parametrize("factors", [(1.0, 0.0), (0.0, -1.0), None])
    def test_a_factor_of_nought_leaves_the_sides_apart(self, factors, make_toy):
        """There is nothing to save, and both norms are told."""
        denoiser, rows = make_toy(), sided_rows("kbf")
        found = GradientEngine()(denoiser, rows, 0, None, factors)
        plain = GradientEngine()(denoiser, rows)
        assert not found.in_one_pass
        torch.testing.assert_close(found.flat_keep, plain.flat_keep, **EXACT)
        torch.testing.assert_close(found.flat_forget, plain.flat_forget, **EXACT)

    def test_the_sum_is_written_and_measured(self, make_toy):
        denoiser = make_toy()
        found = GradientEngine()(denoiser, sided_rows("kbf"), 0, None, (2.0, 0.5))
        params = trainable(denoiser)
        found.write(params, 2.0, 0.5)
        flat = torch.cat([param.grad.flatten() for param in params])
        torch.testing.assert_close(flat, found.flat_keep, **EXACT)
        gramian = found.gramian()
        assert (gramian.kf, gramian.ff, gramian.cosine) == (0.0, 0.0, None)
        assert gramian.norm_keep == pytest.approx(float(flat.double().norm()))

    def test_dropout_is_the_same_for_both_sides(self, make_toy):
        """With equal targets and weights, factors (1, -1) leave nothing."""
        rows = sided_rows("bbbb")
        rows = replace(rows, forget=rows.keep)
        found = GradientEngine()(make_toy(dropout=0.5), rows, 1, None, (1.0, -1.0))
        assert float(found.flat_keep.abs().max()) < 1e-6

    def test_only_rules_with_fixed_weights_have_factors(self):
        assert Fixed(1, 2).factors == (1, 2)
        assert Counterfactual.default_combination.factors is None  # it looks at both lengths


class TestCeilings:
    def test_rows_above_are_dropped_and_nothing_else(self, make_toy):
        """What is above its ceiling is as if its weight were 0; all else keeps every bit."""
        denoiser, rows = make_toy(), sided_rows("kbfkbfkbf")
        limited = with_ceilings(rows, denoiser)
        stays = (torch.arange(9) % 2 == 0) | (torch.arange(9) == 8)
        kept = [replace(t, weight=t.weight * stays) for t in (rows.keep, rows.forget)]
        expected = GradientEngine(1)(denoiser, replace(rows, keep=kept[0], forget=kept[1]))
        found = GradientEngine(1)(denoiser, limited)
        torch.testing.assert_close(found.flat_keep, expected.flat_keep, **EXACT)
        torch.testing.assert_close(found.flat_forget, expected.flat_forget, **EXACT)
        torch.testing.assert_close(found.keep_losses, expected.keep_losses, **EXACT)
        torch.testing.assert_close(found.forget_losses, expected.forget_losses, **EXACT)
        assert not torch.equal(found.flat_keep, GradientEngine(1)(denoiser, rows).flat_keep)

    def test_without_weight_a_ceiling_is_about_the_mean_square(self):
        """Squares of 4 over 8 coordinates: dropped from a ceiling of 4 on, whatever the weight."""
        prediction = torch.full((4, 2, 2, 2), 2.0)
        ceiling = torch.tensor([3.9, 4.0, 4.1, torch.inf])
        term = Term(torch.zeros(4, 2, 2, 2), torch.tensor([1.0, 1.0, 3.0, 100.0]), None, ceiling)
        assert row_losses(prediction, term).tolist() == [0.0, 0.0, 96.0, 3200.0]

    def test_joined_terms_keep_their_ceilings(self):
        """A term without any gets infinite ones."""
        low = Term(torch.zeros(2, 3), torch.ones(2), None, torch.tensor([1.0, 2.0]))
        none = Term(torch.zeros(3, 3), torch.ones(3))
        assert stack_terms(low, none).ceiling.tolist() == [1, 2, *[torch.inf] * 3]
        assert stack_terms(none, low).ceiling.tolist() == [*[torch.inf] * 3, 1, 2]
        assert stack_terms(low, low).ceiling.tolist() == [1, 2, 1, 2]
        assert stack_terms(none, none).ceiling is None

    def test_ceilings_pass_through_rows(self):
        rows = sided_rows("kbf")
        ceiling = torch.tensor([1.0, 2.0, 3.0])
        rows = replace(rows, forget=replace(rows.forget, ceiling=ceiling))
        joined = concatenate([(rows, 0.5), (sided_rows("kk", 1), 2.0)])
        assert joined.forget.ceiling.tolist() == [1, 2, 3, torch.inf, torch.inf]
        assert joined.keep.ceiling is None
        taken = rows.take(torch.tensor([2, 0])).to(torch.device("cpu")).scaled(3.0)
        assert taken.forget.ceiling.tolist() == [3, 1]

    def test_a_ceiling_needs_one_entry_a_row(self):
        rows = sided_rows("kbf")
        with pytest.raises(ValueError, match="ceiling"):
            replace(rows, keep=replace(rows.keep, ceiling=torch.ones(2)))


class Apart(Fixed):
    """The same weights, told only once the gradients are there."""

    @property
    def factors(self):
        return None


class TestTrainer:
    def trainer(self, combination, make_model, make_images, **options):
        model, forget = make_model(), make_images(3, 1)
        sampler = PairSampler(make_images(12), forget, model.process, batch_pairs=4)
        clean = forget.batch(torch.arange(3))
        objective = prepared(Counterfactual(), model.process, clean)
        part = StepPart(sampler, objective, keep_predictions=True)
        config = Training(steps=3, batch_pairs=4, learning_rate=1e-2, **options)
        return Trainer(model, [Phase([part], combination)], config, shown=False)

    @pytest.mark.parametrize("size", [64, 2])
    def test_one_pass_trains_as_two_do(self, size, make_model, make_images):
        """By gradient descent: AdamW would divide rounding by its own size."""
        found = []
        for combination in (Fixed(1.0, 0.5), Apart(1.0, 0.5)):
            trainer = self.trainer(combination, make_model, make_images, micro_batch_rows=size)
            trainer.optimizer = torch.optim.SGD(trainer.params, lr=1e-2)
            log = trainer.run()
            found.append((torch.cat([p.detach().flatten() for p in trainer.params]), log))
        (one, log_one), (two, log_two) = found
        start = self.trainer(Apart(1.0, 0.5), make_model, make_images).params
        moved = torch.cat([param.detach().flatten() for param in start]) - one
        largest = float(moved.abs().max())
        assert largest > 0
        torch.testing.assert_close(one, two, rtol=0, atol=1e-4 * largest)
        for single, double in zip(log_one, log_two, strict=True):
            for name in ("loss_keep", "loss_forget"):
                assert single[name] == pytest.approx(double[name], rel=1e-4)
            assert {single[name] for name in ("norm_keep", "norm_forget", "cosine")} == {None}
            assert double["norm"] is None
            kk, ff = double["norm_keep"], double["norm_forget"]
            squared = kk**2 + double["cosine"] * kk * ff + 0.25 * ff**2
            assert single["norm"] == pytest.approx(squared**0.5, rel=1e-4)
            assert (single["u_keep"], single["u_forget"]) == (1.0, 0.5)
            assert single["backward_rows"] == single["forward_rows"] == single["rows"] == 6
