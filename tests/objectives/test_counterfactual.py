"""Counterfactual: which rows it makes, and that its targets are those of a model without the image.

The last part has a mixture of normals, whose ideal denoiser is known in closed form.
"""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from dataunlearn.combine import Fixed
from dataunlearn.objectives import Counterfactual
from dataunlearn.recognition.levels import measure_levels
from dataunlearn.recognition.witness import Pictures, Witness
from dataunlearn.timesteps import Uniform
from dataunlearn.training.engine import GradientEngine
from dataunlearn.training.networks import Networks
from toy_levels import context_by_hand, levels_by_hand, prepared

EXACT = {"rtol": 0, "atol": 0}
KNOTS = (100, 150, 199)
RECOGNITION = [[0.8, 0.0, 0.4], [0.2, 0.6, 1.0]]


def stream(seed=0):
    return torch.Generator().manual_seed(seed)


def recognised(k, t):
    """The table between its knots, written out: a straight line from one knot to the next."""
    for low, high, left, right in zip(
        KNOTS, KNOTS[1:], RECOGNITION[k], RECOGNITION[k][1:], strict=False
    ):
        if low <= t <= high:
            return left + (right - left) * (t - low) / (high - low)
    return RECOGNITION[k][0] if t < KNOTS[0] else RECOGNITION[k][-1]


def for_two_images(process, bounds=(100, 199), other=None, **options):
    """Prepared for two 1x1 images that are recognised as above."""
    forget = Pictures(torch.randn(2, 1, 1, 1, generator=stream()), None, other)
    levels = levels_by_hand(RECOGNITION, (1, 1, 1), KNOTS, asks_other=other is not None)
    context = context_by_hand(process, forget, levels, bounds)
    return Counterfactual(**options).prepare(context)


class Slow(torch.nn.Module):
    """A frozen model that is not the same for a view as for the picture."""

    def forward(self, noisy, t, cond=None):
        place = torch.linspace(-1, 1, noisy[0].numel()).reshape(noisy.shape[1:])
        return 0.5 * noisy + torch.tanh(noisy * place)


def pairs_about(make_pair, image, count, **options):
    """Many 1x1 pairs about one image."""
    pair = make_pair(count, (1, 1, 1), **options)
    return replace(pair, forget_index=torch.full((count,), image))


