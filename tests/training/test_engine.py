"""The gradient engine against a slow per-row loop, and what it does not compute."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from dataunlearn import objectives
from dataunlearn.objectives import (
    SISS,
    BernoulliSubscore,
    NaiveDeletion,
    NegGrad,
    SISSNoIS,
)
from dataunlearn.rows import Term, concatenate
from dataunlearn.training.engine import GradientEngine, drop_negligible, trainable
from dataunlearn.training.two_gradients import NonFiniteError
from slow_gradients import assert_same_gradients, sided_rows, slow_gradients
from toy_levels import prepared

# Every objective there is, as its constructor makes it, and the ends of SISS's mixture.
OBJECTIVES = {
    **{name: objective() for name, objective in objectives.OBJECTIVES.items()},
    "SISS(0)": SISS(lam=0.0),
    "SISS(1)": SISS(lam=1.0),
}


def stream(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(
    ("name", "classes"), [(n, c) for n in OBJECTIVES for c in (0, 3) if c or n != "WithoutPrompt"]
)
def test_gradients_equal_the_slow_loop(name, classes, make_process, make_pair, make_toy):
    """Every objective, unconditional and class-conditional, in micro-batches of 4."""
    process = make_process("epsilon")
    pair = make_pair(7, gap=0.7, low=200, classes=classes)
    rows = prepared(OBJECTIVES[name], process, pair.forget)(process, pair, stream(1))
    denoiser, frozen = make_toy(classes=classes), make_toy(classes=classes, seed=1)
    actual = GradientEngine(micro_batch_rows=4)(denoiser, rows, 0, frozen)
    keep, forget, losses = slow_gradients(denoiser, rows, frozen)
    assert_same_gradients(actual, (keep, forget))
    torch.testing.assert_close(actual.keep_losses.double(), losses[0], rtol=1e-5, atol=1e-6)
    scale = float(losses[1].max())
    torch.testing.assert_close(
        actual.forget_losses.double(), losses[1], rtol=1e-5, atol=2e-6 * scale
    )
    gramian = actual.gramian()
    if name != "NegGrad":
        assert gramian.kk > 0
    if name != "NaiveDeletion":
        assert gramian.ff > 0


def test_loss_is_divided_by_pairs_not_rows(make_process, make_pair, make_toy):
    """SISSNoIS has 2B rows; its keep side must be the mean over B pairs, which is naive deletion's
    gradient on the same pairs, and its forget side NegGrad's."""
    process, pair, denoiser = make_process("epsilon"), make_pair(5), make_toy()
    engine = GradientEngine()
    both, naive, neggrad = (
        engine(denoiser, objective(process, pair, stream()))
        for objective in (SISSNoIS(), NaiveDeletion(), NegGrad())
    )
    assert_same_gradients(both, (naive.keep, neggrad.forget))


def test_conditioning_reaches_the_denoiser(make_process, make_pair, make_toy):
    """Only the embeddings of the labels that occur get a gradient."""
    pair = make_pair(4, classes=1)
    labels = torch.tensor([2, 0, 2, 2])
    pair = replace(pair, keep_cond=labels, forget_cond=labels)
    denoiser = make_toy(classes=4)
    rows = SISS()(make_process("epsilon"), pair, stream())
    gradients = GradientEngine()(denoiser, rows)
    names = [name for name, param in denoiser.named_parameters() if param.requires_grad]
    embedding = gradients.keep[names.index("label.weight")]
    assert (embedding.abs().sum(dim=1) > 0).tolist() == [True, False, True, False]


def test_unused_parameters_give_zeros_and_frozen_ones_are_left_out(make_toy):
    denoiser = make_toy()
    gradients = GradientEngine()(denoiser, sided_rows("kbf"))
    params = trainable(denoiser)
    assert len(gradients.keep) == len(gradients.forget) == len(params)
    assert all(param is not denoiser.frozen for param in params)
    index = next(i for i, param in enumerate(params) if param is denoiser.unused)
    for side in (gradients.keep, gradients.forget):
        torch.testing.assert_close(side[index], torch.zeros(3), rtol=0, atol=0)
    assert all(param.grad is None for param in denoiser.parameters())


def test_an_absent_side_gives_a_zero_gradient(make_process, make_pair, make_toy):
    """A Bernoulli batch can hold no forget row at all; that is no error."""
    denoiser = make_toy()
    for lam, empty, full in ((0.0, "forget", "keep"), (1.0, "keep", "forget")):
        rows = BernoulliSubscore(lam=lam)(make_process("epsilon"), make_pair(), stream())
        gradients = GradientEngine()(denoiser, rows)
        assert all(not grad.any() for grad in getattr(gradients, empty))
        assert any(grad.any() for grad in getattr(gradients, full))
    nothing = GradientEngine()(denoiser, sided_rows("---"))
    assert nothing.gramian().kk == nothing.gramian().ff == 0
    assert nothing.counts.forward_passes == 0


