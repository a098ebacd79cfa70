"""Views: signed permutations that are what torch's own operations do, and undo themselves."""

from __future__ import annotations

import math

import pytest
import torch

from dataunlearn.views import (
    channel_permutations,
    negative,
    plain_views,
    products,
    sheared,
    shears,
    shifted,
    small_shifts,
    turns_and_flips,
)

SHAPES = [(1, 4, 4), (3, 4, 4), (4, 3, 3), (1, 2, 5), (3, 6, 3), (4, 4, 2)]

# What each view does to samples (B, C, H, W), in torch's own operations; rot90 turns left.
PLAIN = {
    "mirrored": lambda x: x.flip(3),
    "upside down": lambda x: x.flip(2),
    "half turn": lambda x: x.rot90(2, (2, 3)),
    "quarter turn left": lambda x: x.rot90(1, (2, 3)),
    "quarter turn right": lambda x: x.rot90(3, (2, 3)),
    "transposed": lambda x: x.mT,
    "transposed, half turn": lambda x: x.mT.rot90(2, (2, 3)),
    "colours RBG": lambda x: x[:, [0, 2, 1]],
    "colours GRB": lambda x: x[:, [1, 0, 2]],
    "colours GBR": lambda x: x[:, [1, 2, 0]],
    "colours BRG": lambda x: x[:, [2, 0, 1]],
    "colours BGR": lambda x: x[:, [2, 1, 0]],
    "shifted by half": lambda x: x.roll((x.shape[2] // 2, x.shape[3] // 2), (2, 3)),
    "negative": lambda x: -x,
}
ON_SQUARES = {name for name in PLAIN if "quarter" in name or "transposed" in name}
COLOURS = {name for name in PLAIN if name.startswith("colours")}


def samples(shape, count=5):
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(0))


def all_views(shape):
    combined = products(turns_and_flips(shape), channel_permutations(shape))
    shifts = {"shifted": shifted(shape, 1, -1)} | shears(shape) | small_shifts(shape)
    return plain_views(shape) | combined | shifts


@pytest.mark.parametrize("shape", SHAPES)
def test_there_are_the_views_that_keep_the_shape(shape):
    """Quarter turns and transpositions of squares alone, channel orders of three channels."""
    wanted = set(PLAIN)
    wanted -= set() if shape[1] == shape[2] else ON_SQUARES
    wanted -= set() if shape[0] == 3 else COLOURS
    assert set(plain_views(shape)) == wanted
    num_turns = 7 if shape[1] == shape[2] else 3
    num_orders = math.factorial(shape[0]) - 1 if shape[0] <= 3 else 0
    assert len(turns_and_flips(shape)) == num_turns
    assert len(channel_permutations(shape)) == num_orders
    combined = products(turns_and_flips(shape), channel_permutations(shape))
    assert len(combined) == num_turns * num_orders


@pytest.mark.parametrize("shape", SHAPES)
def test_a_view_is_the_plain_operation(shape):
    given = samples(shape)
    for name, view in plain_views(shape).items():
        assert torch.equal(view(given), PLAIN[name](given)), name
    assert torch.equal(shifted(shape, 1, -1)(given), given.roll(1, 2).roll(-1, 3))
    assert torch.equal(negative(shape)(given), -given)


@pytest.mark.parametrize("slope", [0.4, -0.6, 1.0])
@pytest.mark.parametrize("shape", [(1, 4, 4), (3, 9, 6), (2, 28, 28)])
def test_a_shear_moves_each_line_by_its_distance_to_the_middle(shape, slope):
    given = samples(shape)
    _, height, width = shape
    leaning, slanting = (sheared(shape, slope, axis)(given) for axis in (2, 1))
    for row in range(height):
        by = round(slope * (row - (height - 1) / 2))
        assert torch.equal(leaning[:, :, row], given[:, :, row].roll(by, 2))
    for column in range(width):
        by = round(slope * (column - (width - 1) / 2))
        assert torch.equal(slanting[..., column], given[..., column].roll(by, 2))


def test_a_shear_of_a_square_is_a_parallelogram():
    square = -torch.ones(1, 1, 9, 9)
    square[:, :, 3:6, 3:6] = 1
    leaning = shears((1, 9, 9))["leaning left by 0.6"](square)[0, 0]
    lit = [(leaning[row] > 0).nonzero().flatten().tolist() for row in (3, 4, 5)]
    assert lit == [[2, 3, 4], [3, 4, 5], [4, 5, 6]]


def test_small_shifts_move_by_a_ninth_in_all_four_directions():
    given = samples((1, 18, 27))
    views = small_shifts((1, 18, 27))
    assert torch.equal(views["shifted down and right"](given), given.roll((2, 3), (2, 3)))
    assert torch.equal(views["shifted up and left"](given), given.roll((-2, -3), (2, 3)))
    assert torch.equal(views["shifted up and right"](given), given.roll((-2, 3), (2, 3)))
    assert torch.equal(views["shifted down and left"](given), given.roll((2, -3), (2, 3)))


def test_two_channels_change_places():
    given = samples((2, 3, 3))
    (view,) = channel_permutations((2, 3, 3)).values()
    assert torch.equal(view(given), given[:, [1, 0]])


@pytest.mark.parametrize("shape", SHAPES)
def test_the_inverse_gives_every_bit_back(shape):
    given = samples(shape)
    for name, view in all_views(shape).items():
        assert torch.equal(view.inverse(view(given)), given), name
        assert torch.equal(view(view.inverse(given)), given), name


@pytest.mark.parametrize("shape", SHAPES)
def test_a_view_is_a_signed_permutation(shape):
    """Its matrix has one entry of 1 or -1 in every row and column, so it is orthogonal."""
    size = math.prod(shape)
    basis = torch.eye(size).reshape(size, *shape)
    for name, view in all_views(shape).items():
        matrix = view(basis).reshape(size, size)
        assert torch.equal(matrix.abs().sum(0), torch.ones(size)), name
        assert torch.equal(matrix.abs().sum(1), torch.ones(size)), name
        assert set(matrix.unique().tolist()) <= {-1.0, 0.0, 1.0}, name
        assert torch.equal(matrix @ matrix.T, torch.eye(size)), name


@pytest.mark.parametrize("shape", SHAPES)
def test_the_sum_of_squares_is_kept(shape):
    """Exactly: the same squares, of which there are few enough to add up in whole numbers."""
    whole = torch.randint(-9, 10, (5, *shape), generator=torch.Generator().manual_seed(1)).float()
    for name, view in all_views(shape).items():
        squares = view(whole).square().flatten(1).sum(1)
        assert torch.equal(squares, whole.square().flatten(1).sum(1)), name


def test_white_noise_stays_white():
    """The covariance of N draws is the identity, each entry within five standard errors.

    An entry off the diagonal has variance 1/N, one on it 2/N (a mean of squares of normals).
    """
    shape, count = (3, 2, 2), 20_000
    noise = torch.randn(count, *shape, generator=torch.Generator().manual_seed(2))
    deviation = (torch.ones(12, 12) + torch.eye(12)).sqrt() / math.sqrt(count)
    for name, view in all_views(shape).items():
        seen = view(noise).flatten(1)
        away = (seen.T @ seen / count - torch.eye(12)).abs()
        assert bool((away < 5 * deviation).all()), name


@pytest.mark.parametrize("shape", [(3, 4, 4), (3, 2, 5)])
def test_a_product_is_one_after_the_other(shape):
    given = samples(shape)
    turns, colours = turns_and_flips(shape), channel_permutations(shape)
    combined = products(turns, colours)
    for outer, turn in turns.items():
        for inner, colour in colours.items():
            view = combined[f"{outer}, {inner}"]
            assert torch.equal(view(given), turn(colour(given)))
            assert torch.equal(view(given), PLAIN[outer](PLAIN[inner](given)))


def test_products_keep_their_order():
    """A shift and a turn do not commute: the first one named is done last."""
    shape = (1, 4, 4)
    given = samples(shape)
    shift, turns = {"shift": shifted(shape, 1, 0)}, turns_and_flips(shape)
    (view,) = products({"turn": turns["quarter turn left"]}, shift).values()
    expected = given.roll(1, 2).rot90(1, (2, 3))
    assert torch.equal(view(given), expected)
    assert not torch.equal(view(given), given.rot90(1, (2, 3)).roll(1, 2))