class TestRows:
    @pytest.mark.parametrize(
        ("share", "pairs", "count"), [(0.5, 8, 4), (1.0, 8, 8), (0.25, 8, 2), (0.01, 8, 1)]
    )
    def test_keep_rows_first_then_a_share_of_forget_rows(
        self, share, pairs, count, make_process, make_pair
    ):
        process, pair = make_process("v_prediction"), make_pair(pairs)
        objective = prepared(Counterfactual(forget_share=share), process, pair.forget)
        rows = objective(process, pair, stream())
        assert len(rows) == pairs + count and rows.num_pairs == pairs
        assert rows.keep.weight.tolist() == [1.0] * pairs + [0.0] * count
        assert rows.forget.weight[:pairs].tolist() == [0.0] * pairs
        assert bool((rows.forget.weight[pairs:] > 0).all())
        assert rows.forget.question.asked.tolist() == [False] * pairs + [True] * count
        noisy = process.add_noise(pair.keep, pair.noise, pair.t)
        torch.testing.assert_close(rows.inputs[:pairs], noisy, **EXACT)
        target = process.target(noisy, pair.keep, pair.t)
        torch.testing.assert_close(rows.keep.target[:pairs], target, **EXACT)
        noisy = process.add_noise(pair.forget[:count], pair.noise[:count], rows.t[pairs:])
        torch.testing.assert_close(rows.inputs[pairs:], noisy, **EXACT)
        torch.testing.assert_close(rows.t[:pairs], pair.t, **EXACT)

    def test_each_row_has_its_own_images_views_and_weight(self, make_process, make_pair):
        """Image k has views number k and k + 1, each for half of its rows (binomial, five standard
        deviations), and the weight of its mean recognition times pairs over forget rows."""
        process, pair = make_process(), make_pair(4000, (1, 1, 1))
        index = torch.arange(4000) % 3 % 2  # of two images, the first one twice as often
        objective = for_two_images(process)
        rows = objective(process, replace(pair, forget_index=index), stream(1))
        view, weight, image = rows.forget.question.view[4000:], rows.forget.weight, index[:2000]
        for k in range(2):
            own = view[image == k]
            assert set(own.tolist()) == {k, k + 1}
            share = (own == k).double().mean().item()
            assert share == pytest.approx(0.5, abs=5 * 0.5 / math.sqrt(len(own)))
            mean = sum(recognised(k, t) for t in range(100, 200)) / 100
            expected = torch.full((len(own),), 2 * mean)
            torch.testing.assert_close(weight[4000:][image == k], expected)

    def test_another_conditioning_is_that_of_the_image(self, make_process, make_pair):
        process = make_process()
        pair = make_pair(6, (1, 1, 1), classes=4)
        index = torch.tensor([1, 0, 0, 1, 1, 0])
        objective = for_two_images(process, other=torch.tensor([70, 71]))
        rows = objective(process, replace(pair, forget_index=index), stream())
        assert rows.forget.question.cond[6:].tolist() == [71, 70, 70]
        assert rows.cond.tolist() == [*pair.keep_cond.tolist(), *pair.forget_cond[:3].tolist()]
        unasked = for_two_images(process)(process, replace(pair, forget_index=index), stream())
        assert unasked.forget.question.cond is None

    def test_without_overshoot_and_mixing_the_answers_are_the_targets(
        self, make_process, make_pair
    ):
        process, pair = make_process(), make_pair(8)
        plain = prepared(Counterfactual(overshoot=0), process, pair.forget)
        assert plain(process, pair, stream()).forget.question.blend is None

    @pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "flow_prediction"])
    @pytest.mark.parametrize(
        ("overshoot", "weight"), [(0.0, 1.0), (0.5, 0.0), (0.5, 1.0), (0.5, 0.5), (1.0, 0.5)]
    )
    def test_rows_aim_past_a_mixture_of_answers_and_keep_pictures(
        self, prediction, overshoot, weight, make_process, make_pair
    ):
        """Of two images, one without a weight, in a slow loop: m = (1 - w s) answer + w s what one
        keep picture alone says, s the share of noise; then kappa s farther than m from the truth.
        """
        process, pair = make_process(prediction), make_pair(12)
        pair = replace(pair, forget_index=torch.arange(12) % 2)
        forget, only = Pictures(pair.forget[:2]), torch.randn(1, *pair.keep.shape[1:])
        shape = tuple(pair.keep.shape[1:])
        levels = levels_by_hand([[0.9, 0.3], [0.8, 0.2]], shape, (100, 199))
        levels = replace(levels, keep_weight=torch.tensor([0.0, weight]), keep=only)
        objective = Counterfactual(forget_share=1.0, overshoot=overshoot)
        rows = objective.prepare(context_by_hand(process, forget, levels))(process, pair, stream())
        rows = rows.take(torch.arange(12, 24))
        found = Networks(torch.nn.Identity(), [], Slow()).answered(rows.forget, rows)
        for row in range(12):
            one = rows.take(torch.tensor([row]))
            question, t = one.forget.question, one.t
            said = question.turned_back(Slow()(question.seen(one.inputs), t, None))
            gamma, sigma = (f(t).item() for f in (process.gamma, process.sigma))
            share = sigma**2 / (gamma**2 + sigma**2)
            mixing = share * weight * (row % 2)
            other = process.target(one.inputs, only, t)
            mean = (1 - mixing) * said + mixing * other
            truth = process.target(one.inputs, pair.forget[row : row + 1], t)
            expected = mean + overshoot * share * (mean - truth)
            torch.testing.assert_close(found.target[row], expected[0], rtol=1e-4, atol=1e-5)

    def test_it_must_be_prepared_and_know_the_images(self, make_process, make_pair):
        process, pair = make_process(), make_pair(4, (1, 1, 1))
        with pytest.raises(ValueError, match="prepare"):
            Counterfactual()(process, pair, stream())
        with pytest.raises(ValueError, match="which forget image"):
            for_two_images(process)(process, replace(pair, forget_index=None), stream())

    @pytest.mark.parametrize(
        "wrong",
        [
            {"forget_share": 0},
            {"forget_share": 1.1},
            {"arrived_weight": -1},
            {"arrived_weight": 2},
            {"overshoot": -0.1},
            {"overshoot": 1.1},
        ],
    )
    def test_shares_out_of_range_are_errors(self, wrong):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            Counterfactual(**wrong)

    def test_what_it_works_best_with(self):
        objective = Counterfactual()
        assert objective.asks and objective.arrives and objective.keeps_predictions
        assert objective.default_timesteps == Uniform()
        objective.check_combination(Fixed(1, 1))
        with pytest.raises(ValueError, match="does not fit"):
            objective.check_combination(Fixed(1, -1))

    def test_preparing_again_gives_the_same_rows(self, make_process, make_pair):
        process, pair = make_process(), make_pair(5)
        first, again = (
            prepared(Counterfactual(), process, pair.forget)(process, pair, stream(3))
            for _ in range(2)
        )
        torch.testing.assert_close(first.inputs, again.inputs, **EXACT)
        assert torch.equal(first.forget.question.view, again.forget.question.view)