@pytest.mark.parametrize(
    ("sides", "forward", "backward"),
    [
        ("kkkkk", [2, 2, 1], [2, 2, 1]),
        ("fff", [2, 1], [2, 1]),
        ("bbb", [2, 1], [2, 2, 1, 1]),
        ("kbfkbf", [2, 2, 2], [2, 2, 2, 2]),
        ("-k--b-", [1, 1], [1, 1, 1]),
        ("------", [], []),
    ],
)
def test_a_side_without_weight_costs_no_pass(sides, forward, backward, make_toy):
    """Micro-batches of 2 never mix kinds: one backward pass for keep-only and forget-only rows,
    two for rows with both sides, and not even a forward pass for rows with none."""
    denoiser = make_toy()
    counts = GradientEngine(micro_batch_rows=2)(denoiser, sided_rows(sides)).counts
    assert denoiser.forward_batches == forward
    assert denoiser.backward_batches == backward
    assert (counts.forward_passes, counts.forward_rows) == (len(forward), sum(forward))
    assert (counts.backward_passes, counts.backward_rows) == (len(backward), sum(backward))
    assert counts.rows == len(sides)


def test_negligible_terms_are_dropped_and_counted(make_toy):
    """Below 1e-6 of the side's own largest weight, whatever the other side's scale."""
    rows = sided_rows("bbbb")
    rows = replace(
        rows,
        keep=replace(rows.keep, weight=torch.tensor([1.0, 1e-7, 2e-6, 0.0])),
        forget=replace(rows.forget, weight=torch.tensor([1e-9, 1e-12, 0.0, 1e-17])),
    )
    denoiser = make_toy()
    gradients = GradientEngine(micro_batch_rows=1)(denoiser, rows)
    assert gradients.counts.terms_dropped == 2  # keep of row 1, forget of row 3
    # Rows 0 (both), 1 (forget), 2 (keep) remain.
    assert gradients.counts.forward_rows == 3 and gradients.counts.backward_rows == 4
    assert (gradients.keep_losses != 0).tolist() == [True, False, True, False]
    assert (gradients.forget_losses != 0).tolist() == [True, True, False, False]
    everything = GradientEngine(negligible_weight=0.0)(denoiser, rows)
    assert everything.counts.terms_dropped == 0 and everything.counts.backward_rows == 6
    assert_same_gradients(everything, (gradients.keep, gradients.forget))


@pytest.mark.parametrize("largest", [1e-30, 1.0, 1e30])
def test_drop_negligible_is_relative(largest):
    weight = largest * torch.tensor([1.0, 0.5e-6, 2e-6, 0.0])
    term, dropped = drop_negligible(Term(torch.zeros(4, 1), weight), 1e-6)
    assert (term.weight != 0).tolist() == [True, False, True, False]
    assert dropped == 1
    assert drop_negligible(Term(torch.zeros(0, 1), torch.zeros(0)), 1e-6)[1] == 0


def test_lam_zero_keeps_its_forget_side(make_process, make_pair, make_toy):
    """At lam = 0 forget weights are e^(-Delta), here all far below 1e-6: relative to each other
    they still count."""
    rows = SISS(lam=0.0)(make_process("epsilon"), make_pair(gap=2.5, low=250, high=251), stream())
    assert 0 < rows.forget.weight.max() < 1e-6
    gradients = GradientEngine()(make_toy(), rows)
    assert gradients.gramian().ff > 0


class Spoiled(torch.nn.Module):
    """Adds ``value`` to the prediction at one timestep."""

    def __init__(self, denoiser, timestep, value):
        super().__init__()
        self.denoiser, self.timestep, self.value = denoiser, timestep, value

    def forward(self, noisy, t, cond=None):
        error = torch.where(t == self.timestep, self.value, 0.0)
        return self.denoiser(noisy, t, cond) + error.reshape(-1, 1, 1, 1)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e25])
def test_non_finite_losses_name_step_rows_and_timesteps(value, make_toy):
    """nan, inf, and a prediction whose square alone overflows float32."""
    rows = sided_rows("kbfbk")
    gradients = GradientEngine()(Spoiled(make_toy(), 25, value), rows)
    with pytest.raises(NonFiniteError, match=r"step 12: .*rows \[2\] at timesteps \[25\]"):
        gradients.require_finite(gradients.gramian(), rows, 12)


@pytest.mark.parametrize("factors", [None, (1.0, -0.3)])
def test_losses_are_brought_with_the_inner_products(factors, make_toy):
    gradients = GradientEngine()(make_toy(), sided_rows("kbfbk"), factors=factors)
    here, gramian = gradients.with_losses_here()
    assert gramian == gradients.gramian()
    for name in ("keep_losses", "forget_losses"):
        torch.testing.assert_close(getattr(here, name), getattr(gradients, name), rtol=0, atol=0)
    assert here.flat_keep is gradients.flat_keep


