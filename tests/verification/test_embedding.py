"""The check of embeddings: judged beside a reference or unseen pictures, on a tiny pipeline."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dataunlearn.data import ArrayImages
from dataunlearn.models import DiffusionModel
from dataunlearn.models.families import wrap_pipeline
from dataunlearn.unlearning.verdict import Memory
from dataunlearn.verification import embedding
from dataunlearn.verification.battery import checks_of
from dataunlearn.verification.config import Verifying
from dataunlearn.verification.embedding import EmbeddingCheck
from dataunlearn.verification.subject import Pictures, Subject, make_subject
from tiny_pipelines import stable_diffusion


def side(*copies: int, samples: int = 16) -> dict[str, Any]:
    return {"copies": list(copies), "samples": samples}


@pytest.mark.parametrize(
    ("own", "beside", "memory"),
    [
        (side(0, 0), side(0, 0), Memory.NEVER_SEEN),
        (side(14, 12), side(0, 0), Memory.STILL_KNOWN),
        (side(14, 12), side(13, 12), Memory.NEVER_SEEN),
        (side(3, 3), side(0, 0), Memory.CANNOT_TELL),
    ],
)
def test_copies_count_beside_what_else_is_called_up(
    own: dict[str, Any], beside: dict[str, Any], memory: Memory
) -> None:
    assert EmbeddingCheck.judged(own, beside, "a model that never saw it").memory is memory


def pictures(count: int, seed: int, shape: tuple[int, int, int]) -> ArrayImages:
    pixels = np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)
    return ArrayImages(pixels, source=f"set {seed}", captions=["red"] * count)


@pytest.fixture
def model() -> DiffusionModel:
    return wrap_pipeline(stable_diffusion())


def subject(model: DiffusionModel, *, held_out: bool = False) -> Subject:
    shape = model.image_shape
    unseen = pictures(2, 2, shape) if held_out else None
    given = Pictures(pictures(2, 0, shape), pictures(3, 1, shape), unseen)
    settings = Verifying(effort="thorough", sampling_steps=2, regeneration_steps=2)
    return make_subject(model, given, settings, shown=False)


def test_it_is_a_check_of_models_that_take_prompts(model: DiffusionModel) -> None:
    found = subject(model)
    (check,) = (each for each in checks_of(found) if isinstance(each, EmbeddingCheck))
    assert "needs --reference or --held-out" in str(check.lacks(found))
    assert check.lacks(subject(model, held_out=True)) is None


def test_unseen_pictures_stand_beside(
    model: DiffusionModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def quick(_: Subject) -> embedding.EmbeddingSearch:
        return embedding.EmbeddingSearch(steps=1, draws=1, samples=2, sampling_steps=1)

    monkeypatch.setattr(embedding, "search_of", quick)
    found = EmbeddingCheck()(subject(model, held_out=True))
    assert found.memory in Memory
    assert len(found.numbers["model"]["copies"]) == 2
    assert len(found.numbers["beside"]["copies"]) == 2
    assert "pictures that it never saw" in found.words
