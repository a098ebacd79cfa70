"""What must not change the engine's result: micro-batches, processes, the global random stream."""

from __future__ import annotations

import pytest
import torch

from dataunlearn import objectives
from dataunlearn.objectives import SISS
from dataunlearn.training.engine import GradientEngine, trainable
from toy_levels import prepared

OBJECTIVES = [*(objective() for objective in objectives.OBJECTIVES.values()), SISS(lam=0.0)]
EXACT = {"rtol": 0, "atol": 0}


def flat(gradients):
    return torch.cat([grad.reshape(-1) for grad in [*gradients.keep, *gradients.forget]])


def assert_close_to_rounding(actual, expected):
    for mine, other in ((actual.keep, expected.keep), (actual.forget, expected.forget)):
        largest = max((float(grad.abs().max()) for grad in other), default=0.0)
        for first, second in zip(mine, other, strict=True):
            torch.testing.assert_close(first, second, rtol=0, atol=3e-6 * largest + 1e-30)


@pytest.fixture
def make_rows(make_process, make_pair):
    def make(objective, num_pairs=11, classes=3):
        pair = make_pair(num_pairs, gap=0.5, low=100, classes=classes)
        process = make_process("v_prediction")
        objective = prepared(objective, process, pair.forget)
        return objective(process, pair, torch.Generator().manual_seed(1))

    return make


@pytest.fixture
def run(make_toy):
    """``run(objective, engine, denoiser, rows)``: as a trainer runs them.

    Another network answers questions, and where the default rule's weights do not depend on the
    gradients, both sides go through one backward pass.
    """
    frozen = make_toy(classes=3, seed=1)

    def call(objective, engine, denoiser, rows):
        return engine(denoiser, rows, 0, frozen, objective.default_combination.factors)

    return call


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize("objective", OBJECTIVES, ids=repr)
def test_micro_batch_size_changes_nothing_beyond_rounding(
    objective, size, make_rows, make_toy, run
):
    rows, denoiser = make_rows(objective), make_toy(classes=3)
    whole = run(objective, GradientEngine(), denoiser, rows)
    parts = run(objective, GradientEngine(micro_batch_rows=size), denoiser, rows)
    assert_close_to_rounding(parts, whole)
    torch.testing.assert_close(parts.keep_losses, whole.keep_losses, rtol=1e-5, atol=1e-6)
    assert parts.counts.backward_rows == whole.counts.backward_rows


def test_row_order_changes_nothing_beyond_rounding(make_rows, make_toy):
    rows, denoiser = make_rows(SISS()), make_toy(classes=3)
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(2))
    whole, shuffled = (GradientEngine(4)(denoiser, r) for r in (rows, rows.take(order)))
    assert_close_to_rounding(shuffled, whole)
    torch.testing.assert_close(
        shuffled.forget_losses, whole.forget_losses[order], rtol=1e-5, atol=1e-6
    )


class Rank:
    """Stands in for an accelerator: one process of several, which hears only itself."""

    def __init__(self, index, count):
        self.process_index, self.num_processes, self.reductions = index, count, 0

    def reduce(self, tensor, reduction):
        assert reduction == "sum"
        self.reductions += 1
        return tensor


@pytest.mark.parametrize("processes", [2, 3, 16])
@pytest.mark.parametrize("objective", OBJECTIVES, ids=repr)
def test_processes_add_up_to_one(objective, processes, make_rows, make_toy, run):
    """Every process is given the same rows; the sum over what each computes alone is what the
    all-reduce makes of them. All call it equally often, or they would wait for each other."""
    rows, denoiser = make_rows(objective), make_toy(classes=3)
    single = run(objective, GradientEngine(4), denoiser, rows)
    ranks = [Rank(index, processes) for index in range(processes)]
    shares = [run(objective, GradientEngine(4, accelerator=rank), denoiser, rows) for rank in ranks]
    total = torch.stack([flat(share) for share in shares]).sum(dim=0)
    expected = flat(single)
    torch.testing.assert_close(total, expected, rtol=0, atol=3e-6 * float(expected.abs().max()))
    losses = torch.stack([share.keep_losses for share in shares]).sum(dim=0)
    torch.testing.assert_close(losses, single.keep_losses, rtol=1e-5, atol=1e-6)
    assert sum(share.counts.forward_rows for share in shares) == single.counts.forward_rows
    num_sides = sum(bool(term.weight.any()) for term in (rows.keep, rows.forget))
    assert [rank.reductions for rank in ranks] == [num_sides] * processes


def test_dropout_is_seeded_and_leaves_the_global_stream_alone(make_rows, make_toy):
    """Equal seeds give equal gradients whatever the global stream's state, and do not move it."""
    rows, denoiser, engine = make_rows(SISS()), make_toy(classes=3, dropout=0.5), GradientEngine(4)
    state = torch.get_rng_state()
    first = flat(engine(denoiser, rows, seed=5))
    torch.testing.assert_close(torch.get_rng_state(), state, **EXACT)
    with torch.random.fork_rng():
        torch.manual_seed(99)
        again = flat(engine(denoiser, rows, seed=5))
    torch.testing.assert_close(again, first, **EXACT)
    assert not torch.equal(flat(engine(denoiser, rows, seed=6)), first)


def test_both_sides_see_one_dropout_mask(make_rows, make_toy):
    """One forward pass serves both sides: with equal targets and weights their gradients agree."""
    rows = make_rows(SISS())
    rows = type(rows)(rows.inputs, rows.t, rows.keep, rows.keep, rows.cond)
    gradients = GradientEngine(4)(make_toy(classes=3, dropout=0.5), rows, seed=1)
    for keep, forget in zip(gradients.keep, gradients.forget, strict=True):
        torch.testing.assert_close(keep, forget)


@pytest.mark.parametrize("objective", OBJECTIVES, ids=repr)
def test_bfloat16_is_close_to_float32(objective, make_rows, make_toy, run):
    """bfloat16 has 8 bits: the gradient's direction and length stay within a few percent, and
    losses, buffers and parameters stay float32."""
    rows, denoiser = make_rows(objective), make_toy(classes=3)
    exact, rough = (
        run(objective, GradientEngine(precision=precision), denoiser, rows)
        for precision in ("float32", "bfloat16")
    )
    for side in ("flat_keep", "flat_forget"):
        mine, other = getattr(rough, side), getattr(exact, side)
        if other.norm() > 0:  # an objective may lack a side
            error = float((mine - other).norm() / other.norm())
            assert 0 < error < 0.03
        assert mine.dtype == torch.float32
    assert rough.keep_losses.dtype == torch.float32
    torch.testing.assert_close(rough.keep_losses, exact.keep_losses, rtol=0.03, atol=0.03)
    assert all(param.dtype == torch.float32 for param in trainable(denoiser))


def test_a_small_side_survives_beside_a_large_one_in_bfloat16(make_rows, make_toy):
    """Each side has its own buffer: scaling the keep side by 10^4 leaves the forget side's bits."""
    rows, denoiser = make_rows(SISS()), make_toy(classes=3)
    engine = GradientEngine(precision="bfloat16")
    plain = engine(denoiser, rows)
    keep = type(rows.keep)(rows.keep.target, rows.keep.weight * 1e4)
    scaled = engine(denoiser, type(rows)(rows.inputs, rows.t, keep, rows.forget, rows.cond))
    for first, second in zip(plain.forget, scaled.forget, strict=True):
        torch.testing.assert_close(first, second, **EXACT)
