"""Lengths of gradients that are estimated between two measurements."""

from __future__ import annotations

import json
import math

import pytest
import torch

from dataunlearn.combine import BalancedDescent, BoundedDescent, NormFix, ProjectedDescent
from dataunlearn.gramian import Gramian
from dataunlearn.objectives import SISS, Counterfactual
from dataunlearn.rows import Rows, Term
from dataunlearn.training import lagged
from dataunlearn.training.config import Training
from dataunlearn.training.lagged import EXACT_AT_FIRST, JUMP, LaggedNorms, weights_of
from dataunlearn.training.pairs import PairSampler
from dataunlearn.training.phase import Phase, StepPart
from dataunlearn.training.trainer import Trainer
from dataunlearn.training.two_gradients import PassCounts, TwoGradients
from toy_levels import prepared

RULE = NormFix(ratio=0.5)
SCALES = {"keep": 3.0, "forget": 0.2}


def rows_of(keep, forget, num_pairs=4):
    """Rows of these weights."""
    terms = [Term(torch.zeros(len(side), 1), torch.tensor(side)) for side in (keep, forget)]
    return Rows(torch.zeros(len(keep), 1), torch.zeros(len(keep)), *terms, num_pairs=num_pairs)


def random_rows(seed, count=6):
    generator = torch.Generator().manual_seed(seed)
    weights = torch.rand(2, count, generator=generator).exp().tolist()
    return rows_of(*weights)


def step_of(rows, errors, *, apart=True, scales=SCALES):
    """What the engine gives of row gradients that all stand on each other, and their Gramian."""
    losses, squares = [], []
    for side, term in (("keep", rows.keep), ("forget", rows.forget)):
        weight = term.weight.double() / rows.num_pairs
        losses.append((weight * errors[side]).float())
        squares.append(scales[side] ** 2 * errors[side] * float(weight.square().sum()))
    flat = torch.zeros(1), torch.zeros(1 if apart else 0)
    gradients = TwoGradients(*flat, [], [], *losses, PassCounts())
    return gradients, Gramian(squares[0], 0.0, squares[1]) if apart else Gramian(1.0, 0.0, 0.0)


def trained(memory, count, *, rule=RULE, scales=SCALES, seed=0):
    """Show it so many steps, taken apart or not as it asks with a measurement in every tenth."""
    asked = []
    for number in range(count):
        rows = random_rows(seed + number)
        factors = memory.factors(rule, rows, 10)
        errors = {"keep": 2.0, "forget": 7.0}
        memory.saw(rule, rows, *step_of(rows, errors, apart=factors is None, scales=scales))
        asked.append(factors)
    return asked


class TestEstimate:
    @pytest.mark.parametrize("seed", range(5))
    def test_is_the_length_where_the_scale_is_constant(self, seed):
        """Whatever the weights of the rows, heavy ones among them."""
        memory = LaggedNorms()
        trained(memory, EXACT_AT_FIRST)
        generator = torch.Generator().manual_seed(seed)
        heavy = (torch.rand(2, 5, generator=generator) * 8).exp().tolist()
        rows = rows_of(*heavy, num_pairs=3)
        _, found = step_of(rows, {"keep": 2.0, "forget": 7.0})
        expected = memory.expected(rows)
        assert expected.kk == pytest.approx(found.kk, rel=1e-5)
        assert expected.ff == pytest.approx(found.ff, rel=1e-5)
        for rule in (RULE, NormFix(norm=2), BalancedDescent(0.3)):
            assert rule(expected) == pytest.approx(rule(found), rel=1e-5)

    def test_follows_the_error_between_measurements(self):
        """Losses are known of every step: a length grows with the root of the error."""
        memory = LaggedNorms()
        trained(memory, EXACT_AT_FIRST)
        rows = random_rows(99)
        before = memory.expected(rows)
        for _ in range(60):  # 0.8^60 of the old one is left
            later = {"keep": 2.0, "forget": 3.5}
            memory.saw(RULE, rows, *step_of(rows, later, apart=False))
        after = memory.expected(rows)
        assert after.ff == pytest.approx(before.ff / 2, rel=1e-3)
        assert after.kk == pytest.approx(before.kk, rel=1e-3)

    def test_a_side_without_weight_has_no_length(self):
        memory = LaggedNorms()
        trained(memory, EXACT_AT_FIRST)
        rows = rows_of([1.0, 2.0], [0.0, 0.0])
        assert memory.expected(rows).ff == 0
        assert memory.factors(RULE, rows, 10) == (1.0, 0.0)
        assert memory.errors.keys() == memory.scales.keys() == {"keep", "forget"}

    def test_weights_are_those_over_pairs(self):
        found = weights_of(rows_of([3.0, 4.0], [0.0, 1.0], num_pairs=2))
        assert found == {"keep": (3.5, 2.5), "forget": (0.5, 0.5)}


