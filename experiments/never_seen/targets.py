"""Make docs/results/never_seen_targets.json: how far targets are from what a twin says.

    python experiments/never_seen/targets.py

Of pictures of a kind that the digits to keep do not hold: what the frozen model says of their views
is mixed with what pictures to keep say, by some part of the noise's share. For each such weight,
how far that is from what the twin says, over how far another twin is from it, and what it loses
over what the twin loses, geometric means over pictures. A table goes into
docs/results/never_seen.md.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from dataunlearn.assets import asset
from dataunlearn.data import SubsetImages, open_images
from dataunlearn.metrics.never_seen import (
    COMPARED_PICTURES,
    different_pictures,
    levels_of,
    some_pictures,
    witness_of,
)
from dataunlearn.models import load_model
from dataunlearn.recognition.empirical import (
    empirical_prediction,
    mixed,
    noise_share,
    of_another_kind,
)
from dataunlearn.recognition.levels import mean_answers
from dataunlearn.recognition.witness import Pictures, Witness
from dataunlearn.runtime.files import write_atomically

sys.path.append(str(Path(__file__).parents[1]))  # what experiments share
from results_page import refresh

PAGE = Path("docs/results/never_seen.md")
SEED, SHAPE = 20303, (1, 28, 28)
TIMESTEPS = (50, 100, 200, 300, 400, 500, 600)
WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0)
TWINS = ("models/mnist_tshirt_small_without", "models/mnist_tshirt_small_without_1")
# Every how manieth picture of a set is looked at.
GROUPS = {
    "T-shirt": (str(asset("mnist_tshirt_small")), str(asset("tshirt.png")), 1),
    "fifty emoji": ("models/mnist_fifty", "data/fifty_emoji.npz:planted", 4),
    "twelve emoji": ("models/mnist_grey", "data/grey_emoji.npz:planted", 1),
}


@dataclass(frozen=True, eq=False)
class Group:
    """Pictures of another kind than those to keep, and who says what of them.

    Attributes:
        forget: The pictures.
        keep: Some to keep.
        answers: What the model says of their views, ``(T, J, K, *shape)``.
        twins: What each twin says of them.
        model: Asks the model.
    """

    forget: Pictures
    keep: Pictures
    answers: Tensor
    twins: tuple[Tensor, Tensor]
    model: Witness


def opened(model_path: str, pictures: str, every: int) -> Group:
    """Look at those pictures of a set that are of another kind."""
    model, digits = load_model(model_path), open_images(asset("digits.npz"), SHAPE)
    images = open_images(pictures, SHAPE)
    some = SubsetImages(images, list(range(0, len(images), every)))
    keep = some_pictures(model, digits, COMPARED_PICTURES, SEED)
    alone = of_another_kind(different_pictures(model, some).clean, keep.clean)
    some = SubsetImages(some, alone.nonzero().flatten().tolist())
    levels = levels_of(model, some, digits, seed=SEED, shown=False)
    forget = different_pictures(model, some)
    witness, *others = (witness_of(m, len(some), SEED) for m in (model, *map(load_model, TWINS)))

    def asked(who: Witness, *, views: bool) -> Tensor:
        found = [
            mean_answers(who, forget, (t, draw), levels.views, levels.chosen)
            if views
            else who.answers(forget, t, draw, None)
            for t in TIMESTEPS
            for draw in range(witness.num_draws)
        ]
        shape = (len(TIMESTEPS), witness.num_draws, *forget.clean.shape)
        return torch.stack(found).reshape(shape)

    first, second = (asked(other, views=False) for other in others)
    return Group(forget, keep, asked(witness, views=True), (first, second), witness)


def measured(group: Group, weight: float) -> tuple[list[float], list[float]]:
    """Distance to the twin over the other twin's, and loss over the twin's, at each timestep."""
    apart, losses = [], []
    process, (first, second) = group.model.process, group.twins
    for row, t in enumerate(TIMESTEPS):
        distances, ratios = [], []
        for draw in range(group.model.num_draws):
            noisy, times = group.model.noisy(group.forget.clean, t, draw)
            said = empirical_prediction(process, noisy, group.keep.clean, times)
            share = weight * noise_share(process, times)
            target, twin = mixed(group.answers[row, draw], said, share), first[row, draw]
            distances.append(_square(target - twin) / _square(second[row, draw] - twin))
            own, its = (group.model.losses(each, group.forget, t, draw) for each in (target, twin))
            ratios.append(own / its)
        apart.append(_geometric(torch.stack(distances)))
        losses.append(_geometric(torch.stack(ratios)))
    return apart, losses


def _square(difference: Tensor) -> Tensor:
    return difference.double().square().flatten(1).mean(1)


def _geometric(ratios: Tensor) -> float:
    return float(ratios.log().mean().exp())


def main() -> None:
    """Measure, then write the numbers and the table."""
    found = {}
    heads = ["pictures", "weight", *(f"d, t={t}" for t in TIMESTEPS[1:6]), "loss at these"]
    lines = [heads, ["---"] * len(heads)]
    for name, where in GROUPS.items():
        group = opened(*where)
        for weight in WEIGHTS:
            apart, losses = measured(group, weight)
            found[f"{name}, {weight}"] = {"distance": apart, "loss": losses}
            shown = [
                *(f"{each:.1f}" for each in apart[1:6]),
                " ".join(f"{x:.2f}" for x in losses[1:6]),
            ]
            lines.append([f"{name} ({len(group.forget)})", f"{weight:g}", *shown])
    content = {"timesteps": TIMESTEPS, "seed": SEED, "by group and weight": found}
    write_atomically(
        PAGE.with_name("never_seen_targets.json"), json.dumps(content, indent=1).encode()
    )
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    refresh(PAGE, table, "<!-- table targets -->")


if __name__ == "__main__":
    main()