def test_a_non_finite_backward_pass_is_told_apart(make_toy):
    """The square root of 0 has value 0 and slope infinity."""

    class Cusp(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))

        def forward(self, noisy, t, cond=None):
            return noisy + self.weight.sqrt()

    rows = sided_rows("kb")
    gradients = GradientEngine()(Cusp(), rows)
    with pytest.raises(NonFiniteError, match=r"step 3: .*losses are finite"):
        gradients.require_finite(gradients.gramian(), rows, 3)


def test_finite_gradients_pass(make_toy):
    rows = sided_rows("kbf")
    gradients = GradientEngine()(make_toy(), rows)
    gradients.require_finite(gradients.gramian(), rows, 1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_write_sets_grad(dtype, make_toy):
    """u_keep g_keep + u_forget g_forget in the parameter's dtype, replacing what was there."""
    denoiser = make_toy()
    gradients = GradientEngine()(denoiser, sided_rows("kbf"))
    params = [torch.nn.Parameter(param.detach().to(dtype)) for param in trainable(denoiser)]
    for _ in range(2):
        gradients.write(params, 0.5, -2.0)
    for param, keep, forget in zip(params, gradients.keep, gradients.forget, strict=True):
        torch.testing.assert_close(param.grad, (0.5 * keep - 2 * forget).to(dtype))


def test_joined_parts_equal_the_weighted_sum_of_separate_runs(make_process, make_pair, make_toy):
    """g(concatenate) = sum of factor * g(part), each part divided by its own number of pairs."""
    process, denoiser, engine = make_process("epsilon"), make_toy(), GradientEngine()
    first = SISS()(process, make_pair(6, gap=0.3, low=500), stream(1))
    second = SISSNoIS()(process, make_pair(4, seed=1), stream(2))
    third = NaiveDeletion()(process, make_pair(3, seed=2), stream(3))
    parts = [(first, 1.0), (second, 0.25), (third, 3.0)]
    together = engine(denoiser, concatenate(parts))
    separate = [(engine(denoiser, rows), factor) for rows, factor in parts]
    expected = [
        [
            sum(factor * getattr(gradients, side)[i] for gradients, factor in separate)
            for i in range(len(together.keep))
        ]
        for side in ("keep", "forget")
    ]
    assert_same_gradients(together, expected)


def out_of_memory(message):
    return {
        "device": torch.OutOfMemoryError("CUDA out of memory"),
        "host": RuntimeError("DefaultCPUAllocator: can't allocate memory"),
        "python": MemoryError(),
    }[message]


class Cramped(torch.nn.Module):
    """Runs out of memory above ``most`` rows, in the forward or the backward pass."""

    def __init__(self, denoiser, most, error, where="forward"):
        super().__init__()
        self.denoiser, self.most, self.error, self.where = denoiser, most, error, where

    def fail(self, grad=None):
        raise self.error

    def forward(self, noisy, t, cond=None):
        prediction = self.denoiser(noisy, t, cond)
        if len(noisy) > self.most:
            if self.where == "forward":
                self.fail()
            prediction.register_hook(self.fail)
        return prediction


@pytest.mark.parametrize("where", ["forward", "backward"])
@pytest.mark.parametrize("kind", ["device", "host", "python"])
@pytest.mark.parametrize("most", [1, 3, 5])
def test_out_of_memory_halves_and_changes_nothing(most, kind, where, make_toy):
    """Micro-batches shrink until they fit and never grow again; the gradients are the same."""
    denoiser, rows, sizes = make_toy(), sided_rows("k" * 16 + "b" * 16 + "f" * 16), []
    engine = GradientEngine(micro_batch_rows=16, on_shrink=sizes.append)
    actual = engine(Cramped(denoiser, most, out_of_memory(kind), where), rows)
    expected = GradientEngine()(denoiser, rows)
    assert_same_gradients(actual, (expected.keep, expected.forget))
    assert actual.counts.forward_rows == 48 and actual.counts.backward_rows == 64
    assert engine.micro_batch_rows <= most
    assert all(later < earlier for earlier, later in zip([16, *sizes], sizes, strict=False))
    assert sizes[-1] == engine.micro_batch_rows


def test_out_of_memory_with_one_row_and_other_errors_are_raised(make_toy):
    rows = sided_rows("kkkk")
    with pytest.raises(torch.OutOfMemoryError):
        GradientEngine()(Cramped(make_toy(), 0, out_of_memory("device")), rows)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        GradientEngine()(Cramped(make_toy(), 2, RuntimeError("shapes do not match")), rows)
