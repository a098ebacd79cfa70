"""Combination rules, on random gradients and on hand-made Gramians."""

from __future__ import annotations

import math

import pytest
import torch

from dataunlearn.combine import (
    DEFAULT_RATIO,
    BalancedDescent,
    BoundedDescent,
    Fixed,
    NormFix,
    Superfactor,
)
from dataunlearn.gramian import Gramian, gramian_of
from dataunlearn.objectives import (
    SISS,
    BernoulliSubscore,
    EraseDiff,
    NaiveDeletion,
    NegGrad,
    SISSNoIS,
)

SEEDS = range(8)
ALL_RULES = [
    NormFix(norm=5),
    NormFix(ratio=0.1),
    BoundedDescent(0.5),
    BalancedDescent(0.5),
    Fixed(1, -1),
    Fixed(1, 2),
    Superfactor(0.3, 100, 10),
]


def gradients(seed):
    """A random pair of gradients as lists of tensors, of different lengths and angles by seed."""
    generator = torch.Generator().manual_seed(seed)
    shapes = [(3, 4), (), (5,)]
    keep = [torch.randn(shape, generator=generator) * 10 ** (seed % 3) for shape in shapes]
    forget = [
        torch.randn(shape, generator=generator) + (seed - 4) * part / 10 ** (seed % 3)
        for shape, part in zip(shapes, keep, strict=True)
    ]
    return keep, forget


def flat(tensors):
    return torch.cat([tensor.reshape(-1) for tensor in tensors]).double()


@pytest.mark.parametrize("seed", SEEDS)
def test_gramian_is_inner_products(seed):
    keep, forget = gradients(seed)
    gramian = gramian_of(keep, forget)
    k, f = flat(keep), flat(forget)
    expected = torch.stack([k @ k, k @ f, f @ f])
    actual = torch.tensor([gramian.kk, gramian.kf, gramian.ff], dtype=torch.float64)
    torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(gramian.norm_keep, k.norm().item())
    torch.testing.assert_close(gramian.norm_forget, f.norm().item())
    cosine = torch.cosine_similarity(k, f, dim=0).item()
    torch.testing.assert_close(gramian.cosine, cosine)


def test_gramian_of_long_float32_gradients_keeps_its_digits():
    """A million entries of 1 + 2^-12 square-sum to 10^6 (1 + 2^-12)^2; a running float32 sum would
    be wrong in the fifth digit."""
    entries = [torch.full((1_000_000,), 1 + 2**-12)]
    torch.testing.assert_close(
        gramian_of(entries, entries).kk, 1e6 * (1 + 2**-12) ** 2, rtol=1e-12, atol=0
    )


def test_cosine_without_a_gradient_is_none():
    assert Gramian(1.0, 0.0, 0.0).cosine is None
    assert Gramian(0.0, 0.0, 1.0).cosine is None


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("norm", [0.25, 5.0, 750.0])
def test_norm_fix_gives_the_forget_part_length_c(seed, norm):
    keep, forget = gradients(seed)
    u_keep, u_forget = NormFix(norm=norm)(gramian_of(keep, forget))
    assert u_keep == 1 and u_forget < 0
    torch.testing.assert_close((u_forget * flat(forget)).norm().item(), norm)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("ratio", [0.1, 1.5])
def test_norm_fix_by_ratio_gives_a_share_of_the_keep_length(seed, ratio):
    keep, forget = gradients(seed)
    u_keep, u_forget = NormFix(ratio=ratio)(gramian_of(keep, forget))
    assert u_keep == 1 and u_forget < 0
    length = (u_forget * flat(forget)).norm().item()
    torch.testing.assert_close(length, ratio * flat(keep).norm().item())


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("eta", [0.0, 1e-3, 0.7])
def test_bounded_descent_is_the_least_change_that_descends(seed, eta):
    """EraseDiff's rule solves: the update g nearest to g_keep with <g, g_f> >= eta |g_f|^2. Its
    solution lies on g_keep + u g_f with u >= 0 as small as the constraint allows; u is found here
    by bisection on the constraint itself, without the closed form."""
    keep, forget = gradients(seed)
    k, f = flat(keep), flat(forget)

    def allowed(u):
        return float((k + u * f) @ f) >= eta * float(f @ f)

    low, high = 0.0, 1e6
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (low, middle) if allowed(middle) else (middle, high)
    least = 0.0 if allowed(0.0) else high
    u_keep, u_forget = BoundedDescent(eta)(gramian_of(keep, forget))
    assert u_keep == 1
    torch.testing.assert_close(u_forget, least, rtol=1e-9, atol=1e-9)
    rate = float((k + u_forget * f) @ f) / float(f @ f)
    assert rate >= eta - 1e-9