class TestTimesteps:
    @pytest.mark.parametrize("image", [0, 1])
    def test_they_follow_the_recognition(self, image, make_process, make_pair):
        """Chi-square over the 100 timesteps: the sum of (n - e)^2 / e has mean d and variance 2 d
        for d + 1 cells, so it lies below d + 5 sqrt(2 d). None where nothing is recognised."""
        process, count = make_process(), 40_000
        pair = pairs_about(make_pair, image, count)
        rows = for_two_images(process, forget_share=1.0)(process, pair, stream(2))
        steps = range(100, 200)
        shares = torch.tensor([recognised(image, t) for t in steps], dtype=torch.float64)
        expected = count * shares / shares.sum()
        found = torch.bincount(rows.t[count:] - 100, minlength=100).double()
        assert len(found) == 100
        assert bool((found[expected == 0] == 0).all())
        there = expected > 0
        chi_square = float(((found - expected)[there].square() / expected[there]).sum())
        freedom = int(there.sum()) - 1
        assert chi_square < freedom + 5 * math.sqrt(2 * freedom)

    @pytest.mark.parametrize("image", [0, 1])
    def test_the_weight_makes_up_for_the_draw(self, image, make_process, make_pair):
        """E[weight g(t)] over the drawn t is the mean of recognition(t) g(t) over uniform t.

        t is drawn with probability r(t) / sum r and weighs sum r / 100, whatever g is. The sample
        mean of w g lies within five of its own standard errors.
        """
        process, count = make_process(), 20_000
        pair = pairs_about(make_pair, image, count)
        rows = for_two_images(process, forget_share=1.0)(process, pair, stream(3))
        for g in (lambda t: t / 100, lambda t: torch.cos(t / 9), lambda t: (t > 170).double()):
            sample = rows.forget.weight[count:].double() * g(rows.t[count:].double())
            steps = torch.arange(100, 200, dtype=torch.float64)
            known = torch.tensor([recognised(image, int(t)) for t in steps], dtype=torch.float64)
            expected = float((known * g(steps)).mean())
            error = float(sample.std()) / math.sqrt(count)
            assert float(sample.mean()) == pytest.approx(expected, abs=5 * error + 1e-6)

    def test_beyond_what_was_measured_recognition_stays(self, make_process, make_pair):
        """Bounds 0 to 99 lie below the first knot, where image 1 is recognised by 0.2."""
        process = make_process()
        objective = for_two_images(process, (0, 99), forget_share=1.0)
        rows = objective(process, pairs_about(make_pair, 1, 5000), stream())
        t = rows.t[5000:].double()
        assert (t.min(), t.max()) == (0, 99)
        assert float(t.mean()) == pytest.approx(49.5, abs=5 * math.sqrt(9999 / 12 / 5000))
        torch.testing.assert_close(rows.forget.weight[5000:], torch.full((5000,), 0.2))

    def test_one_timestep_alone(self, make_process, make_pair):
        process = make_process()
        objective = for_two_images(process, (175, 175), forget_share=1.0)
        rows = objective(process, pairs_about(make_pair, 0, 9), stream())
        assert rows.t[9:].tolist() == [175] * 9
        torch.testing.assert_close(
            rows.forget.weight[9:], torch.full((9,), recognised(0, 175), dtype=torch.float32)
        )

    def test_a_draw_of_nought_goes_to_the_first_timestep_that_counts(self, make_process):
        """Image 0 is not recognised at 150, the first timestep here, so nothing may be drawn there;
        torch draws an exact 0 once in 2^24."""
        tables = for_two_images(make_process(), (150, 199)).tables
        timesteps, _ = tables.draw(torch.tensor([0, 0]), torch.tensor([0.0, 1 - 2**-24]))
        assert timesteps.tolist() == [151, 199]

    def test_what_is_recognised_nowhere_has_no_weight(self, make_process, make_pair):
        process = make_process()
        levels = levels_by_hand([[0.0, 0.0]], (1, 1, 1), (100, 199))
        context = context_by_hand(process, Pictures(torch.zeros(1, 1, 1, 1)), levels, (100, 199))
        rows = Counterfactual().prepare(context)(process, pairs_about(make_pair, 0, 4000), stream())
        assert bool((rows.forget.weight == 0).all())
        assert (rows.t[4000:].min(), rows.t[4000:].max()) == (100, 199)


