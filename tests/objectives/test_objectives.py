"""Objectives: which rows they build, with which sides, weights and targets."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from dataunlearn.objectives import (
    OBJECTIVES,
    SISS,
    BernoulliSubscore,
    EraseDiff,
    NaiveDeletion,
    NegGrad,
    SISSNoIS,
)
from toy_levels import prepared

TYPES = ["epsilon", "sample", "v_prediction", "flow_prediction"]
EXACT = {"rtol": 0, "atol": 0}


def stream(seed=0):
    return torch.Generator().manual_seed(seed)


def own_target(process, clean, pair):
    """The target of ordinary training, written in noise and clean sample, and its tolerance."""
    gamma = process.gamma(pair.t).float().reshape(-1, 1, 1, 1)
    sigma = process.sigma(pair.t).float().reshape(-1, 1, 1, 1)
    return {
        "epsilon": pair.noise,
        "sample": clean,
        "v_prediction": gamma * pair.noise - sigma * clean,
        "flow_prediction": pair.noise - clean,
    }[process.prediction.name]


def is_from(rows, process, clean, pair):
    """Which rows' inputs are the given clean samples, noised."""
    noisy = process.add_noise(clean, pair.noise, pair.t)
    return (rows.inputs == noisy).flatten(1).all(dim=1)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_rows_have_the_promised_shapes(name, make_process, make_pair):
    """R = 2B where each pair has a row a side, else B; num_pairs is B; both terms always present.

    Counterfactual has a forget row for every other pair: 5/2, rounded to even.
    """
    pair, process = make_pair(5, (2, 3, 3), classes=4), make_process("epsilon")
    rows = prepared(OBJECTIVES[name](), process, pair.forget)(process, pair, stream())
    two_rows = ("SISSNoIS", "EraseDiff", "ReTrack", "SurrogateRedirect", "WithoutPrompt")
    expected = {**dict.fromkeys(two_rows, 10), "Counterfactual": 7}.get(name, 5)
    assert len(rows) == expected and rows.num_pairs == 5
    assert rows.inputs.shape == (expected, 2, 3, 3)
    assert rows.t.shape == rows.cond.shape == (expected,)
    for term in (rows.keep, rows.forget):
        assert term.target.shape == rows.inputs.shape
        assert term.weight.shape == (expected,) and term.weight.dtype == torch.float32
        assert term.weight.min() >= 0


@pytest.mark.parametrize("name", OBJECTIVES)
def test_rows_depend_on_the_generator_alone(name, make_process, make_pair):
    process, pair, state = make_process("epsilon"), make_pair(classes=4), torch.get_rng_state()
    objective = prepared(OBJECTIVES[name](), process, pair.forget)
    first, again = (objective(process, pair, stream(7)) for _ in range(2))
    torch.testing.assert_close(first.inputs, again.inputs, **EXACT)
    torch.testing.assert_close(first.keep.weight, again.keep.weight, **EXACT)
    torch.testing.assert_close(first.forget.target, again.forget.target, **EXACT)
    torch.testing.assert_close(torch.get_rng_state(), state, **EXACT)


@pytest.mark.parametrize("lam", [0.0, 0.2, 0.5, 1.0])
@pytest.mark.parametrize("objective", [SISS, BernoulliSubscore])
def test_share_of_forget_rows_is_lam(objective, lam, make_process, make_pair):
    """Binomial(20000, lam): within five standard deviations; exactly none or all at 0 and 1."""
    process, pair = make_process("epsilon"), make_pair(20_000, (1, 1, 2), low=500)
    rows = objective(lam=lam)(process, pair, stream(1))
    from_forget = is_from(rows, process, pair.forget, pair)
    from_keep = is_from(rows, process, pair.keep, pair)
    assert (from_forget | from_keep).all()
    torch.testing.assert_close(
        from_forget.double().mean().item(), lam, rtol=0, atol=5 * math.sqrt(lam * (1 - lam) / 2e4)
    )


