"""What a run looks at before its first step, on a tiny model."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from dataunlearn.data import ArrayImages
from dataunlearn.metrics.never_seen import different_pictures, some_pictures, witness_of
from dataunlearn.models.space import PixelSpace
from dataunlearn.objectives import Counterfactual
from dataunlearn.objectives._counterfactual import _PreparedCounterfactual
from dataunlearn.recognition.witness import Pictures
from dataunlearn.training.pairs import PairSampler
from dataunlearn.unlearning import preparing
from dataunlearn.unlearning.method import Method
from toy_levels import levels_by_hand


def repeated(images: ArrayImages, order: list[int]) -> ArrayImages:
    """The set's pictures in this order."""
    return ArrayImages(np.stack([images.pixels(index) for index in order]))


def make_job(model: Any, forget: Any, keep: Any) -> Any:
    return SimpleNamespace(
        config=SimpleNamespace(seed=3),
        split=SimpleNamespace(forget=forget, keep=keep),
        model=model,
    )


def test_pictures_are_numbered_as_pairs_number_them(make_model: Any, make_images: Any) -> None:
    """Copies of a picture have one number, in the order of their first appearance."""
    model, forget = make_model(), repeated(make_images(3, 1), [1, 0, 1, 2, 0, 1])
    pictures = different_pictures(model, forget)
    assert len(pictures) == 3
    sampler = PairSampler(make_images(5), forget, model.process, batch_pairs=7)
    seen = set()
    for step in range(3):
        pair = sampler(step)
        assert pair.forget_index is not None
        assert torch.equal(pictures.clean[pair.forget_index], pair.forget)
        seen |= set(pair.forget_index.tolist())
    assert seen == {0, 1, 2}


def test_without_a_forget_set_pairs_have_no_numbers(make_model: Any, make_images: Any) -> None:
    sampler = PairSampler(make_images(5), None, make_model().process, batch_pairs=2)
    assert sampler(0).forget_index is None


def test_pictures_keep_their_labels(make_model: Any, make_images: Any) -> None:
    model = make_model(num_class_embeds=3)
    pictures = different_pictures(model, make_images(2, 1, [2, 1]))
    assert isinstance(pictures.cond, torch.Tensor)
    assert pictures.cond.tolist() == [2, 1]
    assert pictures.other is None


@pytest.mark.parametrize("batch", [500, 4])
def test_neighbours_are_the_nearest_keep_pictures(
    batch: int, make_model: Any, make_images: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against sorting all distances, one by one."""
    monkeypatch.setattr(preparing, "NEIGHBOUR_BATCH", batch)
    forget, keep = make_images(3, 1), make_images(11, 2)
    found = preparing.nearest_keep(make_job(make_model(), forget, keep), 4)
    assert found.shape == (3, 4, 1, 8, 8)
    clean = keep.batch(torch.arange(11))
    for row, picture in enumerate(forget.batch(torch.arange(3))):
        order = sorted(range(11), key=lambda i: float((clean[i] - picture).square().sum()))
        torch.testing.assert_close(found[row], PixelSpace().samples(keep, torch.tensor(order[:4])))


def test_more_neighbours_than_pictures_are_an_error(make_model: Any, make_images: Any) -> None:
    job = make_job(make_model(), make_images(1, 1), make_images(3, 2))
    with pytest.raises(ValueError, match="3 keep images, and 4 neighbours"):
        preparing.nearest_keep(job, 4)


@pytest.mark.parametrize(("images", "draws"), [(1, 8), (3, 8), (4, 6), (12, 2), (13, 1), (99, 1)])
def test_few_images_are_looked_at_more_often(images: int, draws: int, make_model: Any) -> None:
    """24 draws in all, at most 8 for one image and at least 1."""
    assert witness_of(make_model(), images, 0).num_draws == draws


def test_the_witness_is_the_model_as_it_is_now(make_model: Any) -> None:
    """Its answers are the denoiser's; another seed has other noise."""
    model = make_model()
    witness, other = (witness_of(model, 2, seed) for seed in (0, 1))
    given = Pictures(torch.randn(2, 1, 8, 8))
    found = witness.answers(given, 300, 0, None)
    times = torch.tensor([300, 300])
    noise = witness.noise((1, 8, 8), 300, 0).expand(2, 1, 8, 8)
    with torch.no_grad():
        expected = model.denoiser(model.process.add_noise(given.clean, noise, times), times, None)
    torch.testing.assert_close(found, expected)
    assert not torch.equal(other.noise((1, 8, 8), 300, 0), noise[:1])


def test_keep_pictures_are_drawn_by_the_seed(make_model: Any, make_images: Any) -> None:
    keep, model = make_images(9), make_model()
    first, again = (some_pictures(model, keep, 5, seed=3).clean for _ in range(2))
    assert torch.equal(first, again) and len(first) == 5
    clean = keep.batch(torch.arange(9))
    found = [int((clean == picture).flatten(1).all(1).nonzero()) for picture in first]
    assert len(set(found)) == 5
    assert not torch.equal(some_pictures(model, keep, 5, seed=4).clean, first)


def test_the_objective_is_prepared_for_the_runs_noise_levels(
    make_model: Any, make_images: Any
) -> None:
    model = make_model()
    job = make_job(model, make_images(2, 1), make_images(4))
    job.config = Method(objective=Counterfactual())
    job.levels = levels_by_hand([[0.5]] * 2, (1, 8, 8), [300])
    context = preparing.context_of(job)
    assert context.timesteps == (0, 999)
    assert context.levels() is job.levels
    assert context.neighbours(2).shape == (2, 2, 1, 8, 8)
    found = job.config.objective.prepare(context)
    assert isinstance(found, _PreparedCounterfactual)
    assert found.tables is not None and found.tables.bounds == (0, 999)


class Captioned(list[str | None]):
    """A set of pictures, by their captions."""

    def caption(self, index: int) -> str | None:
        return self[index]


def job_of_captions(own: list[str], keep: list[str | None], num_samples: int) -> Any:
    evaluation = SimpleNamespace(num_samples=num_samples, seed=0)
    return SimpleNamespace(
        prompts=own,
        config=SimpleNamespace(evaluation=evaluation),
        split=SimpleNamespace(keep=Captioned(keep)),
    )


def test_other_prompts_are_those_of_keep_pictures_alone() -> None:
    keep: list[str | None] = ["a", "b", None, "forget", "b", "c"]
    found = preparing.other_prompts(job_of_captions(["forget"], keep, 10))
    assert sorted(map(str, found)) == ["a", "b", "c"]
    assert preparing.other_prompts(job_of_captions(["forget"], keep, 10)) == found


@pytest.mark.parametrize(
    ("own", "keep", "count"),
    [([], ["a", "b"], 8), (["a"], ["a", None], 8), (["x"], ["a", "b"], 0)],
)
def test_there_may_be_no_other_prompts(own: list[str], keep: list[str | None], count: int) -> None:
    assert preparing.other_prompts(job_of_captions(own, keep, count)) == []


def test_no_more_other_prompts_than_samples_drawn_from_all_pictures() -> None:
    keep: list[str | None] = [str(index) for index in range(1000)]
    found = preparing.other_prompts(job_of_captions(["x"], keep, 20))
    assert len(set(found)) == 20
    assert max(int(str(text)) for text in found) > 500