class TestEasing:
    def test_only_arrived_images_count_less(self, make_process, make_pair):
        process, pair = make_process(), make_pair(40, (1, 1, 1))
        pair = replace(pair, forget_index=torch.arange(40) % 2)
        objective = for_two_images(process, arrived_weight=0.125)
        before = objective(process, pair, stream())
        after = objective.easing([False, True])(process, pair, stream())
        factor = torch.tensor([1.0, 0.125]).repeat(10)
        expected = before.forget.weight[40:] * factor
        torch.testing.assert_close(after.forget.weight[40:], expected)
        torch.testing.assert_close(after.keep.weight, before.keep.weight, **EXACT)
        torch.testing.assert_close(after.t, before.t, **EXACT)
        torch.testing.assert_close(after.inputs, before.inputs, **EXACT)

    def test_easing_is_not_piled_up(self, make_process, make_pair):
        """What counts is who has arrived now."""
        process, pair = make_process(), make_pair(6, (1, 1, 1))
        pair = replace(pair, forget_index=torch.arange(6) % 2)
        objective = for_two_images(process)
        eased = objective.easing([True, True]).easing([True, False])
        torch.testing.assert_close(
            eased(process, pair, stream()).forget.weight,
            objective.easing([True, False])(process, pair, stream()).forget.weight,
            **EXACT,
        )
        back = eased.easing([False, False])(process, pair, stream())
        plain = objective(process, pair, stream())
        torch.testing.assert_close(back.forget.weight, plain.forget.weight, **EXACT)


SHAPE = (1, 4, 4)
BROAD, NARROW, SHARE = 0.9, 0.05, 0.05
PLANTED = torch.randn(SHAPE, generator=torch.Generator().manual_seed(11), dtype=torch.float64)


def base_means():
    """Eight means, the turns and flips of one: a mixture that every turn and flip keeps."""
    mean = 0.4 * torch.randn(SHAPE, generator=stream(12), dtype=torch.float64)
    turned = [mean.rot90(k, (1, 2)) for k in range(4)]
    return torch.stack(turned + [each.mT for each in turned])


