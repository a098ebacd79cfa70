"""Do samples of unlearned prompts still show what the prompt names?

    python experiments/emoji_sd/recognised.py --name recognised before=models/emoji_sd after=MODEL

Each sample is looked up among all 1,909 names of data/emoji64.npz: a name is as near as the nearer
of its two pictures, by the ImageNet encoder. Counted is how often the prompt's own name comes first
and among the first ten (by chance 0.5 %). The table goes into docs/results/emoji_sd.md, the numbers
of each prompt into docs/results/emoji_sd_NAME.json.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dataunlearn.data import open_images
from dataunlearn.metrics.embedders import Embedder, RememberingEmbedder, open_embedder
from dataunlearn.metrics.intervals import mean_interval
from dataunlearn.metrics.similarity import similarities
from dataunlearn.models import load_model
from dataunlearn.models.sampling import Drawing, generate
from dataunlearn.prompts.prompt_file import read_prompt_file
from dataunlearn.runtime.files import write_atomically
from dataunlearn.runtime.machine import machine
from dataunlearn.runtime.progress import progress_bar

sys.path.append(str(Path(__file__).parents[1]))  # what experiments share
from emoji_sd.grid import PROMPTS, SEED, STEPS
from results_page import commit, refresh

EMOJI, STYLES = "data/emoji64.npz", ("google", "twitter")
SAMPLES, NEAR = 8, 10


def pictures() -> tuple[list[str], dict[str, Tensor]]:
    """All names, and each style's pictures ``(1909, 3, 64, 64)`` in their order."""
    with np.load(EMOJI) as archive:
        names = archive["names"].tolist()
    opened = {style: open_images(f"{EMOJI}:{style}", (3, 64, 64)) for style in STYLES}
    return names, {
        style: images.batch(torch.arange(len(images))) for style, images in opened.items()
    }


def ranks(embedder: Embedder, samples: Tensor, known: dict[str, Tensor], own: int) -> Tensor:
    """The place of name ``own`` among all names by nearness to each sample ``(N,)``, from 0."""
    styles = [similarities(embedder, samples, images) for images in known.values()]
    nearness = torch.stack(styles).amax(dim=0)  # (N, names)
    return (nearness > nearness[:, own, None]).sum(dim=1)


def measure(
    source: str, prompts: list[str], names: list[str], known: dict[str, Tensor], embedder: Embedder
) -> dict[str, list[int]]:
    """Ranks of each prompt's samples."""
    model = load_model(source)
    model.denoiser.eval()
    found = {}
    with progress_bar(source, SAMPLES * len(prompts), shown=True) as advance:
        for prompt in prompts:
            samples = generate(
                model,
                SAMPLES,
                Drawing(seed=SEED, num_steps=STEPS, prompts=[prompt], progress=advance),
            )
            found[prompt] = ranks(embedder, samples, known, names.index(prompt)).tolist()
    return found


def line(name: str, found: dict[str, list[int]]) -> str:
    """A line of the table: shares of samples, intervals over prompts."""
    cells = [name]
    for most in (1, NEAR):
        shares = np.array([np.mean([rank < most for rank in ranks]) for ranks in found.values()])
        low, high = mean_interval(shares)
        cells.append(f"{shares.mean():.0%} ({low:.0%} to {high:.0%})")
    lost = [prompt for prompt, ranks in found.items() if min(ranks) >= NEAR]
    return "| " + " | ".join([*cells, ", ".join(lost) or "–"]) + " |"


def main() -> None:
    """Look up all models' samples, then write table and numbers."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="+", help="NAME=MODEL", metavar="NAME=MODEL")
    parser.add_argument("--prompts", type=Path, default=PROMPTS)
    parser.add_argument("--name", required=True, help="of the table and of the numbers' file")
    parser.add_argument("--page", type=Path, default=Path("docs/results/emoji_sd.md"))
    given = parser.parse_args()
    prompts = [spec.prompt for spec in read_prompt_file(given.prompts)]
    names, known = pictures()
    embedder = RememberingEmbedder(open_embedder("efficientnet_lite0"))
    found: dict[str, Any] = {}
    rows = [f"| | own name first | among the first {NEAR} | never there |", "|---|---|---|---|"]
    for pair in given.models:
        name, source = pair.split("=", 1)
        found[name] = measure(source, prompts, names, known, embedder)
        rows.append(line(name, found[name]))
    facts = {"commit": commit(), "machine": machine(torch.device("cpu")), "seed": SEED}
    content = json.dumps({**facts, "samples": SAMPLES, "ranks": found}, indent=1)
    write_atomically(given.page.parent / f"emoji_sd_{given.name}.json", content.encode())
    refresh(given.page, "\n".join(rows), begin=f"<!-- table emoji_sd_{given.name} -->")


if __name__ == "__main__":
    main()