class TestWhen:
    def test_the_first_steps_and_every_tenth_are_measured(self):
        memory = LaggedNorms()
        asked = trained(memory, EXACT_AT_FIRST + 20)
        measured = [number for number, factors in enumerate(asked) if factors is None]
        assert measured == [*range(EXACT_AT_FIRST), EXACT_AT_FIRST + 9, EXACT_AT_FIRST + 19]
        assert memory.measured == len(measured)
        assert memory.drift == pytest.approx(0, abs=1e-6)

    @pytest.mark.parametrize("side", ["keep", "forget"])
    @pytest.mark.parametrize("direction", [-1, 1])
    def test_a_jump_of_a_loss_is_followed_by_a_measurement(self, side, direction):
        memory = LaggedNorms()
        trained(memory, EXACT_AT_FIRST)
        rows = random_rows(50)
        errors = {"keep": 2.0, "forget": 7.0}
        memory.saw(RULE, rows, *step_of(rows, errors, apart=False))
        assert memory.factors(RULE, rows, 10) is not None
        errors[side] *= math.exp(1.01 * direction * JUMP)
        memory.saw(RULE, rows, *step_of(rows, errors, apart=False))
        assert memory.factors(RULE, rows, 10) is None

    def test_a_scale_that_runs_away_is_measured_until_it_is_known_again(self):
        memory = LaggedNorms()
        trained(memory, EXACT_AT_FIRST)
        asked = trained(memory, 40, scales={"keep": 3.0, "forget": 20.0})
        first = asked.index(None)
        assert first == 9  # when it was due anyhow
        after = asked[first + 1 :]
        assert after[0] is None
        assert after[-1] is not None
        rows = random_rows(7)
        _, found = step_of(rows, {"keep": 2.0, "forget": 7.0}, scales={"keep": 3.0, "forget": 20.0})
        assert memory.factors(RULE, rows, 99)[1] == pytest.approx(RULE(found)[1], rel=0.01)

    def test_a_rule_that_looks_at_angles_is_never_estimated(self):
        for rule in (BoundedDescent(), ProjectedDescent()):
            memory = LaggedNorms()
            assert trained(memory, 30, rule=rule) == [None] * 30
            assert memory.measured == 0

    def test_one_step_from_measurement_to_measurement_is_exact_mode(self):
        memory = LaggedNorms()
        trained(memory, EXACT_AT_FIRST)
        assert memory.factors(RULE, random_rows(0), 1) is None


def test_its_state_goes_through_json():
    memory = LaggedNorms()
    trained(memory, EXACT_AT_FIRST + 3)
    again = LaggedNorms.of(json.loads(json.dumps(memory.state)))
    assert again.state == memory.state
    assert trained(again, 30) == trained(memory, 30)


class TestTrainer:
    @pytest.fixture(autouse=True)
    def early(self, monkeypatch):
        monkeypatch.setattr(lagged, "EXACT_AT_FIRST", 2)
        monkeypatch.setattr(lagged, "JUMP", math.inf)

    def run(self, make_model, make_images, objective, rule, every_steps, steps=7):
        model, forget = make_model(), make_images(3, 1)
        sampler = PairSampler(make_images(12), forget, model.process, batch_pairs=4)
        objective = prepared(objective, model.process, forget.batch(torch.arange(3)))
        config = Training(steps=steps, batch_pairs=4, learning_rate=1e-4)
        phase = Phase([StepPart(sampler, objective)], rule, every_steps)
        trainer = Trainer(model, [phase], config, shown=False)
        return trainer.run()

    @pytest.mark.parametrize("objective", [SISS(), Counterfactual()], ids=str)
    def test_steps_in_between_run_each_row_once(self, objective, make_model, make_images):
        log = self.run(make_model, make_images, objective, objective.default_combination, 3)
        exact = self.run(make_model, make_images, objective, objective.default_combination, 1)
        measured = [record["norm"] is None for record in log]
        assert measured == [True, True, False, False, True, False, False]
        for record, other in zip(log, exact, strict=True):
            assert other["norm"] is None
            if record["norm"] is not None:
                assert record["backward_rows"] == record["forward_rows"]
                assert record["backward_passes"] == 1
                assert math.copysign(1, record["u_forget"]) == math.copysign(1, other["u_forget"])
        # Up to the first estimate both are the same run.
        for name in ("loss_keep", "loss_forget", "u_forget"):
            assert [each[name] for each in log[:2]] == [each[name] for each in exact[:2]]

    def test_the_model_moves_along_the_sum_with_the_estimated_factor(self, make_model, make_images):
        """Before the third step both runs are at the same weights."""
        rule = NormFix(ratio=0.5)
        one = self.run(make_model, make_images, SISS(), rule, 3, steps=3)[2]
        exact = self.run(make_model, make_images, SISS(), rule, 1, steps=3)[2]
        kk, ff, factor = exact["norm_keep"] ** 2, exact["norm_forget"] ** 2, one["u_forget"]
        kf = exact["cosine"] * exact["norm_keep"] * exact["norm_forget"]
        assert one["u_keep"] == 1.0
        assert one["norm"] ** 2 == pytest.approx(kk + 2 * factor * kf + factor**2 * ff, rel=1e-4)
