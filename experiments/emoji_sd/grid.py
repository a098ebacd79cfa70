"""Draw docs/results/emoji_sd_methods.png: samples of planted prompts before and after each method.

    python experiments/emoji_sd/grid.py runs/bench_emoji_sd

A line for each prompt of the report half: the training picture, then samples from the same noise of
the model before and of each method's model with seed 0.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

from dataunlearn.bench.config import slug
from dataunlearn.data import open_images
from dataunlearn.data.pixels import to_uint8
from dataunlearn.models import load_model
from dataunlearn.models.base import set_guidance
from dataunlearn.models.sampling import Drawing, generate
from dataunlearn.prompts.prompt_file import PromptSpec, read_prompt_file
from dataunlearn.report.plots import png
from dataunlearn.runtime.files import write_atomically

PROMPTS = Path("experiments/emoji_sd/planted_report.yaml")
BASE = "models/emoji_sd"
METHODS = (
    "defaults",
    "SISS 0.5, last",
    "No-IS",
    "Bernoulli",
    "naive deletion",
    "EraseDiff",
    "NegGrad",
)
SAMPLES, STEPS, SEED = 3, 25, 20274


def samples_of(model_path: str, specs: list[PromptSpec]) -> list[Tensor]:
    """Each prompt's samples ``(SAMPLES, C, H, W)``."""
    model = load_model(model_path)
    model.denoiser.eval()
    set_guidance(model, None)
    return [
        generate(model, SAMPLES, Drawing(seed=SEED, num_steps=STEPS, prompts=[spec.prompt]))
        for spec in specs
    ]


def strip(images: Tensor) -> Tensor:
    """Pictures ``(N, C, H, W)`` side by side, ``(H, N W, C)`` in [0, 255]."""
    return torch.cat(list(torch.from_numpy(to_uint8(images))), dim=1)


def main() -> None:
    """Draw the samples, then the figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bench", type=Path)
    parser.add_argument("--out", type=Path, default=Path("docs/results/emoji_sd_methods.png"))
    arguments = parser.parse_args()
    specs = list(read_prompt_file(PROMPTS))
    found = {
        name: arguments.bench / slug(name) / "seed_0" / "run" / "run" / "model" for name in METHODS
    }
    sources = {"before": BASE, **{name: str(path) for name, path in found.items() if path.is_dir()}}
    drawn = {name: samples_of(path, specs) for name, path in sources.items()}
    channels, height, width = drawn["before"][0].shape[1:]
    originals = [
        open_images(str(spec.image), (channels, height, width), resize=True).batch(
            torch.tensor([0])
        )
        for spec in specs
    ]
    figure = grid([spec.prompt for spec in specs], {"trained on": originals, **drawn})
    write_atomically(arguments.out, png(figure))


def grid(prompts: Sequence[str], columns: Mapping[str, Sequence[Tensor]]) -> Figure:
    """A line for each prompt, a column for each model."""
    widths = [len(pictures[0]) for pictures in columns.values()]
    figure = Figure(figsize=(0.5 * sum(widths), 0.55 * len(prompts)), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(prompts), len(columns), width_ratios=widths, squeeze=False)
    for column, (name, pictures) in enumerate(columns.items()):
        for row, prompt in enumerate(prompts):
            cell = axes[row][column]
            cell.imshow(strip(pictures[row]).numpy())
            cell.set(xticks=[], yticks=[])
            cell.spines[:].set_visible(False)
            if row == 0:
                cell.set_title(name, fontsize=8)
            if column == 0:
                cell.set_ylabel(prompt, rotation=0, ha="right", va="center", fontsize=7)
    return figure


if __name__ == "__main__":
    main()
