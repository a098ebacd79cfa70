"""Pairs and rows: checks, selection, scaling and joining."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from dataunlearn.objectives import SISSNoIS
from dataunlearn.rows import Pair, Rows, Term, concatenate


def make_rows(count=3, seed=0, num_pairs=0, classes=False):
    generator = torch.Generator().manual_seed(seed)
    inputs, keep, forget = torch.randn(3, count, 1, 2, 2, generator=generator)
    weights = torch.rand(2, count, generator=generator)
    return Rows(
        inputs,
        torch.arange(count) + 10 * seed,
        Term(keep, weights[0]),
        Term(forget, weights[1]),
        torch.arange(count) if classes else None,
        num_pairs,
    )


@pytest.mark.parametrize("field", ["keep", "forget", "noise"])
def test_pair_needs_one_shape(field, make_pair):
    pair = make_pair()
    with pytest.raises(ValueError, match="one shape"):
        replace(pair, **{field: getattr(pair, field)[:-1]})


def test_pair_needs_one_timestep_each_and_conditioning_on_both_sides(make_pair):
    pair = make_pair(4)
    assert len(pair) == 4
    with pytest.raises(ValueError, match=r"t must have shape \(4,\)"):
        Pair(pair.keep, pair.forget, pair.t[:3], pair.noise)
    with pytest.raises(ValueError, match="both sides or for neither"):
        replace(pair, keep_cond=pair.t)


def test_rows_check_their_terms():
    rows = make_rows()
    with pytest.raises(ValueError, match="each target needs"):
        replace(rows, keep=Term(rows.keep.target[:2], rows.keep.weight))
    with pytest.raises(ValueError, match="each target needs"):
        replace(rows, forget=Term(rows.forget.target, rows.forget.weight[:2]))


def test_number_of_pairs_defaults_to_rows_and_survives_selection():
    assert make_rows(3).num_pairs == 3
    rows = make_rows(4, num_pairs=2, classes=True)
    taken = rows.take(torch.tensor([3, 1]))
    assert len(taken) == 2 and taken.num_pairs == 2
    assert taken.t.tolist() == taken.cond.tolist() == [3, 1]
    torch.testing.assert_close(taken.keep.target, rows.keep.target[[3, 1]])
    torch.testing.assert_close(taken.forget.weight, rows.forget.weight[[3, 1]])
    assert rows.to(torch.device("cpu")).num_pairs == 2


def test_scaled_touches_both_weights_only():
    rows = make_rows()
    scaled = rows.scaled(0.25)
    torch.testing.assert_close(scaled.keep.weight, rows.keep.weight / 4)
    torch.testing.assert_close(scaled.forget.weight, rows.forget.weight / 4)
    torch.testing.assert_close(scaled.keep.target, rows.keep.target)
    assert scaled.num_pairs == rows.num_pairs


def test_concatenate_divides_each_part_by_its_own_pairs():
    first, second = make_rows(4, 1, num_pairs=2), make_rows(3, 2)
    joined = concatenate([(first, 1.0), (second, 0.5)])
    assert joined.num_pairs == 1 and len(joined) == 7
    expected = torch.cat([first.keep.weight / 2, second.keep.weight * 0.5 / 3])
    torch.testing.assert_close(joined.keep.weight, expected)
    torch.testing.assert_close(joined.inputs, torch.cat([first.inputs, second.inputs]))
    assert joined.t.tolist() == [*first.t.tolist(), *second.t.tolist()]


def test_concatenate_joins_conditioning_or_refuses():
    parts = [(make_rows(2, classes=True), 1.0), (make_rows(3, classes=True), 1.0)]
    assert concatenate(parts).cond.tolist() == [0, 1, 0, 1, 2]
    with pytest.raises(ValueError, match="need conditioning, or none"):
        concatenate([parts[0], (make_rows(3), 1.0)])


def test_concatenate_of_one_part_keeps_its_loss(make_process, make_pair):
    rows = SISSNoIS()(make_process("epsilon"), make_pair(4), torch.Generator())
    joined = concatenate([(rows, 1.0)])
    torch.testing.assert_close(joined.keep.weight.sum(), torch.tensor(1.0))
    assert joined.num_pairs == 1


def test_forget_numbers_are_one_a_pair(make_pair):
    pair = make_pair(4)
    with pytest.raises(ValueError, match="one entry a pair"):
        replace(pair, forget_index=torch.arange(3))
    assert replace(pair, forget_index=None).forget_index is None