class Mixture(torch.nn.Module):
    """The ideal denoiser of eight broad normals and a narrow one, the planted picture.

    For a component N(mu, s^2) noise makes N(gamma mu, v) with v = gamma^2 s^2 + sigma^2, and the
    clean picture behind m is, on average, mu + gamma s^2 / v (m - gamma mu). The mean over
    components, by their share in m, gives the ideal prediction (m - gamma x) / sigma. The log of
    the planted picture's weight against the base is a parameter.
    """

    def __init__(self, process, log_odds):
        super().__init__()
        self.process = process
        self.log_odds = torch.nn.Parameter(torch.tensor(log_odds, dtype=torch.float64))
        self.means = torch.cat([base_means(), PLANTED[None]])
        self.spread = torch.tensor([BROAD] * 8 + [NARROW], dtype=torch.float64)

    def parts(self, noisy, t):
        """Each component's log weight (B, 9) and clean picture (B, 9, 1, 4, 4)."""
        gamma, sigma = (f(t).reshape(-1, 1) for f in (self.process.gamma, self.process.sigma))
        variance = gamma.square() * self.spread.square() + sigma.square()  # (B, 9)
        away = noisy.double()[:, None] - gamma.reshape(-1, 1, 1, 1, 1) * self.means
        log = -away.square().flatten(2).sum(2) / (2 * variance) - 8 * variance.log()
        log = log + torch.cat([torch.full((8,), -math.log(8)), self.log_odds.reshape(1)])
        pull = (gamma * self.spread.square() / variance).reshape(*variance.shape, 1, 1, 1)
        return log, self.means + pull * away

    def forward(self, noisy, t, cond=None):
        log, clean = self.parts(noisy, t)
        mean = (log.softmax(1)[..., None, None, None] * clean).sum(1)
        gamma, sigma = (f(t).reshape(-1, 1, 1, 1) for f in (self.process.gamma, self.process.sigma))
        return ((noisy.double() - gamma * mean) / sigma).to(noisy.dtype)


def mixture(process, planted=True):
    return Mixture(process, math.log(SHARE / (1 - SHARE)) if planted else -math.inf)


def of_mixture(process):
    """Counterfactual, prepared by looking at the mixture; pairs of its base and the picture.

    With targets at the answers themselves: there is no keep side here that pulls back.
    """
    model = mixture(process).requires_grad_(False)
    which = torch.randint(8, (64,), generator=stream(13))
    keep = base_means()[which] + BROAD * torch.randn(64, *SHAPE, generator=stream(14))
    forget = Pictures(PLANTED[None])
    witness = Witness(model, process, num_draws=4)
    levels = measure_levels(witness, forget, Pictures(keep), (50, 100, 150, 200), latent=False)
    context = context_by_hand(process, forget, levels, (50, 200))
    return Counterfactual(forget_share=1.0, overshoot=0.0).prepare(context), levels, keep


def planted_pairs(make_pair, keep, count=32, seed=0):
    pair = make_pair(count, SHAPE, low=50, high=201, seed=seed)
    return replace(
        pair,
        keep=keep[torch.arange(count) % len(keep)],
        forget=PLANTED.expand(count, *SHAPE).clone(),
        noise=pair.noise.double(),
        forget_index=torch.zeros(count, dtype=torch.int64),
    )


