"""Surrogate redirect and its rule: targets and weights by hand, the projection in vectors."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from dataunlearn.combine import Fixed, NormFix, ProjectedDescent
from dataunlearn.gramian import Gramian, gramian_of
from dataunlearn.objectives import Context, EraseDiff, SurrogateRedirect
from dataunlearn.recognition.witness import Pictures

TYPES = ["epsilon", "sample", "v_prediction", "flow_prediction"]
SHAPE = (1, 3, 3)
IMAGES = 3
EXACT = {"rtol": 0, "atol": 0}


def stream(seed=0):
    return torch.Generator().manual_seed(seed)


def forget_images():
    return torch.randn(IMAGES, *SHAPE, generator=stream(1))


def nearest():
    return torch.randn(IMAGES, *SHAPE, generator=stream(2))


def prepared(process, blend=1.0):
    def levels():
        raise AssertionError("surrogates need no levels")

    def neighbours(count):
        assert count == 1
        return nearest()[:, None]

    images = Pictures(forget_images())
    return SurrogateRedirect(blend).prepare(Context(process, images, (1, 999), levels, neighbours))


def pair_of(make_pair, count=8, **settings):
    pair = make_pair(count, SHAPE, **settings)
    index = torch.randint(IMAGES, (count,), generator=stream(3))
    return replace(pair, forget=forget_images()[index], forget_index=index)


@pytest.mark.parametrize("blend", [1.0, 0.25])
@pytest.mark.parametrize("name", TYPES)
def test_targets_lead_to_the_surrogate(name, blend, make_process, make_pair):
    """Row by row: the clean sample that a target at a_t stands for is (1 - blend) a + blend x."""
    process, pair = make_process(name), pair_of(make_pair, low=200)
    rows = prepared(process, blend)(process, pair, stream())
    noisy = process.add_noise(pair.forget, pair.noise, pair.t)
    torch.testing.assert_close(rows.inputs[8:], noisy, **EXACT)
    clean = process.clean_estimate(noisy, rows.forget.target[8:], pair.t)
    for row, image in enumerate(pair.forget_index.tolist()):
        expected = (1 - blend) * pair.forget[row] + blend * nearest()[image]
        torch.testing.assert_close(clean[row], expected, rtol=1e-3, atol=1e-3)


def test_noise_targets_by_hand(make_process, make_pair):
    """(a_t - gamma a')/sigma = noise + gamma (a - a')/sigma."""
    process, pair = make_process("epsilon"), pair_of(make_pair)
    rows = prepared(process)(process, pair, stream())
    away = pair.forget - nearest()[pair.forget_index]
    ratio = (process.gamma(pair.t) / process.sigma(pair.t)).float().reshape(-1, 1, 1, 1)
    expected = pair.noise + ratio * away
    torch.testing.assert_close(rows.forget.target[8:], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", TYPES)
def test_the_weighted_pull_is_bounded_at_every_timestep(name, make_process, make_pair):
    """weight * |target - own target|^2 = factor * |a - a'|^2. By hand: the two targets differ by
    gamma/sigma times (a - a') for the noise, 1 for samples, (gamma^2 + sigma^2)/sigma = 1/sigma for
    v and (gamma + sigma)/sigma = 1/sigma for flows; the weight sigma^2 leaves at most 1."""
    process = make_process(name)
    pair = pair_of(make_pair, count=1000)
    steps = torch.arange(process.first_timestep, process.last_timestep + 1)
    pair = replace(pair, t=steps)
    pair = replace(pair, keep=pair.keep.double(), forget=pair.forget.double())
    pair = replace(pair, noise=pair.noise.double())
    rows = prepared(process)(process, pair, stream())
    own = process.target(rows.inputs[1000:], pair.forget, steps)
    pull = (rows.forget.target[1000:] - own).square().flatten(1).sum(1)
    away = (pair.forget - nearest()[pair.forget_index]).square().flatten(1).sum(1)
    gamma, sigma = process.gamma(steps), process.sigma(steps)
    factor = {
        "epsilon": gamma.square(),
        "sample": sigma.square(),
        "v_prediction": torch.ones_like(gamma),
        "flow_prediction": torch.ones_like(gamma),
    }[name]
    weight = rows.forget.weight[1000:].double()
    torch.testing.assert_close(weight * pull, factor * away, rtol=1e-5, atol=1e-9)


def test_rows_are_two_a_pair(make_process, make_pair):
    process, pair = make_process(), pair_of(make_pair, classes=4)
    pair = replace(pair, forget_cond=pair.forget_cond + 4)
    rows = prepared(process)(process, pair, stream())
    assert len(rows) == 16 and rows.num_pairs == 8
    torch.testing.assert_close(rows.t, torch.cat([pair.t, pair.t]), **EXACT)
    torch.testing.assert_close(rows.cond, torch.cat([pair.keep_cond, pair.forget_cond]), **EXACT)
    zeros = torch.zeros(8)
    torch.testing.assert_close(rows.keep.weight, torch.cat([torch.ones(8), zeros]), **EXACT)
    torch.testing.assert_close(rows.forget.weight[:8], zeros, **EXACT)
    assert rows.forget.weight.dtype == torch.float32


def test_bad_use_is_told(make_process, make_pair):
    process, pair = make_process(), make_pair(3, SHAPE)
    with pytest.raises(ValueError, match="call prepare"):
        SurrogateRedirect()(process, pair, stream())
    with pytest.raises(ValueError, match="give the pair a forget_index"):
        prepared(process)(process, replace(pair, forget_index=None), stream())
    for blend in (0.0, 1.1, math.nan):
        with pytest.raises(ValueError, match="blend must lie"):
            SurrogateRedirect(blend)


def gradients(seed):
    """A keep and a forget gradient as one vector each, of any angle and relative length."""
    generator = stream(seed)
    keep = torch.randn(12, generator=generator, dtype=torch.float64)
    forget = torch.randn(12, generator=generator, dtype=torch.float64)
    return keep, (forget + (seed - 4) * keep) * 10.0 ** (seed % 3 - 1)


@pytest.mark.parametrize("factor", [0.1, 1.0, 7.0])
@pytest.mark.parametrize("seed", range(9))
def test_the_weights_are_those_of_the_projection_in_vectors(seed, factor):
    """g_keep + c P(g_forget), P g = g - (g.k/k.k) k where g.k < 0, computed on the vectors."""
    keep, forget = gradients(seed)
    unit = keep / keep.norm()
    projected = forget - min(float(forget @ unit), 0.0) * unit
    u_keep, u_forget = ProjectedDescent(factor)(gramian_of([keep], [forget]))
    update = u_keep * keep + u_forget * forget
    torch.testing.assert_close(update, keep + factor * projected, rtol=1e-9, atol=1e-9)
    along = float(update @ keep)
    assert along >= float(keep @ keep) * (1 - 1e-9)  # at least 0, and no less than without it
    assert float((update - keep) @ keep) >= -1e-9 * float(keep.norm() * projected.norm() + 1)


def test_the_cases_above_hold_both_kinds():
    opposed = [gramian_of(*([g] for g in gradients(seed))).kf < 0 for seed in range(9)]
    assert any(opposed) and not all(opposed)


@pytest.mark.parametrize(
    ("gramian", "expected"),
    [
        (Gramian(4.0, 1.0, 2.0), (1.0, 0.5)),
        (Gramian(4.0, 0.0, 2.0), (1.0, 0.5)),
        (Gramian(4.0, -1.0, 2.0), (1.125, 0.5)),
        (Gramian(4.0, 0.0, 0.0), (1.0, 0.0)),
        (Gramian(0.0, 0.0, 2.0), (1.0, 0.5)),
    ],
)
def test_projected_descent_by_hand(gramian, expected):
    assert ProjectedDescent(0.5)(gramian) == expected


@pytest.mark.parametrize("factor", [0.0, -1.0, math.nan, math.inf])
def test_a_factor_that_does_not_descend_is_an_error(factor):
    with pytest.raises(ValueError, match="above 0"):
        ProjectedDescent(factor)


def test_which_rules_and_methods_go_together():
    for rule in (ProjectedDescent(), Fixed(1, 1)):
        SurrogateRedirect().check_combination(rule)
    EraseDiff().check_combination(ProjectedDescent())
    with pytest.raises(ValueError, match="does not fit SurrogateRedirect"):
        SurrogateRedirect().check_combination(NormFix(ratio=0.1))
    assert SurrogateRedirect().default_combination == ProjectedDescent(1.0)
