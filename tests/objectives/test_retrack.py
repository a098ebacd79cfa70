"""ReTrack: its target against slow loops, limits, and what its rows are."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from dataunlearn.combine import Fixed, NormFix
from dataunlearn.objectives import Context, ReTrack
from dataunlearn.prediction import EPSILON
from dataunlearn.process import ForwardProcess
from dataunlearn.recognition.empirical import posterior_mean
from dataunlearn.recognition.witness import Pictures

TYPES = ["epsilon", "sample", "v_prediction", "flow_prediction"]
SHAPE = (2, 3, 3)
IMAGES, NEAR = 3, 4
EXACT = {"rtol": 0, "atol": 0}


def stream(seed=0):
    return torch.Generator().manual_seed(seed)


def neighbours(count=NEAR, seed=5):
    """Some pictures beside each of K images; the images of `forget_images` are near them."""
    return torch.randn(IMAGES, count, *SHAPE, generator=stream(seed))


def context(process, bounds=(1, 999), asked=None):
    def near(count):
        if asked is not None:
            asked.append(count)
        return neighbours(count)

    def levels():
        raise AssertionError("ReTrack needs no levels")

    images = Pictures(torch.zeros(IMAGES, *SHAPE))
    return Context(process, images, bounds, levels, near)


def numbered(pair, seed=9):
    """The pair, its forget images named at random."""
    index = torch.randint(IMAGES, (len(pair),), generator=stream(seed))
    return replace(pair, forget_index=index)


def prepared(process, **changes):
    return ReTrack(k=NEAR).prepare(context(process, **changes))


def slow_target(process, noisy, near, t):
    """One row: v_j = (a_t - gamma x_j)/sigma, p = softmax(-|v_j|^2/2), the p-mean of the targets of
    the x_j, by plain loops in float64 (every prediction type is linear in the clean sample)."""
    gamma, sigma = float(process.gamma(t)), float(process.sigma(t))
    noisy, near = noisy.double(), near.double()
    logs = [-0.5 * float((((noisy - gamma * x) / sigma) ** 2).sum()) for x in near]
    top = max(logs)
    shares = [torch.tensor(each - top).double().exp() for each in logs]
    targets = []
    for x in near:
        noise = (noisy - gamma * x) / sigma
        targets.append(
            {
                "epsilon": noise,
                "sample": x,
                "v_prediction": gamma * noise - sigma * x,
                "flow_prediction": noise - x,
            }[process.prediction.name]
        )
    pairs = zip(shares, targets, strict=True)
    return sum(share * target for share, target in pairs) / sum(shares)


@pytest.mark.parametrize("name", TYPES)
def test_forget_targets_are_those_of_a_slow_loop(name, make_process, make_pair):
    process, pair = make_process(name), numbered(make_pair(12, SHAPE))
    rows = prepared(process)(process, pair, stream(1))
    near = neighbours()
    for row, image in enumerate(pair.forget_index.tolist(), start=12):
        expected = slow_target(process, rows.inputs[row], near[image], rows.t[row])
        found = rows.forget.target[row].double()
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", TYPES)
def test_the_published_sum_has_the_same_gradient(name, make_process):
    """sum_j p_j |e - v_j|^2 = |e - sum_j p_j v_j|^2 + const, since the p_j sum to 1: the published
    loss, written out over the neighbours, has the gradient of the one row that is built here."""
    process, near = make_process(name), neighbours()[0].double()
    noisy = torch.randn(1, *SHAPE, generator=stream(2), dtype=torch.float64)
    t = torch.tensor([600])
    gamma, sigma = process.gamma(t), process.sigma(t)
    squares = (((noisy - gamma * near) / sigma) ** 2).flatten(1).sum(1)
    shares = torch.softmax(-squares / 2, dim=0)
    prediction = torch.randn(SHAPE, generator=stream(3), dtype=torch.float64, requires_grad=True)
    published = sum(
        share * (prediction - process.target(noisy, x[None], t)[0]).square().sum()
        for share, x in zip(shares, near, strict=True)
    )
    mean = posterior_mean(process, noisy, near[None], t)
    ours = (prediction - process.target(noisy, mean, t)[0]).square().sum()
    (expected,), (found,) = (torch.autograd.grad(loss, prediction) for loss in (published, ours))
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
    assert published.item() > ours.item()  # the constant is the spread of the targets


def test_without_signal_the_aim_is_the_plain_mean():
    """gamma -> 0: the noisy sample tells nothing, so every neighbour is as likely."""
    process = ForwardProcess(1, EPSILON, torch.tensor([1e-14], dtype=torch.float64))
    near = neighbours()
    noisy = torch.randn(IMAGES, *SHAPE, generator=stream(4))
    mean = posterior_mean(process, noisy, near, torch.zeros(IMAGES, dtype=torch.int64))
    torch.testing.assert_close(mean, near.mean(dim=1), rtol=1e-5, atol=1e-5)


def test_at_the_last_timestep_of_a_flow_the_aim_is_the_plain_mean(make_process):
    process, near = make_process("flow_prediction"), neighbours()
    noisy = torch.randn(IMAGES, *SHAPE, generator=stream(4))
    last = torch.full((IMAGES,), process.last_timestep)
    mean = posterior_mean(process, noisy, near, last)
    torch.testing.assert_close(mean, near.mean(dim=1), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["epsilon", "flow_prediction"])
def test_without_noise_the_aim_is_the_nearest_neighbour(name, make_process):
    process, near = make_process(name), neighbours()
    clean = torch.randn(IMAGES, *SHAPE, generator=stream(6))
    first = torch.full((IMAGES,), process.first_timestep)
    noisy = process.add_noise(clean, torch.zeros_like(clean), first)
    nearest = (near - clean[:, None]).flatten(2).norm(dim=2).argmin(dim=1)
    mean = posterior_mean(process, noisy, near, first)
    torch.testing.assert_close(mean, near[torch.arange(IMAGES), nearest], rtol=1e-4, atol=1e-4)


def test_shares_survive_many_dimensions():
    """200,000 dimensions at the lowest noise: |v_j|^2 are of the order of 10^9 and differ by 2, so
    that float32 would see no difference. p = sigmoid(1), from the densities' ratio by hand."""
    size, sigma = 200_000, 0.01
    process = ForwardProcess(1, EPSILON, torch.tensor([1 - sigma**2], dtype=torch.float64))
    gamma = float(process.gamma(torch.tensor([0])))
    first = torch.zeros(size, dtype=torch.float64)
    second = torch.zeros(size, dtype=torch.float64)
    # |m - 0|^2 - |m - gamma s e|^2 = 2 gamma s m_0 - gamma^2 s^2 = 2 sigma^2, with m_0 = 1
    noisy = torch.ones(1, size, dtype=torch.float64)
    second[0] = (1 - (1 - 2 * sigma**2) ** 0.5) / gamma
    candidates = torch.stack([first, second])[None]
    mean = posterior_mean(process, noisy, candidates, torch.tensor([0]))
    expected = torch.sigmoid(torch.tensor(1.0, dtype=torch.float64)) * second[0]
    torch.testing.assert_close(mean[0, 0], expected, rtol=1e-6, atol=0)


