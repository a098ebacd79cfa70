import math
from importlib.resources import files

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from dataunlearn.metrics.digits import (
    DigitClassifier,
    digit_quality,
    inception_score,
    load_digit_classifier,
)
from dataunlearn.metrics.inception import score_interval
from dataunlearn.metrics.intervals import wilson

ASSETS = files("dataunlearn") / "assets"


class FixedLogits(DigitClassifier):
    """Gives the logits that it is told, in order; its input's first pixel is the row number."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.rows = nn.Parameter(logits)

    def forward(self, images: Tensor) -> Tensor:
        return self.rows[(images[:, 0, 0, 0] * 100).round().long()]


def numbered_images(num_images: int) -> Tensor:
    images = torch.zeros(num_images, 1, 28, 28)
    images[:, 0, 0, 0] = torch.arange(num_images) / 100
    return images


@pytest.fixture(scope="module")
def classifier() -> DigitClassifier:
    return load_digit_classifier()


@pytest.fixture(scope="module")
def digits() -> tuple[Tensor, Tensor]:
    with (ASSETS / "digits.npz").open("rb") as file, np.load(file) as arrays:
        x, y = torch.from_numpy(arrays["x"]), torch.from_numpy(arrays["y"])
    assert x.shape == (10_000, 28, 28) and x.dtype == torch.uint8
    assert y.shape == (10_000,) and y.dtype == torch.uint8
    return x[:2000, None].float() / 127.5 - 1, y[:2000].long()


def test_inception_score_of_one_class_is_1() -> None:
    p = np.zeros((40, 10))
    p[:, 3] = 1
    np.testing.assert_allclose(inception_score(p, 4), np.ones(4), rtol=1e-12)


def test_inception_score_of_equal_shares_of_sure_classes_is_10() -> None:
    p = np.tile(np.eye(10), (6, 1))
    np.testing.assert_allclose(inception_score(p, 3), np.full(3, 10.0), rtol=1e-12)


def test_inception_score_of_identical_unsure_rows_is_1() -> None:
    p = np.tile(np.arange(1.0, 11.0) / 55, (12, 1))
    np.testing.assert_allclose(inception_score(p, 2), np.ones(2), rtol=1e-12)


def test_inception_score_closed_form_of_two_mirrored_rows() -> None:
    """Rows (a, 1-a) and (1-a, a): p(y) = (1/2, 1/2), so the score is 2 exp(-H(a))."""
    a = 0.8
    entropy = -a * math.log(a) - (1 - a) * math.log(1 - a)
    p = np.tile([[a, 1 - a], [1 - a, a]], (5, 1))
    np.testing.assert_allclose(inception_score(p, 5), 2 * math.exp(-entropy), rtol=1e-12)


def test_inception_score_is_a_slow_loops() -> None:
    p = np.random.default_rng(0).dirichlet(np.full(10, 0.3), size=23)

    def slow(part: NDArray[np.float64]) -> float:
        marginal = [sum(row[c] for row in part) / len(part) for c in range(10)]
        terms = (row[c] * math.log(row[c] / marginal[c]) for row in part for c in range(10))
        return math.exp(sum(terms) / len(part))

    expected = [slow(p[:8]), slow(p[8:16]), slow(p[16:])]  # 23 rows in 3 parts: 8, 8, 7
    np.testing.assert_allclose(inception_score(p, 3), expected, rtol=1e-10)


def test_inception_score_rejects() -> None:
    p = np.eye(10)
    for num_splits in (0, 11):
        with pytest.raises(ValueError, match="num_splits"):
            inception_score(p, num_splits)
    with pytest.raises(ValueError, match="shape"):
        inception_score(np.ones(10), 1)
    with pytest.raises(ValueError, match="sum to 1"):
        inception_score(2 * p, 1)
    with pytest.raises(ValueError, match="sum to 1"):
        inception_score(np.full((3, 10), np.nan), 1)


def test_quality_from_known_probabilities() -> None:
    """Four pictures: sure 2, barely 5 (0.6), torn between 1 and 7 (0.4 each), no digit (0.9)."""
    p = torch.full((4, 11), 1e-12)
    p[0, 2] = 1.0
    p[1, 5], p[1, 10] = 0.6, 0.4
    p[2, 1], p[2, 7], p[2, 10] = 0.4, 0.4, 0.2
    p[3, 0], p[3, 10] = 0.1, 0.9
    quality = digit_quality(numbered_images(4), FixedLogits(p.log()).eval(), num_splits=1)
    np.testing.assert_array_equal(quality.per_image.broken, [False, False, True, True])
    assert quality.class_histogram == (0, 0, 1, 0, 0, 1, 0, 0, 0, 0)
    assert quality.broken_share == 0.5
    assert quality.broken_interval == wilson(2, 4)
    assert quality.mean_confidence == pytest.approx((1 + 0.6 + 0.4 + 0.1) / 4, rel=1e-6)
    renormalised = np.zeros((4, 10))
    renormalised[[0, 1, 3], [2, 5, 0]] = 1
    renormalised[2, [1, 7]] = 0.5
    np.testing.assert_allclose(quality.per_image.probabilities, renormalised, atol=1e-9)
    assert quality.inception_score == pytest.approx(inception_score(renormalised, 1)[0], rel=1e-6)
    assert quality.inception_score_std == 0.0


def test_splits_give_mean_and_population_std() -> None:
    logits = torch.randn(60, 11, generator=torch.Generator().manual_seed(0)) * 3
    quality = digit_quality(numbered_images(60), FixedLogits(logits).eval(), num_splits=3)
    scores = inception_score(logits[:, :10].double().softmax(dim=1).numpy(), 3)
    assert quality.inception_score == pytest.approx(scores.mean(), rel=1e-6)
    assert quality.inception_score_std == pytest.approx(scores.std(ddof=0), rel=1e-6)


def test_classifier_size() -> None:
    assert 100_000 <= sum(p.numel() for p in DigitClassifier().parameters()) <= 200_000


def test_shipped_digits_are_read_and_whole(
    classifier: DigitClassifier, digits: tuple[Tensor, Tensor]
) -> None:
    x, y = digits
    quality = digit_quality(x, classifier)
    guess = quality.per_image.probabilities.argmax(axis=1)
    assert (guess == y.numpy()).mean() > 0.98
    assert quality.broken_share < 0.02
    assert quality.inception_score > 9
    assert sum(quality.class_histogram) == 2000 - quality.per_image.broken.sum()


def test_noise_and_debris_are_broken(
    classifier: DigitClassifier, digits: tuple[Tensor, Tensor]
) -> None:
    g = torch.Generator().manual_seed(0)
    x = digits[0][:200]
    garbage = {
        "uniform": 2 * torch.rand(x.shape, generator=g) - 1,
        "gaussian": torch.randn(x.shape, generator=g).clamp(-1, 1),
        "noisy digits": (x + torch.randn(x.shape, generator=g)).clamp(-1, 1),
        "black": -torch.ones(20, 1, 28, 28),
        "white": torch.ones(20, 1, 28, 28),
        "inverted": -x,
    }
    for name, images in garbage.items():
        assert digit_quality(images, classifier).broken_share > 0.95, name


def test_tshirt_is_no_digit(classifier: DigitClassifier) -> None:
    with (ASSETS / "tshirt.png").open("rb") as file, Image.open(file) as picture:
        assert picture.size == (28, 28) and picture.mode == "L"
        tshirt = torch.from_numpy(np.array(picture)).float()[None, None] / 127.5 - 1
    assert digit_quality(tshirt, classifier, num_splits=1).broken_share == 1.0


def test_copies_are_left_out(classifier: DigitClassifier, digits: tuple[Tensor, Tensor]) -> None:
    x = digits[0][:100]
    is_copy = torch.arange(150) % 3 == 0
    mixed = torch.ones(150, 1, 28, 28)
    mixed[~is_copy] = x
    left, expected = digit_quality(mixed, classifier, is_copy), digit_quality(x, classifier)
    assert left == expected
    np.testing.assert_array_equal(left.per_image.broken, expected.per_image.broken)
    with pytest.raises(ValueError, match="sample more images"):
        digit_quality(x, classifier, torch.ones(100, dtype=torch.bool))


def test_batch_size_does_not_matter(
    classifier: DigitClassifier, digits: tuple[Tensor, Tensor]
) -> None:
    x = digits[0][:50]
    whole, parts = digit_quality(x, classifier), digit_quality(x, classifier, batch_size=7)
    assert parts.inception_score == pytest.approx(whole.inception_score, rel=1e-5)
    np.testing.assert_array_equal(parts.per_image.broken, whole.per_image.broken)


def test_arrays_stay_out_of_the_repr(classifier: DigitClassifier) -> None:
    text = repr(digit_quality(torch.zeros(10, 1, 28, 28), classifier))
    assert "per_image" not in text and "broken_share" in text


def test_digit_quality_rejects(classifier: DigitClassifier) -> None:
    good = torch.zeros(20, 1, 28, 28)
    for wrong in (good[:, 0], torch.zeros(20, 3, 28, 28), torch.zeros(20, 1, 32, 32)):
        with pytest.raises(ValueError, match=r"\(N, 1, 28, 28\)"):
            digit_quality(wrong, classifier)
    with pytest.raises(ValueError, match="float"):
        digit_quality(good.to(torch.uint8), classifier)
    for value in (1.5, math.nan, math.inf):
        with pytest.raises(ValueError, match="clamp"):
            digit_quality(torch.full_like(good, value), classifier)
    for is_copy in (torch.zeros(19, dtype=torch.bool), torch.zeros(20)):
        with pytest.raises(ValueError, match="is_copy"):
            digit_quality(good, classifier, is_copy)
    with pytest.raises(ValueError, match="sample more images"):
        digit_quality(good[:5], classifier)
    with pytest.raises(ValueError, match=r"eval\(\)"):
        digit_quality(good, DigitClassifier().train())


def test_score_interval_lies_about_the_score() -> None:
    """The interval belongs to the mean over splits, and narrows with more pictures."""
    rng = np.random.default_rng(0)
    widths = []
    for count in (200, 2000):
        probabilities = rng.dirichlet(np.full(10, 0.2), size=count)
        low, high = score_interval(probabilities, 10, num_resamples=100)
        assert low < inception_score(probabilities, 10).mean() < high
        widths.append(high - low)
    assert widths[1] < widths[0] / 2
