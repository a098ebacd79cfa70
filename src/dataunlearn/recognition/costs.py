"""What a view costs: by how much more a model errs on pictures that it does not know by heart.

A view that turns pictures into what a model has never seen anything like makes it answer badly
whatever it is asked. That shows on pictures to keep, but not on those that the model knows by
heart: of such a picture any view that hides it costs what knowing it had saved.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from dataunlearn.questions import View
from dataunlearn.recognition.witness import Pictures, Witness
from dataunlearn.views import Views

# A view is unfamiliar from this distance to the image, as a share of the image's median distance to
# pictures to keep: measured on emoji and a T-shirt, docs/results/never_seen.md.
LEAST_DISTANCE = 0.5
# A view is affordable up to this factor in the loss of pictures to keep.
MOST_COST = 2.0
COST_SHARES = (0.2, 0.3, 0.4)
COST_PICTURES, COST_DRAWS = 12, 1
# A picture is known by heart if turning it costs this much, in the median of turns that hide it:
# planted pictures lose some ten times as much turned, pictures that were there once half as much
# again (docs/results/never_seen.md).
BY_HEART = 4.0
# If fewer than this are left without those known by heart, all of them are asked about, and views
# are compared with the cheapest one.
FEWEST_ASKED = 3
# Passes that choosing takes about: those pictures as they are and through up to forty views.
CHOOSING_PASSES = COST_PICTURES * COST_DRAWS * len(COST_SHARES) * 41


class ViewCosts:
    """By which factor views raise a model's loss on some pictures to keep.

    They are asked as forget images are: without prompts where the model takes any. Pictures that
    the model knows by heart are left out: those that lose at least ``BY_HEART`` times as much
    through most of the turns and flips that hide them. Where hardly any other is left, a picture's
    loss through the cheapest of these stands for what it would lose unknown and upright.

    Args:
        witness: The model.
        keep: Pictures to keep; the first twelve are asked about.
        turns: Turns and flips, asked first.

    Attributes:
        of: The factor of each view that was asked, by name.
        num_pictures: How many pictures it rests on.
    """

    def __init__(self, witness: Witness, keep: Pictures, turns: Views) -> None:
        few = keep.take(slice(COST_PICTURES))
        if few.other is not None:
            few = replace(few, cond=few.other)
        self._witness = replace(witness, num_draws=COST_DRAWS)
        plain = self._losses(few)
        turned = {name: self._losses(few, view) for name, view in turns.items()}
        through, hidden = torch.stack(list(turned.values())), _hidden(few, keep, turns)
        asked = ~_known_by_heart(plain, through, hidden)
        if int(asked.sum()) < FEWEST_ASKED:
            plain = torch.where(asked[:, None], plain, _cheapest(through, hidden))
            asked = torch.ones_like(asked)
        rows = asked.nonzero().flatten()
        self._pictures, self._plain, self.num_pictures = few.take(rows), plain[rows], len(rows)
        self.of = {name: self._factor(losses[rows]) for name, losses in turned.items()}

    def ask(self, views: Views) -> None:
        """Ask about further views, too."""
        self.of |= {n: self._factor(self._losses(self._pictures, v)) for n, v in views.items()}

    def _losses(self, pictures: Pictures, view: View | None = None) -> Tensor:
        """Of each picture at each noise level, ``(N, T)``."""
        timesteps = self._witness.process.timesteps_at(COST_SHARES)
        return self._witness.mean_losses(pictures, timesteps, view).mean(2)

    def _factor(self, losses: Tensor) -> float:
        return float((losses.mean(0) / self._plain.mean(0)).log().mean().exp())


def _hidden(few: Pictures, keep: Pictures, views: Views) -> Tensor:
    """Which views leave each of a few pictures unfamiliar, ``(V, N)`` bool."""
    scale = median_distance(few, keep)
    away = distances(few, views, scale)
    return torch.tensor([[row[name] >= LEAST_DISTANCE for row in away] for name in views])


def _known_by_heart(plain: Tensor, turned: Tensor, hidden: Tensor) -> Tensor:
    """Which pictures lose much more through most of the views that hide them, ``(N,)`` bool.

    Args:
        plain: Losses of pictures as they are, ``(N, T)``.
        turned: Through views, ``(V, N, T)``.
        hidden: Whether a view hides a picture, ``(V, N)`` bool; one that none hides is not known.
    """
    dearer = (turned / plain).log().mean(2).exp()  # (V, N)
    typical = torch.where(hidden, dearer, torch.nan).nanmedian(dim=0).values
    return typical >= BY_HEART  # NaN where nothing hides it


def _cheapest(turned: Tensor, hidden: Tensor) -> Tensor:
    """Losses ``(N, T)`` through the cheapest view that hides each picture."""
    means = torch.where(hidden, turned.log().mean(2), torch.inf)  # (V, N)
    return turned[means.argmin(0), torch.arange(turned.shape[1])]


def median_distance(forget: Pictures, keep: Pictures) -> Tensor:
    """Each image's median Euclidean distance to pictures to keep, ``(K,)``."""
    apart = torch.cdist(forget.clean.flatten(1).float(), keep.clean.flatten(1).float())
    return apart.median(dim=1).values.cpu()


def distances(forget: Pictures, views: Views, scale: Tensor) -> list[dict[str, float]]:
    """For each image how far each view is from it, as a share of ``scale (K,)``."""
    apart = {
        name: (view(forget.clean) - forget.clean).flatten(1).norm(dim=1).cpu() / scale
        for name, view in views.items()
    }
    return [{name: float(apart[name][row]) for name in views} for row in range(len(forget))]
