"""Pictures of a class-conditional model must have classes that it has, whoever asks for them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from dataunlearn.data import ArrayImages
from dataunlearn.models import DiffusionModel
from dataunlearn.models.pictures import open_for


@pytest.mark.parametrize(
    ("labels", "said"),
    [([0, 7], "labels run from 0 to 7"), ([-1, 1], "run from -1"), (None, "carry no labels")],
)
@pytest.mark.parametrize("role", ["audited", "keep", "held-out", "forget"])
def test_refused_with_the_side_that_is_meant(
    make_model: Callable[..., DiffusionModel], labels: list[int] | None, said: str, role: str
) -> None:
    given = None if labels is None else np.array(labels)
    images = ArrayImages(np.zeros((2, 1, 8, 8), np.uint8), source="set", labels=given)
    with pytest.raises(ValueError, match=f"{role} images.*{said}"):
        open_for(make_model(num_class_embeds=3), images, role=role)
