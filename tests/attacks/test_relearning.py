"""Relearning: what it trains, what it leaves alone, and how its courses are read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

import dataunlearn
from dataunlearn.attacks import Relearned, Relearning, relearn
from dataunlearn.attacks.courses import Course, Look, pooled
from dataunlearn.attacks.relearning import Case, altered, completed, strangers, trained_course
from dataunlearn.data import ArrayImages
from dataunlearn.metrics.intervals import wilson
from dataunlearn.models import DiffusionModel
from dataunlearn.models.saving import hash_weights
from dataunlearn.training.config import default_learning_rate
from tiny_pipelines import stable_diffusion

Make = Callable[..., Any]
FAST = Relearning(
    steps=3, every_steps=2, batch_images=2, tries=2, regeneration_steps=2, seeds=(0, 4)
)


def course(seed: int, *shares: float) -> Course:
    """Looks every ten steps, at ten tries each."""
    looks = [Look(10 * i, round(10 * share), 10) for i, share in enumerate(shares)]
    return Course(seed, tuple(looks))


def test_the_first_look_from_which_half_is_restored_counts() -> None:
    assert course(0, 0, 0.4, 0.5, 0.2).returned_after(0.5) == 20
    assert course(0, 0, 0.4, 0.4).returned_after(0.5) is None
    assert course(0, 1, 0).returned_after(0.5) == 0


def test_seeds_are_compared_one_by_one() -> None:
    """Sooner, later, both never, never against some time, as soon."""
    own = [(0, 1), (0, 0, 1), (0, 0, 0), (0, 0, 0), (0, 1)]
    other = [(0, 0, 1), (0, 1), (0, 0, 0), (0, 1), (0, 1)]
    found = Relearned(
        Relearning(seeds=(0, 1, 2, 3, 4)),
        tuple(course(seed, *shares) for seed, shares in enumerate(own)),
        tuple(course(seed, *shares) for seed, shares in enumerate(other)),
        "reference",
    )
    assert found.returned_after == [10, 20, None, None, 10]
    assert found.beside_returned_after == [20, 10, None, 10, 10]
    assert found.sooner == 1
    assert found.much_later == 2  # 20 where it was 10, and never in a hundred steps
    assert replace(found, beside=(), beside_is=None).sooner is None
    assert replace(found, beside=(), beside_is=None).much_later is None


def test_shown_the_image_a_model_is_looked_at_more_often() -> None:
    keep, image, given = Relearning(), Relearning(on="image"), Relearning(steps=7, every_steps=3)
    assert (keep.num_steps, keep.steps_between_looks) == (100, 10)
    assert (image.num_steps, image.steps_between_looks) == (30, 2)
    assert (given.num_steps, given.steps_between_looks) == (7, 3)


def test_shares_of_several_seeds_are_pooled() -> None:
    (first, _), (last, interval) = pooled([course(0, 0, 0.2), course(1, 0, 0.8)])
    assert (first.restored, last.restored, last.tries) == (0, 10, 20)
    assert interval == wilson(10, 20)


def test_a_training_that_ended_counts_on_as_it_ended() -> None:
    looks = pooled([course(0, 0, 0.6), replace(course(1, 0.6), looks=course(1, 0, 0.6).looks[:1])])
    assert [look.restored for look, _ in looks] == [0, 6]


@pytest.mark.parametrize("on", ["keep", "image", "view"])
def test_models_are_left_as_they_were(on: Any, make_model: Make, make_images: Make) -> None:
    model, reference = make_model(0), make_model(1)
    hashes = hash_weights(model), hash_weights(reference)
    found = relearn(
        model,
        make_images(2, seed=1),
        make_images(6, seed=2),
        replace(FAST, on=on),
        reference=reference,
        shown=False,
    )
    assert (hash_weights(model), hash_weights(reference)) == hashes
    assert [c.seed for c in found.model] == [c.seed for c in found.beside] == [0, 4]
    assert all([look.step for look in c.looks] == [0, 2, 3] for c in (*found.model, *found.beside))
    assert found.beside_is == "reference"
    assert found.settings.timestep == 500
    assert found.settings.learning_rate == default_learning_rate(model.num_parameters)


def test_a_reference_that_is_the_model_itself_takes_the_same_course(
    make_model: Make, make_images: Make
) -> None:
    """Paired: same pictures, noise levels and noise. A wide threshold lets some tries count."""
    settings = replace(FAST, on="image", threshold=2.8, tries=8, learning_rate=0.02)
    found = relearn(
        make_model(0),
        make_images(1, seed=1),
        make_images(6, seed=2),
        settings,
        reference=make_model(0),
        shown=False,
    )
    assert found.model == found.beside
    assert found.sooner == 0
    assert found.beside_threshold == found.settings.threshold == 2.8


def test_training_on_the_image_brings_it_back(make_model: Make, make_images: Make) -> None:
    """Half a grey picture of noise: the tiny network learns to draw the one picture it is shown,
    and the looks' first and last distances to it show it."""
    pixels = np.full((1, 1, 8, 8), 230, dtype=np.uint8)
    case = Case(make_model(0), ArrayImages(pixels), threshold=1.5)
    settings = Relearning(
        on="image",
        steps=60,
        every_steps=60,
        learning_rate=0.01,
        batch_images=16,
        tries=8,
        regeneration_steps=4,
    )
    settings = completed(settings, case)
    found = trained_course(case, case.images, settings, 0, "relearning", False)
    assert [look.restored for look in found.looks] == [0, 8]
    often = replace(settings, every_steps=10)
    whole = trained_course(case, case.images, often, 0, "relearning", False)
    shares = [look.share for look in whole.looks]
    assert len(shares) == 7
    ended = trained_course(
        case, case.images, replace(often, until_returned=True), 0, "relearning", False
    )
    first = next(number for number, share in enumerate(shares) if share >= 0.5)
    assert 0 < first < 6
    assert ended.looks == whole.looks[: first + 1]
    at_once = replace(often, until_returned=True, returned_from=1e-9)
    wide = replace(case, threshold=100.0)
    assert len(trained_course(wide, case.images, at_once, 0, "relearning", False).looks) == 1
    assert found.returned_after(0.5) == 60


