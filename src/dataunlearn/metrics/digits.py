"""Quality of generated digits: Inception Score and share of broken pictures.

Both come from a small classifier of MNIST digits that ships with the package and has an eleventh
class, "no digit", so that noise and debris are not forced into one of the ten digits.
"""

from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load
from torch import Tensor, nn

from dataunlearn.metrics.intervals import wilson

NUM_DIGITS = 10
NUM_SPLITS = 10
NO_DIGIT = 10
MIN_DIGIT_PROBABILITY = 0.5


class DigitClassifier(nn.Module):
    """Convolutional classifier of 28x28 pictures: ten digits and "no digit" (class 10).

    138,451 parameters in four convolutions and two linear layers.
    """

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *_conv_block(1, 24, kernel_size=5, stride=2),  # (N, 24, 14, 14)
            *_conv_block(24, 32),
            nn.MaxPool2d(2),  # (N, 32, 7, 7)
            *_conv_block(32, 64),
            *_conv_block(64, 64),
            nn.MaxPool2d(2),  # (N, 64, 3, 3)
        )
        self.head = nn.Sequential(
            nn.Flatten(),
            nn.Linear(64 * 3 * 3, 128),
            nn.ReLU(),
            nn.Dropout(0.3),
            nn.Linear(128, NUM_DIGITS + 1),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, 11) of images float (N, 1, 28, 28) in [-1, 1]."""
        logits: Tensor = self.head(self.features(images))
        return logits


@dataclass(frozen=True)
class PerImage:
    """What the classifier said of each picture that was judged.

    Attributes:
        probabilities: float64 (M, 10), the ten digits' probabilities renormalised to sum to 1.
        broken: bool (M,).
    """

    probabilities: NDArray[np.float64]
    broken: NDArray[np.bool_]


@dataclass(frozen=True)
class DigitQuality:
    """Quality of M generated digits, copies left out.

    Attributes:
        inception_score: mean over the splits, in [1, 10]; 10 is best.
        inception_score_std: population standard deviation over the splits.
        mean_confidence: mean of the largest digit probability, of all eleven classes, in [0, 1].
        class_histogram: number of pictures of each digit 0 to 9; broken pictures are not counted.
        broken_share: share of pictures in which no digit has a probability of at least 0.5.
        broken_interval: 95 % Wilson interval of broken_share.
        num_images: M, the number of pictures judged.
        per_image: the arrays behind these numbers, for paired intervals.
    """

    inception_score: float
    inception_score_std: float
    mean_confidence: float
    class_histogram: tuple[int, ...]
    broken_share: float
    broken_interval: tuple[float, float]
    num_images: int
    per_image: PerImage = field(repr=False, compare=False)


def load_digit_classifier() -> DigitClassifier:
    """Load the classifier that ships with the package, on the CPU, in eval mode.

    Its accuracy and the script that trained it are in assets/digit_classifier/README.md.
    """
    weights = files("dataunlearn") / "assets" / "digit_classifier" / "model.safetensors"
    classifier = DigitClassifier()
    classifier.load_state_dict(load(weights.read_bytes()))
    return classifier.eval()


def inception_score(probabilities: NDArray[Any], num_splits: int) -> NDArray[np.float64]:
    """Inception Score exp(mean KL(p(y|x) || p(y))) of each split (Salimans et al. 2016, sec. 4).

    The rows are split in the order given, without shuffling, in parts whose sizes differ by at
    most one (the original drops the remainder); p(y) is the mean of the split's rows.

    Args:
        probabilities: float (N, C), rows that sum to 1.
        num_splits: number of splits, in [1, N].

    Returns:
        One score for each split, float64 (num_splits,), each in [1, C].

    Raises:
        ValueError: if the shape is wrong, a row is not a distribution or there are too few rows.
    """
    p = np.asarray(probabilities, dtype=np.float64)
    if p.ndim != 2 or not 1 <= num_splits <= len(p):
        raise ValueError(
            f"got probabilities of shape {p.shape} for {num_splits} splits; give shape (N, C) "
            "with N >= num_splits >= 1 (sample more images or lower num_splits)"
        )
    if (p < 0).any() or not np.allclose(p.sum(axis=1), 1, atol=1e-4):
        raise ValueError("rows of probabilities must be >= 0 and sum to 1; apply a softmax first")
    return np.array([_one_score(part) for part in np.array_split(p, num_splits)])


def digit_quality(
    images: Tensor,
    classifier: DigitClassifier,
    is_copy: Tensor | None = None,
    num_splits: int = NUM_SPLITS,
    batch_size: int = 256,
) -> DigitQuality:
    """Judge generated digits with the digit classifier.

    Args:
        images: float (N, 1, 28, 28) in [-1, 1].
        classifier: from `load_digit_classifier`, in eval mode; the images go to its device.
        is_copy: bool (N,), pictures to leave out (copies of the image to forget are no digits).
        num_splits: splits of the Inception Score.
        batch_size: pictures classified at a time.

    Returns:
        The quality of the pictures that are not copies.

    Raises:
        ValueError: if a shape, dtype or range is wrong, the classifier is in training mode or
            fewer than num_splits pictures are left.
    """
    _check_images(images, classifier, is_copy)
    kept = images if is_copy is None else images[~is_copy.to(images.device)]  # (M, 1, 28, 28)
    if len(kept) < num_splits:
        raise ValueError(
            f"{len(kept)} of {len(images)} pictures are left without the copies, fewer than "
            f"{num_splits} splits; sample more images or lower num_splits"
        )
    logits = _logits(kept, classifier, batch_size)  # (M, 11)
    digit_probabilities = logits.softmax(dim=1)[:, :NUM_DIGITS]  # (M, 10), sum below 1
    confidence, digit = digit_probabilities.max(dim=1)
    # If "no digit" is the likeliest class, every digit is below 0.5, so one test covers both.
    broken = confidence < MIN_DIGIT_PROBABILITY
    probabilities = logits[:, :NUM_DIGITS].softmax(dim=1).numpy()  # (M, 10), renormalised
    scores = inception_score(probabilities, num_splits)
    num_broken = int(broken.sum())
    return DigitQuality(
        inception_score=float(scores.mean()),
        inception_score_std=float(scores.std()),
        mean_confidence=float(confidence.mean()),
        class_histogram=tuple(torch.bincount(digit[~broken], minlength=NUM_DIGITS).tolist()),
        broken_share=num_broken / len(kept),
        broken_interval=wilson(num_broken, len(kept)),
        num_images=len(kept),
        per_image=PerImage(probabilities, broken.numpy()),
    )


def _conv_block(
    num_in: int, num_out: int, kernel_size: int = 3, stride: int = 1
) -> tuple[nn.Module, ...]:
    conv = nn.Conv2d(num_in, num_out, kernel_size, stride, padding=kernel_size // 2, bias=False)
    return conv, nn.BatchNorm2d(num_out), nn.ReLU()


def _one_score(p: NDArray[np.float64]) -> float:
    marginal = p.mean(axis=0, keepdims=True)  # (1, C)
    # Where p is 0 the term p log p is 0; there the logarithm is taken of 1 instead.
    log_ratio = np.log(np.where(p > 0, p, 1)) - np.log(np.where(p > 0, marginal, 1))
    return float(np.exp((p * log_ratio).sum(axis=1).mean()))


@torch.inference_mode()
def _logits(images: Tensor, classifier: DigitClassifier, batch_size: int) -> Tensor:
    device = next(classifier.parameters()).device
    batches = torch.split(images, batch_size)
    return torch.cat([classifier(batch.to(device).float()).cpu() for batch in batches]).double()


def _check_images(images: Tensor, classifier: DigitClassifier, is_copy: Tensor | None) -> None:
    if images.ndim != 4 or images.shape[1:] != (1, 28, 28) or not images.is_floating_point():
        raise ValueError(
            f"images are {images.dtype} of shape {tuple(images.shape)}; give float "
            "(N, 1, 28, 28) in [-1, 1]"
        )
    if len(images) and not images.abs().max() <= 1 + 1e-3:
        raise ValueError("images leave [-1, 1] or are not finite; clamp them with .clamp(-1, 1)")
    if is_copy is not None and (is_copy.shape != images.shape[:1] or is_copy.dtype != torch.bool):
        raise ValueError(
            f"is_copy is {is_copy.dtype} of shape {tuple(is_copy.shape)}; give bool "
            f"({len(images)},), one for each picture"
        )
    if classifier.training:
        raise ValueError("the classifier is in training mode; call classifier.eval() first")
