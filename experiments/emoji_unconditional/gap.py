"""Make docs/results/emoji_gap.{json,png}: the gap between emoji seen often, once and never.

    python experiments/emoji_unconditional/gap.py

The denoising loss of the planted pictures, of the training pictures that were there once, and of
those that were never there, at eight noise levels; at each, how well it tells the first two from
the last. A table goes into docs/results/emoji_unconditional.md.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

from dataunlearn.data import ImageSet, open_images
from dataunlearn.metrics.membership_scores import denoising_losses
from dataunlearn.metrics.membership_statistics import membership_auc, membership_tpr
from dataunlearn.metrics.result import Result
from dataunlearn.models import load_model
from dataunlearn.report.plots import png
from dataunlearn.runtime.files import write_atomically
from dataunlearn.runtime.machine import machine
from dataunlearn.runtime.progress import progress_bar

sys.path.append(str(Path(__file__).parents[1]))  # what experiments share
from results_page import commit, refresh

MODEL, EMOJI, SHAPE = "models/emoji32", "data/emoji32.npz", (3, 32, 32)
SEED, NUM_DRAWS = 20265, 2
TIMESTEPS = tuple(range(200, 1000, 100))
PLANTED, ONCE, NEVER = "planted, 21 times", "once", "never"


def groups() -> dict[str, Tensor]:
    """The pictures by how often the model saw them, ``(N, 3, 32, 32)`` each."""
    planted, train, held_out = (
        open_images(f"{EMOJI}:{key}", SHAPE) for key in ("planted", "train", "held_out")
    )
    hidden = set(planted.digests())
    once = [row for row, digest in enumerate(train.digests()) if digest not in hidden]
    return {
        PLANTED: everything(planted),
        ONCE: train.batch(torch.tensor(once)),
        NEVER: everything(held_out),
    }


def everything(images: ImageSet) -> Tensor:
    """All pictures of a set."""
    return images.batch(torch.arange(len(images)))


def measure(pictures: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Losses ``(N, T)`` of each group."""
    model = load_model(MODEL)
    model.denoiser.eval()
    calls = sum(map(len, pictures.values())) * len(TIMESTEPS) * NUM_DRAWS
    with progress_bar("denoising", calls, shown=True) as advance:
        return {
            name: denoising_losses(
                model, images, TIMESTEPS, draws=range(NUM_DRAWS), seed=SEED, progress=advance
            )
            for name, images in pictures.items()
        }


def compare(losses: Mapping[str, Tensor], column: int | None) -> dict[str, Result]:
    """How well a timestep's loss, or the mean over all, tells seen pictures from unseen ones."""
    chosen = {n: v.mean(1) if column is None else v[:, column] for n, v in losses.items()}
    return {
        f"{kind} {name}": measure(chosen[name], chosen[NEVER])
        for name in (ONCE, PLANTED)
        for kind, measure in (("AUC", membership_auc), ("TPR", membership_tpr))
    }


def line(label: str, means: Mapping[str, float], found: Mapping[str, Result]) -> str:
    """A line of the table."""
    cells = [label, *(f"{means[name]:.4f}" for name in (PLANTED, ONCE, NEVER))]
    for name in (PLANTED, ONCE):
        low, high = found[f"AUC {name}"].interval or (float("nan"),) * 2
        cells.append(f"{found[f'AUC {name}'].value:.3f} ({low:.3f} to {high:.3f})")
        cells.append(f"{found[f'TPR {name}'].value:.1%}")
    return "| " + " | ".join(cells) + " |"


def plot(losses: Mapping[str, Tensor], compared: Sequence[Mapping[str, Result]]) -> bytes:
    """The groups' losses over timesteps, and the AUC; ``compared`` has the numbers of each."""
    figure = Figure(figsize=(8, 3.2), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    for name, colour in ((NEVER, "#8a8f98"), (ONCE, "#0b6e99"), (PLANTED, "#b5402f")):
        quarter, middle, most = losses[name].quantile(torch.tensor([0.25, 0.5, 0.75]).double(), 0)
        left.plot(TIMESTEPS, middle, color=colour, label=name)
        left.fill_between(TIMESTEPS, quarter, most, color=colour, alpha=0.15, linewidth=0)
        if name != NEVER:
            aucs = [found[f"AUC {name}"] for found in compared]
            right.plot(TIMESTEPS, [auc.value for auc in aucs], color=colour, label=name)
            bounds = [auc.interval for auc in aucs if auc.interval is not None]
            right.fill_between(TIMESTEPS, *zip(*bounds, strict=True), color=colour, alpha=0.15)
    right.axhline(0.5, color="#8a8f98", linestyle=":", linewidth=1)
    left.set(xlabel="timestep", ylabel="denoising loss, median and quartiles", yscale="log")
    right.set(xlabel="timestep", ylabel="AUC against pictures never seen", ylim=(0.4, 1.02))
    left.legend(frameon=False, fontsize=8)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    return png(figure)


def main() -> None:
    """Measure, then write numbers, plot and table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    out = parser.parse_args().out
    losses = measure(groups())
    rows = [
        "| timestep | loss, planted | once | never | AUC, planted | TPR at 1 % FPR | AUC, once "
        "| TPR at 1 % FPR |",
        "|---" * 8 + "|",
    ]
    kept, compared = {}, []
    for column, label in [*enumerate(map(str, TIMESTEPS)), (None, "all")]:
        means = {
            name: float(values.mean() if column is None else values[:, column].mean())
            for name, values in losses.items()
        }
        found = compare(losses, column)
        compared.append(found)
        rows.append(line(label, means, found))
        numbers = {name: [r.value, r.interval] for name, r in found.items()}
        kept[label] = {"mean_loss": means, **numbers}
    facts = {
        "command": "python experiments/emoji_unconditional/gap.py",
        "commit": commit(),
        "machine": machine(torch.device("cpu")),
        "seed": SEED,
        "num_draws": NUM_DRAWS,
        "pictures": {name: len(values) for name, values in losses.items()},
        "timesteps": kept,
    }
    write_atomically(out / "emoji_gap.json", json.dumps(facts, indent=1).encode())
    write_atomically(out / "emoji_gap.png", plot(losses, compared[: len(TIMESTEPS)]))
    refresh(out / "emoji_unconditional.md", "\n".join(rows), begin="<!-- table emoji_gap -->")


if __name__ == "__main__":
    main()