@pytest.mark.parametrize("ratio", [0.1, 1.0, 30.0])
@pytest.mark.parametrize("seed", SEEDS)
def test_balanced_descent_is_no_longer_than_a_share_of_the_keep_gradient(seed, ratio):
    """Nor than ``most`` times the forget gradient; one of the two bounds is met."""
    keep, forget = gradients(seed)
    gramian = gramian_of(keep, forget)
    u_keep, u_forget = BalancedDescent(ratio, most=4.0)(gramian)
    assert u_keep == 1 and u_forget > 0
    bounds = (ratio * gramian.norm_keep, 4 * gramian.norm_forget)
    assert u_forget * gramian.norm_forget == pytest.approx(min(bounds))


@pytest.mark.parametrize(
    ("gramian", "expected"),
    [
        (Gramian(4.0, 0.0, 2.0), 0.25),
        (Gramian(4.0, -1.0, 2.0), 0.75),
        (Gramian(4.0, 0.25, 2.0), 0.125),
        (Gramian(4.0, 1.0, 2.0), 0.0),
    ],
)
def test_bounded_descent_by_hand(gramian, expected):
    """max(1/4 - kf/ff, 0)."""
    assert BoundedDescent(0.25)(gramian) == (1.0, expected)


@pytest.mark.parametrize(
    ("s", "n", "k", "expected"),
    [
        (0.0, 60_606, 606, (60_606 / 60_000, -606 / 60_000)),
        (1.0, 10, 2, (1.25, -0.5)),
        (-1.0, 10, 2, (1.25, 0.0)),
        (9.0, 3, 1, (1.5, -5.0)),
    ],
)
def test_superfactor(s, n, k, expected):
    """(n/(n-k), -(1+s) k/(n-k)), the same whether counts are given by hand or by the data."""
    gramian = Gramian(3.0, 0.5, 2.0)
    by_hand, by_data = Superfactor(s, n, k), Superfactor(s).with_counts(n, k)
    assert by_hand == by_data
    torch.testing.assert_close(by_hand(gramian), expected)
    torch.testing.assert_close(by_hand(Gramian(1e6, 0.0, 1e-6)), expected)


def test_superfactor_needs_counts_and_keeps_those_given_by_hand():
    with pytest.raises(ValueError, match="with_counts"):
        Superfactor(0.5)(Gramian(1.0, 0.0, 1.0))
    assert Superfactor(0.5, 100, 10).with_counts(7, 3) == Superfactor(0.5, 100, 10)
    for rule in (NormFix(ratio=0.1), BoundedDescent(), Fixed(1, -1)):
        assert rule.with_counts(7, 3) == rule


@pytest.mark.parametrize("factors", [(1, -0.5), (0, -3), (2, 1), (1, 0)])
def test_fixed_returns_its_factors(factors):
    assert Fixed(*factors)(Gramian(5.0, 1.0, 2.0)) == factors


@pytest.mark.parametrize("rule", ALL_RULES, ids=repr)
def test_without_a_forget_gradient_its_weight_is_zero(rule):
    u_keep, u_forget = rule(Gramian(2.0, 0.0, 0.0))
    assert u_forget == 0
    assert u_keep == rule(Gramian(2.0, 0.5, 1.0))[0]


