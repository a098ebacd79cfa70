"""How many scores a comparison needs, against repeated experiments."""

from __future__ import annotations

import math

import pytest
import torch

from dataunlearn.metrics.enough import BLOCK, enough_draws, enough_others, enough_scores


def auc(members, others):
    return float((members[:, None] < others).double().mean())


class TestOthers:
    def test_what_the_rest_would_narrow_is_what_experiments_say(self):
        """The spread of the AUC over repeated experiments, with 100 and with 500 others."""
        draw = torch.Generator().manual_seed(0)

        def spread(count, num_members, experiments):
            members = torch.randn(experiments, num_members, 1, generator=draw) - 0.3
            others = torch.randn(experiments, 1, count, generator=draw)
            return float((members < others).float().mean((1, 2)).std())

        others = torch.linspace(-2, 2, 100)
        # Of 8 members 500 others take 3 % off the spread of 100, of 100 members a quarter.
        few, many = (8, 10_000), (100, 1500)
        assert spread(500, *few) / spread(100, *few) == pytest.approx(0.97, abs=0.03)
        assert spread(500, *many) / spread(100, *many) == pytest.approx(0.77, abs=0.07)
        assert not enough_others(torch.linspace(-2.3, 1.7, 100), others, 500)
        assert enough_others(torch.linspace(-2.3, 1.7, 4), others, 500)

    def test_all_there_are_is_enough(self):
        assert enough_others(torch.zeros(1), torch.ones(3), 3)

    def test_a_single_member_leaves_all_uncertainty_to_the_others(self):
        others = torch.randn(100, generator=torch.Generator().manual_seed(1))
        assert not enough_others(torch.zeros(1), others, 500)
        assert enough_others(torch.zeros(1), others, 103)

    def test_sides_that_do_not_overlap_leave_nothing_to_narrow(self):
        assert enough_others(torch.zeros(5), torch.rand(100) + 1, 500)


class TestDraws:
    @pytest.mark.parametrize(("noise", "enough"), [(0.05, True), (0.5, False)])
    def test_the_noise_is_weighed_against_what_sets_images_apart(self, noise, enough):
        """Its share of the variance is noise^2 / 2 of two draws: 0.1 % and 12.5 %."""
        draw = torch.Generator().manual_seed(2)
        images = torch.randn(200, generator=draw)
        scores = images + noise * torch.randn(2, 200, generator=draw)
        assert enough_draws(scores) is enough

    def test_what_all_images_share_in_a_draw_is_no_noise(self):
        images = torch.randn(200, generator=torch.Generator().manual_seed(3))
        assert enough_draws(torch.stack([images, images + 100]))

    def test_one_draw_or_equal_images_tell_nothing(self):
        assert not enough_draws(torch.randn(1, 9))
        assert not enough_draws(torch.ones(2, 1))
        assert not enough_draws(torch.randn(2, 9) * torch.tensor([[1.0], [-1.0]]))


class TestScores:
    def scores(self, noise, num_members=4):
        """A score for each image that was drawn beforehand, and what was asked for."""
        draw, asked = torch.Generator().manual_seed(4), []
        own = {side: torch.randn(500, 1, generator=draw) for side in ("forget", "keep", "held_out")}
        own["forget"][:4, 0] = torch.tensor([-2.0, -1.0, 1.0, 2.0])
        blur = noise * torch.randn(6, 500, 1, generator=draw)

        def score(side, rows, draws):
            asked.append((side, rows, draws))
            part = slice(rows.start, rows.stop)
            return own[side][part] + blur[draws.start : draws.stop, part].mean(0)

        most = {"forget": num_members, "keep": 500, "held_out": 250}
        return score, most, own, blur, asked

    def test_few_images_need_few_others_and_few_draws(self):
        score, most, own, blur, asked = self.scores(0.01)
        found, draws = enough_scores(score, most, 4)
        assert draws == 2
        assert {side: len(values) for side, values in found.items()} == {
            "forget": 4,
            "keep": BLOCK,
            "held_out": BLOCK,
        }
        expected = own["keep"][:BLOCK] + blur[:2, :BLOCK].mean(0)
        torch.testing.assert_close(found["keep"], expected)
        assert sum(len(rows) * len(draws) for _, rows, draws in asked) == 2 * (4 + 2 * BLOCK)

    def test_many_images_need_all_others_and_much_noise_all_draws(self):
        score, most, own, blur, _ = self.scores(2.0, num_members=500)
        found, draws = enough_scores(score, most, 6)
        assert draws == 6
        assert {side: len(values) for side, values in found.items()} == most
        torch.testing.assert_close(found["keep"], own["keep"] + blur.mean(0))

    def test_a_score_without_noise_is_taken_once(self):
        score, most, *_, asked = self.scores(2.0)
        _, draws = enough_scores(score, most, 1)
        assert draws == 1
        assert all(drawn == range(1) for *_, drawn in asked)

    def test_the_interval_is_no_wider_than_with_all(self):
        """Of a dozen images, over experiments: the AUC's spread with the others that are enough."""
        draw, pairs = torch.Generator().manual_seed(5), []
        for _ in range(400):
            members, others = torch.randn(12, generator=draw), torch.randn(500, generator=draw)
            count = BLOCK
            while not enough_others(members, others[:count], 500):
                count += BLOCK
            pairs.append((auc(members, others[:count]), auc(members, others), count))
        few, whole, counts = torch.tensor(pairs).T
        assert float(few.std() / whole.std()) < 1.04
        assert float(counts.mean()) < 350
        assert math.isclose(float((few - whole).mean()), 0, abs_tol=0.01)
