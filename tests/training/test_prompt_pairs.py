"""Pairs of one prompt each, and prompts that are dropped."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch

from dataunlearn.conditioning import TextCond, same_conds
from dataunlearn.data import ArrayImages
from dataunlearn.models import DiffusionModel
from dataunlearn.models.families import wrap_pipeline
from dataunlearn.training.pairs import PairSampler, PromptPairSampler, shares_prompts
from tiny_pipelines import stable_diffusion


def make_images(captions: list[str], seed: int) -> ArrayImages:
    draw = np.random.default_rng(seed)
    pixels = draw.integers(0, 256, (len(captions), 3, 16, 16), dtype=np.uint8)
    return ArrayImages(pixels, captions=captions)


@pytest.fixture(scope="module")
def model() -> DiffusionModel:
    return wrap_pipeline(stable_diffusion())


KEEP = ["red"] * 5 + ["blue"] * 2 + ["green"] * 3
FORGET = ["red", "blue", "blue"]


def make_sampler(model: DiffusionModel, **settings) -> PromptPairSampler:
    return PromptPairSampler(
        make_images(KEEP, 0),
        make_images(FORGET, 1),
        model.process,
        space=model.space,
        **{"batch_pairs": 6, "seed": 4, **settings},
    )


class TestPromptPairs:
    def test_both_pictures_of_a_pair_have_one_prompt(self, model: DiffusionModel) -> None:
        sampler = make_sampler(model)
        for step in range(5):
            keep, forget = sampler.indices(step)
            assert [KEEP[i] for i in keep] == [FORGET[i] for i in forget]
            pair = sampler(step)
            assert same_conds(pair.keep_cond, pair.forget_cond)

    def test_prompts_take_turns_and_so_do_their_pictures(self, model: DiffusionModel) -> None:
        """In 20 steps of 6 pairs each of two prompts has 60 turns: 12 for each of 5 pictures."""
        sampler = make_sampler(model)
        drawn = [sampler.indices(step) for step in range(20)]
        keep = Counter(int(i) for k, _ in drawn for i in k)
        forget = Counter(int(i) for _, f in drawn for i in f)
        assert keep == {**dict.fromkeys(range(5), 12), 5: 30, 6: 30}
        assert forget == {0: 60, 1: 30, 2: 30}

    def test_a_step_is_a_function_of_its_number(self, model: DiffusionModel) -> None:
        first, again = make_sampler(model), make_sampler(model)
        first.indices(0)
        torch.testing.assert_close(first.indices(7), again.indices(7))

    def test_a_prompt_without_keep_images_is_named(self, model: DiffusionModel) -> None:
        with pytest.raises(ValueError, match=r"1 prompts to forget have no keep images.*'green'"):
            PromptPairSampler(
                make_images(["red"], 0),
                make_images(["red", "green"], 1),
                model.process,
                batch_pairs=2,
                space=model.space,
            )
        assert not shares_prompts(make_images(["red"], 0), make_images(["green"], 1))


class TestDropout:
    def test_both_sides_lose_their_prompts_together(self, model: DiffusionModel) -> None:
        sampler = PairSampler(
            make_images(["red"] * 3, 0),
            make_images(["blue"], 1),
            model.process,
            batch_pairs=400,
            space=model.space,
            prompt_dropout=0.25,
        )
        pair, nothing = sampler(0), model.space.nothing(1).fields["prompt"]
        assert isinstance(pair.keep_cond, TextCond)
        assert isinstance(pair.forget_cond, TextCond)
        dropped = (pair.keep_cond.fields["prompt"] == nothing).flatten(1).all(1)
        also = (pair.forget_cond.fields["prompt"] == nothing).flatten(1).all(1)
        assert torch.equal(dropped, also)
        assert 0.17 < dropped.float().mean() < 0.33  # 0.25 ± 3.7 standard deviations
        assert same_conds(pair.keep_cond, sampler(0).keep_cond)

    def test_pixel_models_have_no_prompts_to_drop(self, model: DiffusionModel) -> None:
        with pytest.raises(ValueError, match="leave it at 0"):
            PairSampler(
                make_images(["red"], 0), None, model.process, batch_pairs=2, prompt_dropout=0.1
            )