@pytest.mark.parametrize("rule", ALL_RULES, ids=repr)
def test_without_a_keep_gradient_the_weights_are_finite(rule):
    assert all(math.isfinite(u) for u in rule(Gramian(0.0, 0.0, 3.0)))


BAD = {
    "no length": lambda: NormFix(),
    "two lengths": lambda: NormFix(norm=5, ratio=0.1),
    "zero length": lambda: NormFix(norm=0),
    "negative ratio": lambda: NormFix(ratio=-0.1),
    "length nan": lambda: NormFix(norm=math.nan),
    "length inf": lambda: NormFix(norm=math.inf),
    "negative eta": lambda: BoundedDescent(-1e-3),
    "eta nan": lambda: BoundedDescent(math.nan),
    "eta inf": lambda: BoundedDescent(math.inf),
    "no share": lambda: BalancedDescent(0.0),
    "share inf": lambda: BalancedDescent(math.inf),
    "most below 0": lambda: BalancedDescent(1.0, -4.0),
    "ascends keep": lambda: Fixed(-1, 1),
    "does nothing": lambda: Fixed(0, 0),
    "factor nan": lambda: Fixed(1, math.nan),
    "factor inf": lambda: Fixed(math.inf, 1),
    "s below -1": lambda: Superfactor(-1.5),
    "s nan": lambda: Superfactor(math.nan),
    "one count": lambda: Superfactor(0, num_train=10),
    "no forget images": lambda: Superfactor(0, 10, 0),
    "only forget images": lambda: Superfactor(0, 10, 10),
    "counts by the data": lambda: Superfactor().with_counts(5, 6),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_constructor_values_are_errors(case):
    with pytest.raises(ValueError):
        BAD[case]()


RULES = {
    "NormFix(norm)": NormFix(norm=5),
    "NormFix(ratio)": NormFix(ratio=0.1),
    "BoundedDescent": BoundedDescent(),
    "Superfactor": Superfactor(),
    "Fixed(1, 0)": Fixed(1, 0),
    "Fixed(0, -1)": Fixed(0, -1),
    "Fixed(0, 1)": Fixed(0, 1),
    "Fixed(1, -1)": Fixed(1, -1),
    "Fixed(1, 1)": Fixed(1, 1),
}
OBJECTIVES = {
    "SISS": SISS(),
    "SISSNoIS": SISSNoIS(),
    "BernoulliSubscore": BernoulliSubscore(),
    "NaiveDeletion": NaiveDeletion(),
    "NegGrad": NegGrad(),
    "EraseDiff": EraseDiff(),
}
DESCEND_AND_ASCEND = {"NormFix(norm)", "NormFix(ratio)", "Superfactor", "Fixed(1, -1)"}
SENSIBLE = {
    "SISS": DESCEND_AND_ASCEND,
    "SISSNoIS": DESCEND_AND_ASCEND,
    "BernoulliSubscore": DESCEND_AND_ASCEND,
    "NaiveDeletion": {"Fixed(1, 0)"},
    "NegGrad": {"Fixed(0, -1)"},
    "EraseDiff": {"BoundedDescent", "Fixed(1, 1)"},
}


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_pairings(objective, rule):
    """Every objective against every rule: the literal table above, anything else is refused."""
    if rule in SENSIBLE[objective]:
        OBJECTIVES[objective].check_combination(RULES[rule])
        return
    with pytest.raises(ValueError, match=f"does not fit {objective}"):
        OBJECTIVES[objective].check_combination(RULES[rule])


@pytest.mark.parametrize(
    ("objective", "rule"),
    [
        ("SISS", NormFix(ratio=DEFAULT_RATIO)),
        ("SISSNoIS", NormFix(ratio=DEFAULT_RATIO)),
        ("BernoulliSubscore", NormFix(ratio=DEFAULT_RATIO)),
        ("NaiveDeletion", Fixed(1, 0)),
        ("NegGrad", Fixed(0, -1)),
        ("EraseDiff", BoundedDescent(1e-3)),
    ],
)
def test_default_combinations(objective, rule):
    assert OBJECTIVES[objective].default_combination == rule
    OBJECTIVES[objective].check_combination(rule)