class TestMixture:
    def test_the_toy_recognises_its_picture(self, make_process):
        """A monochrome picture without symmetry: all turns are unfamiliar and cost nothing, and
        with them the level is the loss of the mixture without the picture."""
        process = make_process()
        _, levels, _ = of_mixture(process)
        assert levels.unfamiliar.tolist() == [True] and len(levels.chosen[0]) == 4
        assert bool((levels.recognition > 0.5).all())
        twin = Witness(mixture(process, planted=False).requires_grad_(False), process, num_draws=4)
        expected = twin.mean_losses(Pictures(PLANTED[None]), levels.timesteps)
        torch.testing.assert_close(levels.level, expected, rtol=1e-3, atol=0)

    def test_targets_are_those_of_the_mixture_without_the_picture(self, make_process, make_pair):
        """The base is the same turned, so T^-1 f(T m) is the ideal prediction of the base with the
        picture turned back, T^-1 a, planted in place of a. A posterior mean is linear in shares:

            T^-1 f(T m) - f_base(m) = rho (f_a(T m) turned back - f_base(m)),

        rho the turned picture's share in m. So the error is known exactly; rho falls with
        exp(-gamma^2 |a - T^-1 a|^2 / (2 v)) and is tiny, while f(m) itself is far from the base.
        """
        process = make_process()
        objective, levels, keep = of_mixture(process)
        rows = objective(process, planted_pairs(make_pair, keep), stream(5))
        full, base = (mixture(process, planted=planted) for planted in (True, False))
        count = 32
        asked = torch.arange(count, 2 * count)
        forget = rows.take(asked)
        answers = Networks(full, [], full).answered(forget.forget, forget).target.double()
        without = base(forget.inputs, forget.t).detach()
        seen = forget.forget.question.seen(forget.inputs)
        log, _ = full.parts(seen, forget.t)
        rho = log.softmax(1)[:, 8].detach()  # (B,)
        gamma, sigma = (f(forget.t) for f in (process.gamma, process.sigma))
        variance = gamma.square() * NARROW**2 + sigma.square()
        views = list(levels.views.values())
        turned_back = torch.stack(
            [views[v].inverse(PLANTED[None])[0] for v in forget.forget.question.view.tolist()]
        )
        # Both predictions are (m - gamma x) / sigma, so they differ by gamma / sigma times the
        # difference of what they take the clean picture for.
        pull = gamma * NARROW**2 / variance
        scale = (gamma / sigma).reshape(-1, 1, 1, 1)
        of_picture = turned_back + pull.reshape(-1, 1, 1, 1) * (
            forget.inputs - gamma.reshape(-1, 1, 1, 1) * turned_back
        )
        of_base = (forget.inputs - sigma.reshape(-1, 1, 1, 1) * without) / gamma.reshape(
            -1, 1, 1, 1
        )
        expected = without - rho.reshape(-1, 1, 1, 1) * scale * (of_picture - of_base)
        torch.testing.assert_close(answers, expected, rtol=1e-5, atol=1e-5)  # answers are float32
        bound = rho * (scale * (of_picture - of_base)).flatten(1).norm(dim=1)
        error = (answers - without).flatten(1).norm(dim=1)
        assert bool((error <= bound + 1e-5).all())
        own = (full(forget.inputs, forget.t).detach() - without).flatten(1).norm(dim=1)
        assert float(rho.median()) < 1e-8
        assert float(error.mean()) < 0.01 * float(own.mean())

    def test_descending_the_rows_takes_the_picture_out(self, make_process, make_pair):
        """The model may change the picture's weight alone, and its rows drive it to nothing: at the
        end it predicts what the mixture without the picture does."""
        process = make_process()
        objective, _, keep = of_mixture(process)
        model, frozen, base = mixture(process), mixture(process), mixture(process, planted=False)
        optimizer, engine = torch.optim.Adam(model.parameters(), lr=0.5), GradientEngine(64)
        for step in range(60):
            pair = planted_pairs(make_pair, keep, 16, step)
            rows = objective(process, pair, stream(step))
            gradients = engine(model, rows, step, frozen, (1.0, 1.0))
            gradients.write(list(model.parameters()), 1.0, 1.0)
            optimizer.step()
        rows = objective(process, planted_pairs(make_pair, keep, 32, 99), stream(99))
        rows = rows.take(torch.arange(32, 64))
        with torch.no_grad():
            away, before = (
                (net(rows.inputs, rows.t) - base(rows.inputs, rows.t)).square().mean()
                for net in (model, frozen)
            )
        assert float(model.log_odds.detach()) < math.log(SHARE) - 10
        assert float(away) < 0.01 * float(before)
