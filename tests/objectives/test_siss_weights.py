"""SISS's importance weights and the log density ratio, against high precision and torch."""

from __future__ import annotations

import math

import mpmath
import pytest
import torch

from dataunlearn.objectives._siss import log_importance_weights

RATIOS = [-1e4, -700.0, -50.0, -3.0, -1e-3, 0.0, 1e-3, 2.0, 37.0, 700.0, 1e4]
INNER = [1e-6, 1e-3, 0.25, 0.5, 0.9, 1 - 1e-6]


def exact_log_weights(ratio, lam):
    """q(m|x) : q(m|a) = e^Delta : 1, so w_x = e^Delta / ((1-lam) e^Delta + lam) and
    w_a = 1 / ((1-lam) e^Delta + lam), in 60 digits (and exponents without bounds)."""
    with mpmath.workdps(60):
        likelihood = mpmath.exp(mpmath.mpf(ratio))
        mixture = (1 - mpmath.mpf(lam)) * likelihood + mpmath.mpf(lam)
        keep, forget = mpmath.log(likelihood / mixture), mpmath.log(1 / mixture)
        return float(keep), float(forget)


@pytest.mark.parametrize("lam", [0.0, *INNER, 1.0])
def test_log_weights_against_mpmath(lam):
    """Relative error 1e-12, absolute 1e-14 where a log weight crosses zero."""
    ratios = torch.tensor(RATIOS, dtype=torch.float64)
    keep, forget = log_importance_weights(ratios, lam)
    exact = torch.tensor([exact_log_weights(r, lam) for r in RATIOS], dtype=torch.float64)
    torch.testing.assert_close(keep, exact[:, 0], rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(forget, exact[:, 1], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("lam", INNER)
def test_mixture_identity_and_bounds(lam, dtype):
    """(1-lam) w_x + lam w_a = 1 because q_lam is that mixture; each term is a share of it, hence
    w_x <= 1/(1-lam) and w_a <= 1/lam. In float32 the bound 1/lam = 1e6 is met to rounding of the
    logarithm."""
    ratios = torch.cat([torch.linspace(-60, 60, 241), torch.tensor([-1e4, 1e4])]).to(dtype)
    keep, forget = (log.exp() for log in log_importance_weights(ratios, lam))
    slack = 1e-12 if dtype == torch.float64 else 4e-6
    total = (1 - lam) * keep + lam * forget
    torch.testing.assert_close(total, torch.ones_like(total), rtol=slack, atol=0)
    assert keep.isfinite().all() and forget.isfinite().all()
    assert keep.min() >= 0 and forget.min() >= 0
    assert keep.max() <= (1 + slack) / (1 - lam)
    assert forget.max() <= (1 + slack) / lam


@pytest.mark.parametrize(
    ("lam", "exponents"), [(0.0, (0, -1)), (1.0, (1, 0))], ids=["lam=0", "lam=1"]
)
def test_limits(lam, exponents):
    """lam = 0: w = (1, e^-Delta). lam = 1: w = (e^Delta, 1). The inner formula tends to them."""
    ratios = torch.tensor([-9.0, -1.0, 0.0, 0.5, 9.0], dtype=torch.float64)
    actual = log_importance_weights(ratios, lam)
    inside = log_importance_weights(ratios, 1e-12 if lam == 0 else 1 - 1e-12)
    for log_weight, near, exponent in zip(actual, inside, exponents, strict=True):
        torch.testing.assert_close(log_weight, exponent * ratios)
        torch.testing.assert_close(near, exponent * ratios, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", ["epsilon", "flow_prediction"])
def test_log_density_ratio_against_torch_distributions(name, make_process):
    """q(m|z) = N(gamma z, sigma^2): the difference of two sums of normal log densities."""
    process = make_process(name)
    generator = torch.Generator().manual_seed(0)
    noisy, first, second = torch.randn(3, 5, 2, 3, generator=generator, dtype=torch.float64)
    t = torch.tensor([5, 100, 400, 800, 990])
    gamma, sigma = (c.reshape(-1, 1, 1) for c in (process.gamma(t), process.sigma(t)))

    def log_density(clean):
        normal = torch.distributions.Normal(gamma * clean, sigma.expand_as(clean))
        return normal.log_prob(noisy).sum(dim=(1, 2))

    actual = process.log_density_ratio(noisy, first, second, t)
    torch.testing.assert_close(
        actual, log_density(first) - log_density(second), rtol=1e-9, atol=1e-9
    )
    torch.testing.assert_close(process.log_density_ratio(noisy, second, first, t), -actual)


def test_log_density_ratio_in_many_dimensions(make_process):
    """d_second - d_first in 50 digits, for two nearly equal images of 50,000 pixels: both d are
    about 2.5e4 while their difference is below 1, so subtracting float32 norms would lose it."""
    process = make_process("epsilon")
    generator = torch.Generator().manual_seed(1)
    first = torch.randn(1, 50_000, generator=generator)
    second = first + 1e-5 * torch.randn(1, 50_000, generator=generator)
    t = torch.tensor([600])
    noisy = process.add_noise(first, torch.randn(1, 50_000, generator=generator), t)
    with mpmath.workdps(50):
        gamma, sigma = mpmath.mpf(process.gamma(t).item()), mpmath.mpf(process.sigma(t).item())

        def squared_distance(clean):
            pairs = zip(noisy[0].tolist(), clean[0].tolist(), strict=True)
            return sum((mpmath.mpf(m) - gamma * mpmath.mpf(z)) ** 2 for m, z in pairs)

        exact = (squared_distance(second) - squared_distance(first)) / (2 * sigma**2)
    actual = process.log_density_ratio(noisy, first, second, t)
    assert actual.dtype == torch.float64
    expected = torch.tensor([float(exact)], dtype=torch.float64)
    torch.testing.assert_close(actual, expected, rtol=1e-8, atol=0)


def test_ratio_follows_its_known_distribution(make_process):
    """For m ~ q(.|x), Delta is normal with mean mu = (gamma/sigma)^2 |x - a|^2 / 2 and variance
    2 mu. Tolerances are five standard errors of mean and variance over 20,000 draws."""
    process = make_process("epsilon")
    count, generator = 20_000, torch.Generator().manual_seed(2)
    first = torch.randn(1, 8, generator=generator, dtype=torch.float64).expand(count, 8)
    second = torch.randn(1, 8, generator=generator, dtype=torch.float64).expand(count, 8)
    noise = torch.randn(count, 8, generator=generator, dtype=torch.float64)
    t = torch.full((count,), 500)
    noisy = process.add_noise(first, noise, t)
    ratio = process.log_density_ratio(noisy, first, second, t)
    snr = process.gamma(t[:1]).square() / process.sigma(t[:1]).square()
    mu = float(snr * (first[0] - second[0]).square().sum() / 2)
    deviation = math.sqrt(2 * mu)
    torch.testing.assert_close(
        ratio.mean().item(), mu, rtol=0, atol=5 * deviation / math.sqrt(count)
    )
    torch.testing.assert_close(ratio.var().item(), 2 * mu, rtol=5 * math.sqrt(2 / count), atol=0)
