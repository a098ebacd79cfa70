"""Through which views a model is asked about an image so that it does not recognise it.

Views are chosen for each image: one that resembles the image is recognised (a mirrored picture of a
symmetric thing is that picture), and one that turns pictures into what the model has never seen
answers badly whatever it is asked. The first is told by the distance between the image and its
view, the second by what the view costs on pictures to keep.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from dataunlearn.recognition.costs import (
    LEAST_DISTANCE,
    MOST_COST,
    ViewCosts,
    distances,
    median_distance,
)
from dataunlearn.recognition.witness import Pictures, Witness
from dataunlearn.views import (
    Shape,
    Views,
    as_it_is,
    channel_permutations,
    plain_views,
    products,
    shears,
    small_shifts,
    turns_and_flips,
)

# Of those, the ones nearly as far away as the farthest one.
NEARLY_AS_FAR = 0.85
MOST_VIEWS = 4
FALLBACK_VIEWS = 2
# A prompt is what an image is known by if the model loses this much more without it, and then
# loses at least this share of what it loses through views that it does not recognise.
LEAST_WITHOUT_PROMPT = 1.5
LEAST_OF_UNFAMILIAR = 0.5
PROMPT_SHARES = (0.4, 0.6, 0.8)
AS_IT_IS = "as it is, without the prompt"
PROMPT_DRAWS = 4
# Turns and flips that channel permutations are combined with, the cheapest ones.
COMBINED_TURNS = 3


def choose_views(
    witness: Witness, forget: Pictures, keep: Pictures, *, latent: bool
) -> tuple[Views, tuple[tuple[int, ...], ...], Tensor]:
    """The views through which each image is asked about.

    First the affordable turns and flips that are far enough from the image, of these the ones
    nearly as far as the farthest, of these the cheapest four. Where none is far enough, channel
    permutations and their products with turns and flips in the same way, where samples are pixels;
    and then shears, which change the outlines of what is the same however turned. Where still none
    is, the two farthest affordable ones, small shifts among them, and the image counts as familiar.

    A model that takes prompts is asked without any. An image is shown as it is where the prompt was
    all that it was known by: where the model loses enough more without it, and about as much as
    through views that it does not recognise.

    Returns:
        The views that some image was given, for each image their positions, and whether they are
        unfamiliar ``(K,)``.
    """
    shape = _shape(forget)
    scale = median_distance(forget, keep)
    offered = turns_and_flips(shape)
    costs = ViewCosts(witness, keep, offered)
    found = [_pick(offered, costs.of, away) for away in distances(forget, offered, scale)]
    for stage in () if latent else (_further_views, _shears):
        if all(found):
            break
        views = stage(shape, offered, costs.of)
        costs.ask(views)
        offered = offered | views
        away = distances(forget, offered, scale)
        picked = [_pick(offered, costs.of, row) for row in away]
        found = [own or further for own, further in zip(found, picked, strict=True)]
    if forget.other is not None:
        found = _by_prompt_alone(witness, forget, found, offered, costs.of)
        offered = offered | {AS_IT_IS: as_it_is(shape)}
    unfamiliar = torch.tensor([pick is not None for pick in found])
    if not latent and not all(found):
        moved = small_shifts(shape)
        costs.ask(moved)
        offered = offered | moved
    last = distances(forget, offered, scale)
    picks = [
        _farthest(costs.of, row) if pick is None else pick
        for pick, row in zip(found, last, strict=True)
    ]
    used = [name for name in offered if any(name in pick for pick in picks)]
    positions = tuple(tuple(used.index(name) for name in pick) for pick in picks)
    return {name: offered[name] for name in used}, positions, unfamiliar


def _by_prompt_alone(
    witness: Witness,
    forget: Pictures,
    picks: list[list[str] | None],
    views: Views,
    costs: Mapping[str, float],
) -> list[list[str] | None]:
    """The picks, with images that nothing but their prompt is known by shown as they are.

    An image that has no unfamiliar view is, too, if the model loses enough more without its prompt.
    """
    timesteps = witness.process.timesteps_at(PROMPT_SHARES)
    witness = replace(witness, num_draws=max(PROMPT_DRAWS, witness.num_draws))
    asked = replace(forget, cond=forget.other)
    prompted, plain = (witness.mean_losses(p, timesteps).mean(2) for p in (forget, asked))
    gone = (plain / prompted).log().mean(1).exp() >= LEAST_WITHOUT_PROMPT
    found = list(picks)
    for row in gone.nonzero().flatten().tolist():
        seen = [
            witness.mean_losses(asked.take(slice(row, row + 1)), timesteps, views[name]).mean(2)
            / costs[name]
            for name in picks[row] or ()
        ]
        share = (plain[row] / torch.cat(seen).mean(0)).log().mean().exp() if seen else 1.0
        if share >= LEAST_OF_UNFAMILIAR:
            found[row] = [AS_IT_IS]
    return found


def _shape(pictures: Pictures) -> Shape:
    channels, height, width = pictures.clean.shape[1:]
    return channels, height, width


def _shears(shape: Shape, offered: Views, costs: Mapping[str, float]) -> Views:
    return shears(shape)


def _further_views(shape: Shape, turns: Views, costs: Mapping[str, float]) -> Views:
    """What is tried where turns and flips resemble the image: colours, products, the others."""
    cheap = sorted(turns, key=costs.__getitem__)[:COMBINED_TURNS]
    combined = products({name: turns[name] for name in cheap}, channel_permutations(shape))
    plain = {name: view for name, view in plain_views(shape).items() if name not in turns}
    return plain | combined


def _pick(views: Views, costs: Mapping[str, float], away: Mapping[str, float]) -> list[str] | None:
    """Names of the cheapest unfamiliar views, None where there are none."""
    far = [n for n in views if costs[n] <= MOST_COST and away[n] >= LEAST_DISTANCE]
    if not far:
        return None
    bound = NEARLY_AS_FAR * max(away[name] for name in far)
    return sorted((n for n in far if away[n] >= bound), key=costs.__getitem__)[:MOST_VIEWS]


def _farthest(costs: Mapping[str, float], away: Mapping[str, float]) -> list[str]:
    """Names of the farthest affordable views; of the cheapest ones where none is affordable."""
    affordable = [name for name in costs if costs[name] <= MOST_COST]
    affordable = affordable or sorted(costs, key=costs.__getitem__)[:FALLBACK_VIEWS]
    return sorted(affordable, key=lambda name: -away[name])[:FALLBACK_VIEWS]
