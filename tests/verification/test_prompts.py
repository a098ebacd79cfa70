"""The check of prompts: which are tried, and what is counted beside what."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from dataunlearn.attacks.variations import variations
from dataunlearn.data import ArrayImages
from dataunlearn.models import DiffusionModel
from dataunlearn.models.families import wrap_pipeline
from dataunlearn.models.sampling import Drawing
from dataunlearn.unlearning.verdict import Memory
from dataunlearn.verification import prompts
from dataunlearn.verification.battery import checks_of
from dataunlearn.verification.config import Verifying
from dataunlearn.verification.prompts import SAMPLES, PromptCheck
from dataunlearn.verification.subject import Pictures, Subject, make_subject
from tiny_pipelines import stable_diffusion

CAPTION = "red square on blue"


def test_variations_of_a_prompt() -> None:
    found = variations(CAPTION)
    assert CAPTION not in found
    assert len(set(found)) == len(found)
    expected = {"RED SQUARE ON BLUE", "Red Square On Blue", "a picture of red square on blue"}
    expected |= {"red square", "blue on square red", "red sqaure on blue", "square on blue"}
    assert expected <= set(found)
    assert all(text.strip() for text in found)


@pytest.mark.parametrize("prompt", ["", "red", "RED", " a  b ", "ab"])
def test_short_prompts_have_variations_too(prompt: str) -> None:
    assert prompt not in variations(prompt)


def subject(model: DiffusionModel, reference: DiffusionModel | None = None) -> Subject:
    def pictures(count: int, seed: int) -> ArrayImages:
        pixels = np.random.default_rng(seed).integers(
            0, 256, (count, *model.image_shape), dtype=np.uint8
        )
        return ArrayImages(pixels, source=f"set {seed}", captions=[CAPTION] * count)

    given = Pictures(pictures(1, 0), pictures(3, 1))
    settings = Verifying(effort="thorough", sampling_steps=2, threshold=1.0)
    return make_subject(model, given, settings, reference=reference, shown=False)


@pytest.mark.parametrize("known", [CAPTION.title(), "something else"])
def test_a_picture_that_a_variation_calls_up_is_found(
    known: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the turns of that variation alone, and of a model without memory in none."""
    model, reference = (wrap_pipeline(stable_diffusion()) for _ in range(2))
    found = subject(model, reference)
    image = found.job.split.forget.batch(torch.tensor([0]))[0]

    def drawn(asked: DiffusionModel, count: int, drawing: Drawing) -> Tensor:
        prompts = [drawing.prompts[at % len(drawing.prompts)] for at in range(count)]
        return torch.stack(
            [image if asked is model and prompt == known else 0 * image for prompt in prompts]
        )

    monkeypatch.setattr(prompts, "generate", drawn)
    (check,) = (each for each in checks_of(found) if isinstance(each, PromptCheck))
    assert check.lacks(found) is None
    checked = check(found)
    (by_prompt,) = checked.numbers["model"]["by_prompt"]
    called = {text: copies for text, copies in by_prompt.items() if copies}
    turns = len(range(list(by_prompt).index(known), SAMPLES, len(by_prompt))) if called else 0
    assert called == ({known: turns} if known in by_prompt else {})
    assert checked.numbers["model"]["copies"] == [turns]
    assert checked.numbers["beside"]["copies"] == [0]
    assert checked.memory is (Memory.CANNOT_TELL if turns else Memory.NEVER_SEEN)


def test_without_anything_to_compare_with_it_is_left_out() -> None:
    found = subject(wrap_pipeline(stable_diffusion()))
    assert "needs --reference" in str(PromptCheck().lacks(found))
