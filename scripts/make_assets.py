"""Make the data files that ship in src/dataunlearn/assets and train the digit classifier.

    python scripts/make_assets.py --data mnist_tshirt.npz --base mnist_tshirt_small

`--base`, a diffusers DDPMPipeline folder trained on the digits, adds a measurement on its samples.
About 6 minutes on one CPU core. scripts/make_mnist_tshirt.py builds the data file.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from make_mnist_tshirt import sha256, tshirt_distances
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import save
from sklearn.model_selection import train_test_split
from torch import Generator, Tensor
from torch.nn import functional as F  # noqa: N812

from dataunlearn.metrics.digits import NO_DIGIT, DigitClassifier, DigitQuality, digit_quality

ASSETS = Path(__file__).parents[1] / "src" / "dataunlearn" / "assets"
DATA_SHA256, SEED, NUM_HELD_OUT = "41857f07", 0, 10_000
NUM_EPOCHS, BATCH_SIZE, GARBAGE_PER_KIND, LEARNING_RATE = 10, 250, 14, 4e-3
NUM_SAMPLES, DDIM_STEPS = 512, 25
# A sample nearer to the T-shirt is a copy; L2 in [0, 1], below half of its distance to any digit.
COPY_DISTANCE = 5.0
BINOMIAL = torch.tensor([[1.0, 2.0, 1.0], [2.0, 4.0, 2.0], [1.0, 2.0, 1.0]]) / 16
Garbage = Callable[[Tensor, Generator], Tensor]


@dataclass(frozen=True)
class Digits:
    """Pictures float (N, 1, 28, 28) in [-1, 1] and labels int64 (N,)."""

    x: Tensor
    y: Tensor


def uniform(n: int, lo: float, hi: float, g: Generator) -> Tensor:
    """Uniform numbers (n, 1, 1, 1) in [lo, hi)."""
    return lo + (hi - lo) * torch.rand(n, 1, 1, 1, generator=g)


def smooth_field(n: int, g: Generator) -> Tensor:
    """Smooth random fields (n, 1, 28, 28) of unit variance, grain of 3 to 9 pixels."""
    size = int(torch.randint(4, 12, (), generator=g))
    field = F.interpolate(torch.randn(n, 1, size, size, generator=g), 28, mode="bicubic")
    return field / field.std(dim=(1, 2, 3), keepdim=True)


def uniform_noise(x: Tensor, g: Generator) -> Tensor:
    """White noise, uniform in a random range around a random grey."""
    noise = 2 * torch.rand(x.shape, generator=g) - 1
    return uniform(len(x), -0.5, 0.5, g) + uniform(len(x), 0.3, 1, g) * noise


def gaussian_noise(x: Tensor, g: Generator) -> Tensor:
    """White Gaussian noise around a random grey."""
    noise = uniform(len(x), 0.2, 1.2, g) * torch.randn(x.shape, generator=g)
    return uniform(len(x), -1, 1, g) + noise


def noisy_digits(x: Tensor, g: Generator) -> Tensor:
    """Digits under heavy Gaussian noise, sigma 0.5 to 1.5."""
    return x + uniform(len(x), 0.5, 1.5, g) * torch.randn(x.shape, generator=g)


def flat(x: Tensor, g: Generator) -> Tensor:
    """Blank, full and grey pictures with at most a little noise."""
    level = uniform(len(x), -1.5, 1.5, g).clamp(-1, 1)  # a third of them are -1 or 1 exactly
    return level + uniform(len(x), 0, 0.1, g) * torch.randn(x.shape, generator=g)


def shuffled_patches(x: Tensor, g: Generator) -> Tensor:
    """Digits whose 16 patches of 7x7 pixels are in a random order."""
    patches = F.unfold(x, 7, stride=7)  # (n, 49, 16)
    order = torch.rand(len(x), 1, 16, generator=g).argsort(dim=2).expand_as(patches)
    return F.fold(patches.gather(2, order), 28, 7, stride=7)


def mixtures(x: Tensor, g: Generator) -> Tensor:
    """Two digits in one picture: averaged, or the lighter of both, one moved 4 to 9 pixels."""
    shift = int(torch.randint(4, 10, (), generator=g))
    other = x.roll(1, dims=0).roll((shift, -shift), dims=(2, 3))
    weight = uniform(len(x), 0.35, 0.65, g)
    is_average = uniform(len(x), 0, 1, g) < 0.5
    return torch.where(is_average, weight * x + (1 - weight) * other, torch.maximum(x, other))


def blobs(x: Tensor, g: Generator) -> Tensor:
    """Light blobs and winding strokes: a smooth field above a level, or near one."""
    field = smooth_field(len(x), g)
    is_stroke = uniform(len(x), 0, 1, g) < 0.5
    height = torch.where(is_stroke, 0.3 - field.abs(), field - uniform(len(x), -0.5, 1, g))
    return (8 * height).clamp(-1, 1)


def inverted_digits(x: Tensor, g: Generator) -> Tensor:
    """Dark digits on white or light grey."""
    return -x * uniform(len(x), 0.5, 1, g)


def smooth_fields(x: Tensor, g: Generator) -> Tensor:
    """Smooth random fields, half of them over a fading digit, as if denoised in part."""
    share = uniform(len(x), -0.5, 0.5, g).clamp(min=0)
    return share * x + uniform(len(x), 0.4, 1.2, g) * smooth_field(len(x), g)


def checkerboards(x: Tensor, g: Generator) -> Tensor:
    """Checkerboards with squares of 1 to 7 pixels; never trained on."""
    size = torch.randint(1, 8, (len(x), 1, 1, 1), generator=g)
    square = torch.arange(28) // size  # (n, 1, 1, 28)
    return ((square + square.mT) % 2) * 2.0 - 1


def permuted_rows(x: Tensor, g: Generator) -> Tensor:
    """Digits whose 28 rows are in a random order; never trained on."""
    return x.gather(2, torch.rand(len(x), 1, 28, 1, generator=g).argsort(dim=2).expand_as(x))


SEEN_KINDS: tuple[Garbage, ...] = (
    *(uniform_noise, gaussian_noise, noisy_digits, flat, shuffled_patches),
    *(mixtures, blobs, inverted_digits, smooth_fields),
)
UNSEEN_KINDS: tuple[Garbage, ...] = (checkerboards, permuted_rows)


def augment(x: Tensor, g: Generator) -> Tensor:
    """Turn (10 degrees), scale (10 %), shift (2 pixels), blur and noise every second digit or so.

    The others stay as they are. Garbage is made from both, so that sharp edges tell nothing.
    """
    n = len(x)
    angle = uniform(n, -0.175, 0.175, g).view(n)
    scale = uniform(n, 0.9, 1.1, g).view(n)
    shift = (2 / 14) * (2 * torch.rand(2, n, generator=g) - 1)
    cos, sin = angle.cos() * scale, angle.sin() * scale
    theta = torch.stack([cos, -sin, shift[0], sin, cos, shift[1]], dim=1).view(n, 2, 3)
    grid = F.affine_grid(theta, [n, 1, 28, 28], align_corners=False)
    moved = F.grid_sample(x + 1, grid, align_corners=False)  # in [0, 2], 0 outside of x
    blurred = F.conv2d(moved, BINOMIAL.view(1, 1, 3, 3), padding=1)
    blur = uniform(n, -0.5, 0.5, g).clamp(min=0)
    noise = uniform(n, 0, 0.05, g) * torch.randn(x.shape, generator=g)
    changed = (moved.lerp(blurred, blur) - 1 + noise).clamp(-1, 1)
    return torch.where(uniform(n, 0, 1, g) < 0.5, changed, x)


def train(digits: Digits, g: Generator) -> DigitClassifier:
    """Train on augmented digits and fresh garbage of every seen kind in each batch."""
    classifier = DigitClassifier().train()
    classifier.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(classifier.parameters(), LEARNING_RATE, weight_decay=0.01)
    num_steps = NUM_EPOCHS * (len(digits.x) // BATCH_SIZE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, num_steps)
    garbage_labels = torch.full((GARBAGE_PER_KIND * len(SEEN_KINDS),), NO_DIGIT)
    for epoch in range(NUM_EPOCHS):
        total = 0.0
        for rows in torch.split(torch.randperm(len(digits.x), generator=g), BATCH_SIZE):
            x = augment(digits.x[rows], g)
            sources = torch.split(x[: len(garbage_labels)], GARBAGE_PER_KIND)
            garbage = [kind(s, g) for kind, s in zip(SEEN_KINDS, sources, strict=True)]
            inputs = torch.cat([x, *garbage]).clamp(-1, 1)
            labels = torch.cat([digits.y[rows], garbage_labels])
            loss = F.cross_entropy(classifier(inputs), labels)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            total += loss.item() * len(rows) / len(digits.x)
        print(f"epoch {epoch + 1}/{NUM_EPOCHS}: loss {total:.4f}", flush=True)
    return classifier.eval()


def measure_held_out(classifier: DigitClassifier, held_out: Digits, g: Generator) -> list[str]:
    """Accuracy and broken share on held-out digits and on every kind of garbage, as table rows."""
    quality = digit_quality(held_out.x, classifier)
    correct = quality.per_image.probabilities.argmax(axis=1) == held_out.y.numpy()
    rows = [
        f"| held-out digits: accuracy over the ten digits | {correct.mean():.2%} |",
        f"| held-out digits: Inception Score, 10 splits | {score(quality)} |",
        f"| held-out digits: mean confidence | {quality.mean_confidence:.4f} |",
        f"| held-out digits: broken | {share(quality)} |",
    ]
    for kind in SEEN_KINDS + UNSEEN_KINDS:
        garbage = torch.cat([kind(x, g) for x in torch.split(held_out.x, GARBAGE_PER_KIND)])
        quality = digit_quality(garbage.clamp(-1, 1), classifier)
        note = " (never trained on)" if kind in UNSEEN_KINDS else ""
        rows.append(f"| {kind.__name__.replace('_', ' ')}{note}: broken | {share(quality)} |")
    return rows


def score(quality: DigitQuality) -> str:
    """Inception Score and its standard deviation over the splits."""
    return f"{quality.inception_score:.3f} ± {quality.inception_score_std:.3f}"


def share(quality: DigitQuality) -> str:
    """Broken share with its interval."""
    lo, hi = quality.broken_interval
    return f"{quality.broken_share:.2%} (95 % interval {lo:.2%} to {hi:.2%})"


@torch.inference_mode()
def sample(base: Path, g: Generator) -> Tensor:
    """NUM_SAMPLES DDIM samples (N, 1, 28, 28) in [-1, 1] of a diffusers DDPMPipeline folder."""
    from diffusers import DDIMScheduler, DDPMPipeline

    pipeline = DDPMPipeline.from_pretrained(base)
    scheduler = DDIMScheduler.from_config(pipeline.scheduler.config)
    scheduler.set_timesteps(DDIM_STEPS)
    batches = []
    for x in torch.split(torch.randn(NUM_SAMPLES, 1, 28, 28, generator=g), 64):
        for t in scheduler.timesteps:
            x = scheduler.step(pipeline.unet(x, t).sample, t, x).prev_sample
        batches.append(x.clamp(-1, 1))
    return torch.cat(batches)


def load_data(path: Path) -> tuple[Digits, Digits, NDArray[np.uint8]]:
    """Check the data file, write digits.npz and tshirt.png; training and held-out digits, T-shirt.

    The held-out digits are the 10,000 of digits.npz, a random subset stratified by class.
    """
    if not sha256(path).startswith(DATA_SHA256):
        raise ValueError(f"{path} is another file; build it with scripts/make_mnist_tshirt.py")
    with np.load(path) as arrays:
        x, y, t = arrays["x"], arrays["y"], arrays["t"]
    nearest, mean = tshirt_distances(x, t)
    print(f"T-shirt to digits: L2 {nearest:.4f} at least, {mean:.4f} on average")
    split = train_test_split(range(len(x)), test_size=NUM_HELD_OUT, stratify=y, random_state=SEED)
    np.savez_compressed(ASSETS / "digits.npz", x=x[split[1]], y=y[split[1]])
    Image.fromarray(t).save(ASSETS / "tshirt.png")
    pictures, labels = to_images(x), torch.from_numpy(y).long()
    train_digits, held_out = (Digits(pictures[part], labels[part]) for part in split)
    return train_digits, held_out, t


def measure_samples(classifier: DigitClassifier, base: Path, t: NDArray[np.uint8]) -> list[str]:
    """Quality of the base model's samples without its T-shirts, as table rows."""
    images = sample(base, Generator().manual_seed(SEED))
    is_copy = ((images - to_images(t[None])) / 2).flatten(1).norm(dim=1) < COPY_DISTANCE
    quality = digit_quality(images, classifier, is_copy)
    name = f"{NUM_SAMPLES} samples of {base.name}, {DDIM_STEPS} DDIM steps"
    return [
        f"| {name}: T-shirts, left out | {int(is_copy.sum())} |",
        f"| {name}: Inception Score, 10 splits | {score(quality)} |",
        f"| {name}: mean confidence | {quality.mean_confidence:.4f} |",
        f"| {name}: pictures of 0 to 9 | {', '.join(map(str, quality.class_histogram))} |",
        f"| {name}: broken | {share(quality)} |",
    ]


