from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from dataunlearn.assets import asset
from dataunlearn.data import ArrayImages, ConcatImages, SubsetImages, open_images
from dataunlearn.metrics.copy_frequency import copy_frequency
from dataunlearn.metrics.intervals import wilson
from dataunlearn.metrics.pixel_distance import (
    are_copies,
    copy_threshold,
    distinct_indices,
    pixel_distances,
)
from dataunlearn.metrics.regeneration import quarter_timesteps, regenerate
from dataunlearn.models import DiffusionModel
from dataunlearn.models.sampling import Drawing
from dataunlearn.unlearning.generated_keep import far_from, generated_count, generated_images


def test_distances_against_numpy() -> None:
    generator = np.random.default_rng(0)
    images = generator.uniform(-1, 1, (5, 3, 4, 4))
    originals = generator.uniform(-1, 1, (2, 3, 4, 4))
    expected = [
        [np.sqrt((((a + 1) / 2 - (b + 1) / 2) ** 2).sum()) for b in originals] for a in images
    ]
    found = pixel_distances(torch.from_numpy(images), torch.from_numpy(originals))
    torch.testing.assert_close(found, torch.tensor(expected))


def test_identical_pictures_have_distance_exactly_zero() -> None:
    images = torch.rand(3, 1, 28, 28) * 2 - 1
    assert pixel_distances(images, images).diagonal().eq(0).all()


def test_tshirt_distance_to_the_shipped_digits() -> None:
    """The nearest of all 60,000 digits is 11.4851 away, the mean 14.6078 (Fashion-MNIST 1)."""
    shirt = open_images(str(asset("tshirt.png")), (1, 28, 28))
    digits = open_images(str(asset("digits.npz")), (1, 28, 28))
    distances = pixel_distances(digits.batch(torch.arange(10_000)), shirt.batch(torch.tensor([0])))
    assert distances.min() >= 11.485
    assert distances.mean().item() == pytest.approx(14.6078, abs=0.05)
    threshold = copy_threshold(shirt, digits)
    assert threshold == pytest.approx(7 / 8 * distances.min().item(), rel=1e-6)


def test_far_from_everything_is_no_reason_to_call_anything_a_copy() -> None:
    """Plain white is 22 from the nearest digit, the T-shirt 19.6 from white: not its copy."""
    shirt = open_images(str(asset("tshirt.png")), (1, 28, 28))
    digits = open_images(str(asset("digits.npz")), (1, 28, 28))
    white = ArrayImages(np.full((1, 1, 28, 28), 255, np.uint8))
    pictures = digits.batch(torch.arange(5000, 6000))
    apart = pixel_distances(pictures[:300], pictures)
    apart[apart == 0] = torch.inf
    bound = 1.5 * float(apart.amin(1).quantile(0.99))
    threshold = copy_threshold(white, digits)
    assert threshold == pytest.approx(bound, rel=0.1)  # others were drawn
    far = pixel_distances(white.batch(torch.tensor([0])), shirt.batch(torch.tensor([0])))
    assert threshold < float(far) < 7 / 8 * 22.9


def test_few_keep_images_do_not_bound_it(make_images: Callable[..., ArrayImages]) -> None:
    keep, forget = make_images(49, seed=1), ArrayImages(np.zeros((1, 1, 8, 8), np.uint8))
    black = forget.batch(torch.tensor([0]))
    nearest = float(pixel_distances(keep.batch(torch.arange(49)), black).min())
    assert copy_threshold(forget, keep) == pytest.approx(7 / 8 * nearest)


def test_copy_frequency_counts_and_has_an_interval() -> None:
    original = torch.zeros(1, 1, 4, 4)
    images = torch.zeros(10, 1, 4, 4)
    images[3:] = 1  # distance sqrt(16) / 2 = 2
    found = copy_frequency(images, original, threshold=1.99)
    assert found.value == pytest.approx(0.3)
    assert found.interval == wilson(3, 10)
    assert are_copies(images, original, 2.01).all()


def test_threshold_leaves_out_identical_keep_images(
    make_images: Callable[..., ArrayImages],
) -> None:
    keep = make_images(5, seed=1)
    forget = SubsetImages(keep, [2])
    distances = pixel_distances(keep.batch(torch.arange(5)), forget.batch(torch.tensor([0])))
    second = distances.flatten().sort().values[1].item()
    assert copy_threshold(forget, keep) == pytest.approx(7 / 8 * second)
    with pytest.raises(ValueError, match="identical"):
        copy_threshold(forget, forget)


def test_distinct_indices_skip_copies(make_images: Callable[..., ArrayImages]) -> None:
    images = make_images(3)
    many = ConcatImages([SubsetImages(images, [0, 0, 1]), SubsetImages(images, [1, 2])])
    assert distinct_indices(many) == [0, 2, 4]
    assert distinct_indices(many, limit=2) == [0, 2]


class Memory(torch.nn.Module):
    """A denoiser that believes in one picture, whatever it sees."""

    def __init__(self, model: DiffusionModel, picture: torch.Tensor) -> None:
        super().__init__()
        self.process, self.picture = model.process, picture
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(
        self, noisy: torch.Tensor, t: torch.Tensor, cond: torch.Tensor | None = None
    ) -> torch.Tensor:
        return self.process.target(noisy, self.picture.expand_as(noisy), t)


def test_regeneration_tells_a_model_that_knows_from_one_that_does_not(
    make_model: Callable[..., DiffusionModel],
) -> None:
    known, unknown = torch.full((1, 1, 8, 8), 0.5), torch.full((1, 1, 8, 8), -0.5)
    model = make_model()
    model.denoiser = Memory(model, known)  # type: ignore[assignment]
    settings: dict[str, Any] = {
        "copies": 6,
        "threshold": 1.0,
        "drawing": Drawing(num_steps=4),
    }
    found = regenerate(model, known, 500, **settings)
    assert found.share == 1.0 and len(found.images) == 6
    assert found.interval == wilson(6, 6)
    assert regenerate(model, unknown, 500, **settings).share == 0.0
    both = regenerate(model, torch.cat([known, unknown]), 500, **settings)
    assert both.share == 0.5  # each try counts against its own original only


def test_quarters(make_model: Callable[..., DiffusionModel]) -> None:
    assert quarter_timesteps(make_model().process) == (250, 500, 750, 999)


def test_generated_spec() -> None:
    assert generated_count("generated:20") == 20
    assert generated_count("folder") is None
    for bad in (
        "generated",
        "generated:",
        "generated:0",
        "generated:x",
        "generated:100000000000000",
    ):
        with pytest.raises(ValueError, match="generated:NUMBER"):
            generated_count(bad)


def test_generated_keep_drops_what_is_near_a_forget_image(
    make_model: Callable[..., DiffusionModel], make_images: Callable[..., ArrayImages]
) -> None:
    originals = torch.zeros(1, 1, 8, 8)
    far = torch.rand(9, 1, 8, 8)
    near = torch.full((2, 1, 8, 8), 0.01)
    assert far_from(torch.cat([far, near]), originals).tolist() == [True] * 9 + [False] * 2
    images = generated_images(make_model(), make_images(1), 6, shown=False)
    assert 1 <= len(images) <= 6 and images.shape == (1, 8, 8)
    again = generated_images(make_model(), make_images(1), 6, shown=False)
    assert images.digests() == again.digests()