def test_rows_are_two_a_pair_and_carry_their_conditioning(make_process, make_pair):
    process, pair = make_process("v_prediction"), numbered(make_pair(5, SHAPE, classes=4))
    pair = replace(pair, forget_cond=pair.forget_cond + 4)
    rows = prepared(process)(process, pair, stream(3))
    assert len(rows) == 10 and rows.num_pairs == 5
    ones, zeros = torch.ones(5), torch.zeros(5)
    torch.testing.assert_close(rows.keep.weight, torch.cat([ones, zeros]), **EXACT)
    torch.testing.assert_close(rows.forget.weight, torch.cat([zeros, ones]), **EXACT)
    cond = torch.cat([pair.keep_cond, pair.forget_cond])
    torch.testing.assert_close(rows.cond, cond, **EXACT)
    kept = process.add_noise(pair.keep, pair.noise, pair.t)
    torch.testing.assert_close(rows.inputs[:5], kept, **EXACT)
    forgotten = process.add_noise(pair.forget, pair.noise, rows.t[5:])
    torch.testing.assert_close(rows.inputs[5:], forgotten, **EXACT)


def test_forget_timesteps_are_drawn_apart_within_the_bounds(make_process, make_pair):
    """Uniform from 300 to 309, whatever the keep side's timesteps are, by the generator alone."""
    process, pair = make_process(), numbered(make_pair(4000, SHAPE, low=500, high=900))
    objective, state = prepared(process, bounds=(300, 309)), torch.get_rng_state()
    rows, again = (objective(process, pair, stream(7)) for _ in range(2))
    torch.testing.assert_close(rows.t[:4000], pair.t, **EXACT)
    torch.testing.assert_close(rows.t, again.t, **EXACT)
    torch.testing.assert_close(torch.get_rng_state(), state, **EXACT)
    counts = torch.bincount(rows.t[4000:] - 300, minlength=10).double()
    assert len(counts) == 10
    torch.testing.assert_close(counts, torch.full((10,), 400.0).double(), rtol=0, atol=100)


def test_preparing_asks_for_k_neighbours(make_process):
    asked = []
    objective = ReTrack(k=7).prepare(context(make_process(), asked=asked))
    assert asked == [7] and objective.k == 7
    assert repr(objective) == "PreparedReTrack(k=7)"
    assert not objective.arrives and not objective.keeps_predictions


def test_unprepared_or_without_numbers_it_says_what_to_do(make_process, make_pair):
    process, pair = make_process(), make_pair(3, SHAPE)
    with pytest.raises(ValueError, match="call prepare"):
        ReTrack()(process, pair, stream())
    with pytest.raises(ValueError, match="give the pair a forget_index"):
        prepared(process)(process, replace(pair, forget_index=None), stream())
    with pytest.raises(ValueError, match="k must be at least 1"):
        ReTrack(k=0)


def test_the_published_share_is_the_default_and_ascent_is_refused():
    assert ReTrack().default_combination == Fixed(keep=0.995, forget=0.005)
    ReTrack().check_combination(ReTrack.default_combination)
    with pytest.raises(ValueError, match="does not fit ReTrack"):
        ReTrack().check_combination(NormFix(ratio=0.1))