def to_images(pixels: NDArray[np.uint8]) -> Tensor:
    """Float (N, 1, 28, 28) in [-1, 1] of uint8 (N, 28, 28)."""
    return torch.from_numpy(pixels).float()[:, None] / 127.5 - 1


def fill_table(readme: Path, rows: list[str]) -> None:
    """Replace the rows of the table that ends a README, and print them."""
    head, rule, _ = readme.read_text().partition("---|\n")
    readme.write_text(head + rule + "\n".join(rows) + "\n")
    print("\n".join(rows))


def main() -> None:
    """Make every asset, measure the classifier and print what was made."""
    parser = argparse.ArgumentParser(description="Make the data files that ship in the package.")
    parser.add_argument("--data", type=Path, required=True, help="mnist_tshirt.npz")
    parser.add_argument("--base", type=Path, help="DDPMPipeline folder to sample and measure")
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(SEED)  # the initial weights
    folder = ASSETS / "digit_classifier"
    train_digits, held_out, t = load_data(args.data)
    classifier = train(train_digits, Generator().manual_seed(SEED))
    weights = {name: w.contiguous() for name, w in classifier.state_dict().items()}
    (folder / "model.safetensors").write_bytes(save(weights))
    rows = measure_held_out(classifier, held_out, Generator().manual_seed(SEED + 1))
    is_broken = bool(digit_quality(to_images(t[None]), classifier, num_splits=1).broken_share)
    rows.append(f"| the T-shirt (never trained on): broken | {'yes' if is_broken else 'no'} |")
    command = f"python scripts/make_assets.py --data {args.data.name}"
    if args.base is not None:
        rows += measure_samples(classifier, args.base, t)
        command += f" --base {args.base.name}"
    rows.insert(0, f"| made by | `{command}`, seed {SEED} |")
    fill_table(folder / "README.md", rows)
    made = ("digits.npz", "tshirt.png", "digit_classifier/model.safetensors")
    sizes = [(name, f"{(ASSETS / name).stat().st_size:,}") for name in made]
    sums = [f"| {name} | {size} | {sha256(ASSETS / name)} |" for name, size in sizes]
    fill_table(ASSETS / "README.md", sums)


if __name__ == "__main__":
    main()