def test_without_a_reference_pictures_never_seen_stand_beside(
    make_model: Make, make_images: Make
) -> None:
    found = relearn(
        make_model(0),
        make_images(2, seed=1),
        make_images(6, seed=2),
        replace(FAST, on="image", seeds=(0,)),
        unseen=make_images(5, seed=3),
        shown=False,
    )
    assert found.beside_is == "unseen"
    assert found.beside_threshold is not None
    assert found.beside_threshold != found.settings.threshold
    assert len(found.beside) == 1
    assert found.as_json()["beside_returned_after"] == found.beside_returned_after


def test_strangers_are_in_no_other_set(make_images: Make) -> None:
    known, more = make_images(3, seed=1), make_images(4, seed=2)
    pixels = np.concatenate([known._pixels[1:], make_images(2, seed=3)._pixels])
    found = strangers(ArrayImages(pixels), known, more)
    assert found.digests() == make_images(2, seed=3).digests()
    with pytest.raises(ValueError, match="all among the forget or keep images"):
        strangers(known, more, known)


def test_a_view_alters_pixels_and_keeps_what_belongs_to_a_picture(make_images: Make) -> None:
    images = make_images(3, labels=[2, 0, 1])
    found = altered(images, "half turn")
    for index in range(3):
        assert np.array_equal(found.pixels(index), np.flip(images.pixels(index), (1, 2)))
        assert found.label(index) == images.label(index)
    negative = altered(images, "negative")
    assert np.array_equal(negative.pixels(1), 255 - images.pixels(1))


def test_a_text_to_image_model_relearns_under_its_captions(make_images: Make) -> None:
    """Latents, prompts and the reference's own encoder; the picture is 16 pixels wide."""
    from dataunlearn.models.families import wrap_pipeline

    def model() -> DiffusionModel:
        return wrap_pipeline(stable_diffusion())

    shape = model().image_shape
    draw = np.random.default_rng(0).integers(0, 256, (3, *shape), dtype=np.uint8)
    captions = ["red", "blue", "green"]
    found = relearn(
        model(),
        ArrayImages(draw[:1], captions=captions[:1]),
        ArrayImages(draw[1:], captions=captions[1:]),
        replace(FAST, on="view", steps=1, seeds=(0,)),
        reference=model(),
        shown=False,
    )
    assert found.model == found.beside


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"on": "others"}, "on must be one of keep, image, view"),
        ({"steps": 0}, "steps must be at least 1"),
        ({"learning_rate": 0.0}, "learning_rate must be above 0"),
        ({"threshold": -1.0}, "threshold must be above 0"),
        ({"returned_from": 0.0}, r"returned_from must lie in \(0, 1\]"),
        ({"seeds": ()}, "at least one seed"),
        ({"seeds": (1, 1)}, "seeds must be different"),
    ],
)
def test_senseless_settings_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Relearning(**changes)


def test_what_does_not_fit_is_refused_before_any_training(
    make_model: Make, make_images: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "dataunlearn.attacks.relearning.trained_course", lambda *_: pytest.fail("it trains")
    )
    model, forget, keep = make_model(), make_images(1, seed=1), make_images(4, seed=2)
    with pytest.raises(ValueError, match="also to be forgotten"):
        relearn(model, forget, ArrayImages(np.concatenate([forget._pixels, keep._pixels])))
    with pytest.raises(ValueError, match="cannot be compared"):
        relearn(model, forget, keep, reference=make_model(num_class_embeds=3))
    with pytest.raises(ValueError, match="no view 'sideways' of these pictures; there are mirr"):
        relearn(model, forget, keep, Relearning(on="view", view="sideways"))
    with pytest.raises(ValueError, match="timestep must lie from 0 to 999"):
        relearn(model, forget, keep, Relearning(timestep=1000))


def test_forget_images_among_the_keep_images_are_left_out_if_asked_for(
    make_model: Make, make_images: Make
) -> None:
    forget, keep = make_images(1, seed=1), make_images(4, seed=2)
    both = ArrayImages(np.concatenate([forget._pixels, keep._pixels]))
    settings = replace(FAST, threshold=1.0)
    found = relearn(make_model(), forget, both, replace(settings, drop_overlap=True), shown=False)
    assert found.model == relearn(make_model(), forget, keep, settings, shown=False).model


def test_the_names_of_the_room_are_there() -> None:
    assert dataunlearn.attacks.relearn is relearn  # type: ignore[attr-defined]
    with pytest.raises(AttributeError, match="no attribute 'relern'"):
        dataunlearn.attacks.relern  # type: ignore[attr-defined] # noqa: B018
    assert torch.is_grad_enabled()
