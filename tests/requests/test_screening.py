"""Looking at many requests at once: what is still known is never called clear."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from by_heart import ByHeart
from dataunlearn.data import ImageSet, open_images
from dataunlearn.models import DiffusionModel
from dataunlearn.requests.records import NamedPicture, Request, Version, VersionState
from dataunlearn.requests.screening import SCREEN, groups, looked_at, screened
from dataunlearn.verification.config import Verifying
from dataunlearn.verification.subject import Pictures, Subject, make_subject

SHAPE = (1, 8, 8)
VERSION = Version(7, 6, VersionState.MADE, "2026-11-02T00:00:00Z")
COUNT = 6


def pictures(count: int, seed: int) -> ImageSet:
    pixels = np.random.default_rng(seed).integers(0, 256, (count, 8, 8), dtype=np.uint8)
    return open_images(pixels, SHAPE)


FORGET, KEEP = pictures(COUNT, 0), pictures(24, 1)


def request(number: int, rows: Sequence[int]) -> Request:
    named = tuple(NamedPicture(f"{row}.png", FORGET.digest(row)) for row in rows)
    return Request(number, f"letter {number}", "", "2026-11-01", "", "forget.npy", named)


# The fourth one asks for a picture of the third, too.
REQUESTS = [request(1, [0]), request(2, [1, 2]), request(3, [3]), request(4, [3, 4, 5])]


@pytest.fixture
def subject(make_model: Callable[..., DiffusionModel]) -> Callable[..., Subject]:
    """``subject(known)``: a model that knows these of the pictures, beside one that knows all."""

    def make(known: Sequence[int], wrap: Callable[[nn.Module], nn.Module] = lambda n: n) -> Subject:
        model, every = make_model(), FORGET.batch(torch.arange(COUNT))
        before = replace(model, denoiser=ByHeart(model.process, every))
        network = wrap(ByHeart(model.process, every[list(known)]))
        after = replace(make_model(), denoiser=network)
        settings = Verifying(effort="quick", regeneration_steps=5)
        given = Pictures(FORGET, KEEP)
        return make_subject(after, given, settings, before=before, shown=False)

    return make


def clear(found: Subject) -> list[int]:
    verified = screened(found, looked_at(found), VERSION, REQUESTS)
    assert all(each.memory == "as if never seen" and each.version == 7 for each in verified)
    assert all(each.effort == SCREEN for each in verified)
    return [each.request for each in verified]


@pytest.mark.parametrize(
    ("known", "expected"),
    [([], [1, 2, 3, 4]), ([0], [2, 3, 4]), ([2], [1, 3, 4]), ([3], [1, 2]), (range(COUNT), [])],
)
def test_those_whose_pictures_are_known_are_not_clear(
    known: Sequence[int], expected: list[int], subject: Callable[..., Subject]
) -> None:
    """One known picture of several is enough; a picture of two requests concerns both."""
    assert clear(subject(known)) == expected


class Louder(nn.Module):
    """A model whose answers for some pictures are far off: pushed past what they should be."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network
        self.anchor = nn.Parameter(torch.zeros(()))
        self.picture = FORGET.batch(torch.tensor([1]))

    def forward(self, noisy: Tensor, t: Tensor, cond: Any) -> Tensor:
        answer: Tensor = self.network(noisy, t, cond)
        gamma = self.network.process.gamma(t).to(noisy)[:, None, None, None]
        sigma = self.network.process.sigma(t).to(noisy)[:, None, None, None]
        apart = (noisy - gamma * self.picture) / sigma  # its noise, if it is that picture
        near = (apart.flatten(1).square().mean(1) < 2) & (t < 300)
        return torch.where(near[:, None, None, None], 3 * answer, answer)


def test_pictures_that_were_pushed_are_not_clear_either(subject: Callable[..., Subject]) -> None:
    assert clear(subject([], Louder)) == [1, 3, 4]


class Broken(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.anchor = nn.Parameter(torch.zeros(()))

    def forward(self, noisy: Tensor, t: Tensor, cond: Any) -> Tensor:
        return noisy * torch.nan


def test_a_broken_model_clears_nothing(subject: Callable[..., Subject]) -> None:
    found = subject([], Broken)
    try:
        assert clear(found) == []
    except ValueError as error:  # which is no verdict, either
        assert "NaN" in str(error) or "finite" in str(error)


def test_words_and_numbers(subject: Callable[..., Subject]) -> None:
    found = subject([])
    verified = screened(found, looked_at(found), VERSION, REQUESTS)
    two = verified[1]
    assert "none of 16 tries restores it from half of the noise" in two.words
    assert two.numbers[SCREEN]["tries"] == 16
    assert len(two.numbers[SCREEN]["over_level"]["by_image"]) == 2


def test_groups_hold_as_many_pictures_as_are_measured_at_once() -> None:
    def of(*counts: int) -> list[Request]:
        picture = NamedPicture("a.png", "1" * 64)
        return [
            replace(REQUESTS[0], id=number, pictures=(picture,) * count)
            for number, count in enumerate(counts, 1)
        ]

    found = [[request.id for request in group] for group in groups(of(30, 30, 5, 60, 4, 1))]
    assert found == [[1, 2], [3], [4, 5], [6]]
    assert list(groups([])) == []
