"""SISS in expectation is naive deletion: by quadrature, and by Monte Carlo through the object."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from dataunlearn.objectives import SISS, BernoulliSubscore
from dataunlearn.objectives._siss import log_importance_weights
from dataunlearn.rows import Pair

TRAINING = torch.tensor([-1.3, -0.4, 0.1, 0.9, 0.9, 1.7], dtype=torch.float64)  # X, n = 6
NUM_FORGET = 2  # A is the first two
TYPES = ["epsilon", "sample", "v_prediction", "flow_prediction"]


def predictor(seed):
    """An arbitrary smooth function of a noisy number: a sum of random sines."""
    generator = torch.Generator().manual_seed(seed)
    amplitude, rate, phase = torch.randn(3, 4, generator=generator, dtype=torch.float64)
    return lambda m: (amplitude * torch.sin(rate * m[..., None] + phase)).sum(dim=-1)


def denoising_loss(process, t, f, clean):
    """E over eps of |f(gamma x + sigma eps) - target|^2 for one number x, by Gauss-Hermite
    quadrature with the targets written out in eps and x, not in m."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(120)
    eps, weights = torch.from_numpy(nodes), torch.from_numpy(weights) / math.sqrt(2 * math.pi)
    gamma, sigma = process.gamma(torch.tensor([t])), process.sigma(torch.tensor([t]))
    target = {
        "epsilon": eps,
        "sample": clean.expand_as(eps),
        "v_prediction": gamma * eps - sigma * clean,
        "flow_prediction": eps - clean,
    }[process.prediction.name]
    return (weights * (f(gamma * clean + sigma * eps) - target).square()).sum()


def naive_deletion(process, t, f):
    """The mean denoising loss over X \\ A."""
    kept = TRAINING[NUM_FORGET:]
    return torch.stack([denoising_loss(process, t, f, clean) for clean in kept]).mean()


def mixture_terms(process, t, lam, f, x, a):
    """Both terms' integrals over m ~ (1-lam) q(.|x) + lam q(.|a), by the trapezoidal rule, which is
    spectrally accurate for these analytic integrands that vanish at both ends."""
    steps = torch.tensor([t])
    gamma, sigma = process.gamma(steps).item(), process.sigma(steps).item()
    reach = 14 * sigma + 2 * gamma
    m = torch.linspace(-reach, reach, 8001, dtype=torch.float64)
    column, steps = m[:, None], steps.expand(len(m))
    keep, forget = x.expand_as(column), a.expand_as(column)
    ratio = process.log_density_ratio(column, keep, forget, steps)
    log_keep, log_forget = log_importance_weights(ratio, lam)

    def density(clean):
        return torch.distributions.Normal(gamma * clean, sigma).log_prob(m).exp()

    mixture = (1 - lam) * density(x) + lam * density(a)
    # e^(-Delta) overflows only where the mixture is 0: keep 0 * inf out of the sum.
    mixture_keep = torch.where(mixture > 0, mixture * log_keep.exp(), 0.0)
    mixture_forget = torch.where(mixture > 0, mixture * log_forget.exp(), 0.0)
    errors = [
        (f(m) - process.target(column, clean, steps)[:, 0]).square() for clean in (keep, forget)
    ]
    return (
        torch.trapezoid(mixture_keep * errors[0], m),
        torch.trapezoid(mixture_forget * errors[1], m),
    )


@pytest.mark.parametrize("lam", [0.0, 0.01, 0.3, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("name", TYPES)
def test_each_term_is_the_denoising_loss_of_its_own_sample(name, lam, make_process):
    """E_{q_lam}[w_z |f - target_z|^2] = E_{q(.|z)} |f - target_z|^2, whatever the other sample."""
    process, f, t = make_process(name), predictor(1), 600
    x, a = TRAINING[4], TRAINING[0]
    keep, forget = mixture_terms(process, t, lam, f, x, a)
    torch.testing.assert_close(keep, denoising_loss(process, t, f, x), rtol=1e-6, atol=0)
    torch.testing.assert_close(forget, denoising_loss(process, t, f, a), rtol=1e-6, atol=0)


@pytest.mark.parametrize("lam", [0.0, 0.05, 0.5, 0.8, 1.0])
@pytest.mark.parametrize("t", [350, 900])
@pytest.mark.parametrize("name", TYPES)
def test_siss_equals_naive_deletion_by_quadrature(name, t, lam, make_process):
    """With x uniform on all of X, a uniform on A and u = (n/(n-k), -k/(n-k)):

        n/(n-k) mean_X L(x) - k/(n-k) mean_A L(a) = (sum_X L - sum_A L)/(n-k) = mean_{X\\A} L,

    where L(z) is the denoising loss at z, which each term is in expectation under q_lam(m|x,a)."""
    process, f = make_process(name), predictor(t)
    n, k = len(TRAINING), NUM_FORGET
    keep, forget = zip(
        *(mixture_terms(process, t, lam, f, x, a) for x in TRAINING for a in TRAINING[:k]),
        strict=True,
    )
    loss = n / (n - k) * torch.stack(keep).mean() - k / (n - k) * torch.stack(forget).mean()
    torch.testing.assert_close(loss, naive_deletion(process, t, f), rtol=1e-6, atol=0)


@pytest.mark.parametrize("objective", [SISS, BernoulliSubscore])
@pytest.mark.parametrize("lam", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("name", ["epsilon", "v_prediction", "flow_prediction"])
def test_one_pass_objectives_equal_naive_deletion_by_sampling(name, lam, objective, make_process):
    """The same statement through the objective itself, on 100,000 pairs at two timesteps: the mean
    of u_k w_k |f - target_k|^2 + u_f w_f |f - target_f|^2 over rows is within five standard errors
    of naive deletion. It holds for the Bernoulli ablation too, whose weights are the inverse
    probabilities of a row's side."""
    process, f, timesteps = make_process(name), predictor(3), (400, 900)
    n, k, count = len(TRAINING), NUM_FORGET, 100_000
    generator = torch.Generator().manual_seed(4)
    pair = Pair(
        TRAINING[torch.randint(n, (count,), generator=generator)][:, None],
        TRAINING[torch.randint(k, (count,), generator=generator)][:, None],
        torch.tensor(timesteps)[torch.randint(2, (count,), generator=generator)],
        torch.randn(count, 1, generator=generator, dtype=torch.float64),
    )
    rows = objective(lam=lam)(process, pair, generator)
    keep, forget = (
        term.weight.double() * (f(rows.inputs) - term.target).square()[:, 0]
        for term in (rows.keep, rows.forget)
    )
    losses = n / (n - k) * keep - k / (n - k) * forget
    expected = torch.stack([naive_deletion(process, t, f) for t in timesteps]).mean()
    standard_error = losses.std().item() / math.sqrt(count)
    torch.testing.assert_close(losses.mean(), expected, rtol=0, atol=5 * standard_error)
    assert standard_error < 0.1 * expected
