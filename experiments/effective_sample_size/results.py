"""Make docs/results/effective_sample_size.{md,png,json}: where SISS still mixes its two sides.

    python experiments/effective_sample_size/results.py

For the data at hand the rows of SISS are drawn at 40 timesteps; beside them stands what
Delta ~ N(mu, 2 mu) predicts from the mean squared distance alone, and that prediction for larger
images and for Stable Diffusion's latents. No model is run.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from diffusers import DDPMScheduler
from torch import Tensor

from dataunlearn.assets import asset
from dataunlearn.data import open_images
from dataunlearn.objectives import SISS
from dataunlearn.objectives._siss import log_importance_weights
from dataunlearn.process import ForwardProcess
from dataunlearn.report.plots import figure_and_axes, png
from dataunlearn.rows import Pair
from dataunlearn.runtime.files import write_atomically
from dataunlearn.runtime.seeding import random_stream
from dataunlearn.training.importance_weights import effective_sample_size, two_sided

sys.path.append(str(Path(__file__).parents[1]))  # what experiments share
from results_page import commit, refresh

PAIRS, SEED, NEGLIGIBLE = 2048, 0, 1e-6
TIMESTEPS = (*range(12, 1000, 25), 999)


@dataclass(frozen=True)
class Curve:
    """Shares over timesteps: rows with both sides, and effective sample sizes."""

    name: str
    squared_distance: float
    both: list[float]
    size: list[float]


def measured(name: str, keep: Tensor, forget: Tensor, process: ForwardProcess) -> Curve:
    """Rows of SISS at lambda 0.5, keep ``(B, ...)`` against forget ``(B, ...)``."""
    both, size = [], []
    for timestep in TIMESTEPS:
        stream = random_stream(SEED, timestep)
        t = torch.full((len(keep),), timestep)
        pair = Pair(keep, forget, t, torch.randn(keep.shape, generator=stream))
        rows = SISS()(process, pair, stream)
        both.append(float(two_sided(rows).float().mean()))
        size.append(effective_sample_size(rows.forget.weight) or 0.0)
    return Curve(name, float((keep - forget).square().flatten(1).sum(1).mean()), both, size)


def predicted(name: str, squared_distance: float, process: ForwardProcess) -> Curve:
    """The same from the mean squared distance: m is of x or of a, and Delta is normal."""
    both, size = [], []
    for timestep in TIMESTEPS:
        stream = random_stream(SEED, timestep)
        t = torch.tensor([timestep])
        mu = float(process.gamma(t) ** 2 / process.sigma(t) ** 2) * squared_distance / 2
        side = torch.rand(PAIRS, generator=stream).lt(0.5).double() * 2 - 1
        spread = (2 * mu) ** 0.5 * torch.randn(PAIRS, generator=stream, dtype=torch.float64)
        keep, forget = (w.exp() for w in log_importance_weights(side * (mu + spread), 0.5))
        both.append(float(((keep > 2 * NEGLIGIBLE) & (forget > 2 * NEGLIGIBLE)).double().mean()))
        size.append(effective_sample_size(forget) or 0.0)
    return Curve(name, squared_distance, both, size)


def drawn(images: Any, count: int) -> Tensor:
    """Some pictures of a set, drawn with replacement."""
    rows = torch.randint(len(images), (count,), generator=random_stream(SEED))
    return torch.as_tensor(images.batch(rows))


def all_curves() -> list[Curve]:
    """MNIST and emoji measured and predicted; faces and latents predicted."""
    linear = ForwardProcess.from_scheduler(DDPMScheduler())
    latent = ForwardProcess.from_scheduler(
        DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    )
    digits = drawn(open_images(asset("digits.npz"), (1, 28, 28)), PAIRS)
    shirt = open_images(asset("tshirt.png"), (1, 28, 28)).batch(torch.tensor([0]))
    emoji = drawn(open_images("data/emoji32.npz:train", (3, 32, 32)), PAIRS)
    single = open_images("data/emoji32.npz:single", (3, 32, 32)).batch(torch.arange(6))
    mnist = measured("MNIST, 28 pixels", digits, shirt.expand_as(digits), linear)
    small = measured("emoji, 32 pixels", emoji, single[torch.arange(PAIRS) % 6], linear)
    return [
        mnist,
        predicted("MNIST, predicted", mnist.squared_distance, linear),
        small,
        predicted("emoji, predicted", small.squared_distance, linear),
        predicted("emoji at 64 pixels, predicted", 4 * small.squared_distance, linear),
        predicted("emoji at 256 pixels, predicted", 64 * small.squared_distance, linear),
        predicted("Stable Diffusion latents, predicted", LATENT_DISTANCE, latent),
    ]


LATENT_DISTANCE = 2 * 4 * 64 * 64  # two independent latents of unit variance, as they are scaled


def draw_figure(curves: Sequence[Curve]) -> bytes:
    """Share of rows with both sides over timesteps; predictions dashed."""
    figure, axes = figure_and_axes(7.2, 3.8)
    for curve in curves:
        dashed = "predicted" in curve.name
        axes.plot(
            TIMESTEPS,
            [100 * share for share in curve.both],
            label=curve.name,
            linestyle="--" if dashed else "-",
            linewidth=1.2 if dashed else 2,
        )
    axes.set_xlabel("timestep")
    axes.set_ylabel("rows that carry both sides (%)")
    axes.legend(frameon=False, fontsize=8)
    return png(figure)


def table(curves: Sequence[Curve]) -> str:
    """A line for each curve: means over all timesteps, and the last one."""
    lines = [
        "| data | mean squared distance | both sides, all t | both sides, t > 250 "
        "| both sides, t = 999 | effective sample size, all t |",
        "|---|---|---|---|---|---|",
    ]
    for curve in curves:
        above = [share for t, share in zip(TIMESTEPS, curve.both, strict=True) if t > 250]
        shares = (fmean(curve.both[:-1]), fmean(above[:-1]), curve.both[-1], fmean(curve.size[:-1]))
        words = " | ".join(f"{share:.1%}" for share in shares)
        lines.append(f"| {curve.name} | {curve.squared_distance:.0f} | {words} |")
    return "\n".join(lines)


def main() -> None:
    """Draw, predict, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    out = parser.parse_args().out
    curves = all_curves()
    content = {
        "command": "python experiments/effective_sample_size/results.py",
        "commit": commit(),
        "seed": SEED,
        "pairs": PAIRS,
        "timesteps": TIMESTEPS,
        "curves": [vars(curve) for curve in curves],
    }
    name = out / "effective_sample_size"
    write_atomically(name.with_suffix(".json"), json.dumps(content, indent=1).encode())
    write_atomically(name.with_suffix(".png"), draw_figure(curves))
    refresh(name.with_suffix(".md"), table(curves))


if __name__ == "__main__":
    main()
