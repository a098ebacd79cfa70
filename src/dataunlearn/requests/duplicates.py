"""Near-duplicates of a request's pictures among those to keep.

Forgetting one of two copies forgets nothing. Copies with the same pixels leave the keep side by
themselves; what only looks the same is shown, and whoever applies the request decides.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from dataunlearn.data import ImageSet
from dataunlearn.metrics.pixel_distance import (
    distinct_indices,
    known_distances,
    pixel_distances,
)
from dataunlearn.runtime.progress import progress_bar
from dataunlearn.runtime.seeding import random_stream
from dataunlearn.views import turns_and_flips

BATCH_IMAGES, CALIBRATION_IMAGES = 500, 1000
AS_IT_IS = "as it is"


@dataclass(frozen=True)
class Duplicate:
    """A picture to keep that looks like one to forget.

    Attributes:
        row: Its position among the keep images.
        name: Its name.
        of: The name of the picture to forget.
        view: How it has to be turned to look the same.
        distance: Pixel distance to it then, pixels in [0, 1].
        limit: The distance below which a picture counts.
    """

    row: int
    name: str
    of: str
    view: str
    distance: float
    limit: float

    @property
    def words(self) -> str:
        """It in words."""
        turned = "" if self.view == AS_IT_IS else f" ({self.view})"
        return f"{self.name} looks like {self.of}{turned}: {self.distance:.2g} apart"


def near_duplicates(forget: ImageSet, keep: ImageSet, *, shown: bool = True) -> list[Duplicate]:
    """Pictures to keep that are nearly a picture to forget, however that is turned or mirrored.

    Nearly is a fifth of the median distance from the picture to others, the distance within which
    a picture that a model knows by heart comes back. Equal pixels are left out.

    Args:
        forget: The pictures to forget.
        keep: The pictures to keep.
        shown: Whether to draw progress.
    """
    rows = distinct_indices(forget)
    originals = forget.batch(torch.tensor(rows))
    views = {AS_IT_IS: None, **turns_and_flips(forget.shape)}
    turned = torch.cat([originals if v is None else v(originals) for v in views.values()])
    sample = torch.randperm(len(keep), generator=random_stream(0))[:CALIBRATION_IMAGES]
    limits = known_distances(pixel_distances(keep.batch(sample), originals))  # (K,)
    known = {forget.digest(row) for row in rows}
    found: list[Duplicate] = []
    with progress_bar("looking for near-duplicates", len(keep), shown=shown) as advance:
        for part in torch.split(torch.arange(len(keep)), BATCH_IMAGES):
            apart = pixel_distances(keep.batch(part), turned).reshape(len(part), len(views), -1)
            nearest, which = apart.min(dim=1)  # (N, K): over views
            for at, image in (nearest < limits).nonzero().tolist():
                row = int(part[at])
                if keep.digest(row) not in known:
                    name, view = forget.name(rows[image]), list(views)[int(which[at, image])]
                    numbers = float(nearest[at, image]), float(limits[image])
                    found.append(Duplicate(row, keep.name(row), name, view, *numbers))
            advance(len(part))
    return found