@pytest.mark.parametrize("lam", [0.0, 0.25, 1.0])
def test_bernoulli_gives_each_row_to_one_side(lam, make_process, make_pair):
    """Weight 1/(1-lam) on keep rows, 1/lam on forget rows, 0 on the other side, own targets."""
    process, pair = make_process("v_prediction"), make_pair(200, low=100)
    rows = BernoulliSubscore(lam=lam)(process, pair, stream(2))
    from_forget = is_from(rows, process, pair.forget, pair)
    share = torch.full((200,), 1 / lam if lam else math.nan)
    rest = torch.full((200,), 1 / (1 - lam) if lam < 1 else math.nan)
    zero = torch.zeros(200)
    torch.testing.assert_close(rows.forget.weight, torch.where(from_forget, share, zero))
    torch.testing.assert_close(rows.keep.weight, torch.where(from_forget, zero, rest))
    clean = torch.where(from_forget.reshape(-1, 1, 1, 1), pair.forget, pair.keep)
    expected = own_target(process, clean, pair)
    torch.testing.assert_close(rows.keep.target, expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(rows.forget.target, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("lam", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("name", TYPES)
def test_siss_rows_carry_both_targets_and_weights(name, lam, make_process, make_pair):
    """Row by row from the definition: w_z = q(m|z) / ((1-lam) q(m|x) + lam q(m|a)) with normal
    densities, and both sides' targets at the same m."""
    process, pair = make_process(name), make_pair(50, low=300, gap=0.3)
    pair = replace(pair, keep=pair.keep.double(), forget=pair.forget.double())
    pair = replace(pair, noise=pair.noise.double())
    rows = SISS(lam=lam)(process, pair, stream(3))
    gamma = process.gamma(pair.t).reshape(-1, 1, 1, 1)
    sigma = process.sigma(pair.t).reshape(-1, 1, 1, 1)

    def log_density(clean):
        normal = torch.distributions.Normal(gamma * clean, sigma.expand_as(clean))
        return normal.log_prob(rows.inputs).flatten(1).sum(dim=1)

    keep, forget = log_density(pair.keep).exp(), log_density(pair.forget).exp()
    mixture = (1 - lam) * keep + lam * forget
    torch.testing.assert_close(rows.keep.weight, (keep / mixture).float(), rtol=1e-5, atol=1e-8)
    torch.testing.assert_close(rows.forget.weight, (forget / mixture).float(), rtol=1e-5, atol=1e-8)
    for term, clean in ((rows.keep, pair.keep), (rows.forget, pair.forget)):
        noise = (rows.inputs - gamma * clean) / sigma
        expected = own_target(process, clean, replace(pair, noise=noise))
        torch.testing.assert_close(term.target, expected, rtol=1e-5, atol=1e-6)


def test_separated_samples_turn_siss_into_the_bernoulli_ablation(make_process, make_pair):
    """Once |x - a| is far above the noise each weight is its bound or 0 (see the two classes)."""
    process, pair = make_process("epsilon"), make_pair(100, gap=50.0, high=300)
    siss = SISS(lam=0.25)(process, pair, stream(4))
    bernoulli = BernoulliSubscore(lam=0.25)(process, pair, stream(4))
    torch.testing.assert_close(siss.inputs, bernoulli.inputs, **EXACT)
    torch.testing.assert_close(siss.keep.weight, bernoulli.keep.weight)
    torch.testing.assert_close(siss.forget.weight, bernoulli.forget.weight)


@pytest.mark.parametrize("objective", [SISSNoIS(), EraseDiff()], ids=["SISSNoIS", "EraseDiff"])
@pytest.mark.parametrize("name", TYPES)
def test_two_pass_rows(objective, name, make_process, make_pair):
    """First B keep rows, then B forget rows, sharing t and noise; each with its own side only."""
    process, pair = make_process(name), make_pair(4, classes=3, low=100)
    pair = replace(pair, forget_cond=pair.keep_cond + 1)
    rows = objective(process, pair, stream())
    noisy = [process.add_noise(clean, pair.noise, pair.t) for clean in (pair.keep, pair.forget)]
    torch.testing.assert_close(rows.inputs, torch.cat(noisy), **EXACT)
    torch.testing.assert_close(rows.t, torch.cat([pair.t, pair.t]), **EXACT)
    torch.testing.assert_close(rows.cond, torch.cat([pair.keep_cond, pair.forget_cond]), **EXACT)
    assert rows.keep.weight.tolist() == [1] * 4 + [0] * 4
    assert rows.forget.weight.tolist() == [0] * 4 + [1] * 4
    expected = own_target(process, pair.keep, pair)
    torch.testing.assert_close(rows.keep.target[:4], expected, rtol=1e-4, atol=1e-4)
    if isinstance(objective, SISSNoIS):
        expected = own_target(process, pair.forget, pair)
        torch.testing.assert_close(rows.forget.target[4:], expected, rtol=1e-4, atol=1e-4)


def test_erasediff_target_is_uniform_and_fresh(make_process, make_pair):
    """U[0, 1): mean 1/2 within five standard errors, sqrt(1/12)/sqrt(count); new in each call."""
    process, pair, generator = make_process("epsilon"), make_pair(500), stream()
    first, second = (EraseDiff()(process, pair, generator).forget.target[500:] for _ in range(2))
    assert first.min() >= 0 and first.max() < 1
    torch.testing.assert_close(
        first.mean().item(), 0.5, rtol=0, atol=5 / math.sqrt(12 * first.numel())
    )
    torch.testing.assert_close(first.var().item(), 1 / 12, rtol=0.05, atol=0)
    assert not (first == second).flatten(1).any(dim=1).all()


@pytest.mark.parametrize("name", TYPES)
def test_naive_deletion_and_neggrad_have_one_side_each(name, make_process, make_pair):
    process, pair = make_process(name), make_pair(4, classes=3, low=100)
    pair = replace(pair, forget_cond=pair.keep_cond + 1)
    naive, neggrad = (make()(process, pair, stream()) for make in (NaiveDeletion, NegGrad))
    assert naive.keep.weight.tolist() == neggrad.forget.weight.tolist() == [1] * 4
    assert naive.forget.weight.tolist() == neggrad.keep.weight.tolist() == [0] * 4
    torch.testing.assert_close(naive.cond, pair.keep_cond, **EXACT)
    torch.testing.assert_close(neggrad.cond, pair.forget_cond, **EXACT)
    for rows, term, clean in (
        (naive, naive.keep, pair.keep),
        (neggrad, neggrad.forget, pair.forget),
    ):
        noisy = process.add_noise(clean, pair.noise, pair.t)
        torch.testing.assert_close(rows.inputs, noisy, **EXACT)
        expected = own_target(process, clean, pair)
        torch.testing.assert_close(term.target, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("objective", [SISS, BernoulliSubscore])
def test_one_pass_objectives_need_one_conditioning(objective, make_process, make_pair):
    """Equal labels pass; different ones need a choice; embeddings count as conditioning too."""
    process, pair = make_process("epsilon"), make_pair(4, classes=3)
    torch.testing.assert_close(objective()(process, pair, stream()).cond, pair.keep_cond, **EXACT)
    assert objective()(process, make_pair(4), stream()).cond is None
    for different in (pair.keep_cond + 1, pair.keep_cond.float().reshape(-1, 1)):
        unequal = replace(pair, forget_cond=different)
        with pytest.raises(ValueError, match="conditioning='forget' or conditioning='keep'"):
            objective()(process, unequal, stream())
        kept = objective(conditioning="keep")(process, unequal, stream())
        torch.testing.assert_close(kept.cond, pair.keep_cond, **EXACT)
        forgotten = objective(conditioning="forget")(process, unequal, stream())
        torch.testing.assert_close(forgotten.cond, different, **EXACT)


@pytest.mark.parametrize("objective", [SISS, BernoulliSubscore])
@pytest.mark.parametrize("lam", [-0.1, 1.1, math.nan, math.inf])
def test_lam_outside_zero_to_one_is_an_error(objective, lam):
    with pytest.raises(ValueError, match="from 0 to 1"):
        objective(lam=lam)


def test_objectives_are_frozen_and_named_in_the_table():
    assert {name: kind.__name__ for name, kind in OBJECTIVES.items()} == {
        name: name for name in OBJECTIVES
    }
    with pytest.raises(AttributeError):
        SISS().lam = 0.1
