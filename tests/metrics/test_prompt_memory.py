"""Prompt memory on models whose samples are known, judged by distance and by labels."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from dataunlearn.conditioning import TextCond
from dataunlearn.metrics.intervals import wilson
from dataunlearn.metrics.pixel_distance import pixel_distances
from dataunlearn.metrics.prompt_memory import (
    Judge,
    NearOriginal,
    memorised_samples,
    memorised_share,
    mitigated_share,
    near_originals,
    prompt_memory,
)
from dataunlearn.models import DiffusionModel
from dataunlearn.models.families import wrap_pipeline
from dataunlearn.models.sampling import Drawing, generate, noise_for
from dataunlearn.prompts.labels import LikeLabelled, label_memorised
from tiny_pipelines import CAPTIONS, stable_diffusion


class Remembers(nn.Module):
    """Leads half of the noises (by the sign of one entry) to the prompt's picture, else to zero."""

    def __init__(self, model: DiffusionModel, pictures: dict[str, Tensor]) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))
        self.process = model.process
        self.known = [
            (model.space.prompts([text]).fields["prompt"], picture)
            for text, picture in pictures.items()
        ]

    def forward(self, noisy: Tensor, t: Tensor, cond: TextCond) -> Tensor:
        clean = torch.zeros_like(noisy)
        for row, prompt in enumerate(cond.fields["prompt"]):
            for embedding, latent in self.known:
                if torch.equal(prompt, embedding[0]) and noisy[row, 0, 0, 0] > 0:
                    clean[row] = latent
        return self.process.target(noisy, clean, t)


@pytest.fixture
def model() -> DiffusionModel:
    """Of the captions "red" and "blue" it knows a picture each, of "green" none."""
    found = wrap_pipeline(stable_diffusion())
    found.guidance = 1.0
    latents = 4 * torch.randn(2, *found.shape, generator=torch.Generator().manual_seed(2))
    found.denoiser = Remembers(found, {"red": latents[0], "blue": latents[1]})
    found.latents = latents  # type: ignore[attr-defined]
    return found


def originals(model: DiffusionModel) -> Tensor:
    """The pictures of "red", "blue", and for "green" that of "red"."""
    known = model.space.decode(model.latents)  # type: ignore[attr-defined]
    return torch.stack([known[0], known[1], known[0]])


def close_enough(model: DiffusionModel) -> float:
    """Half of the distance from a known picture to what else the model draws."""
    other = model.space.decode(torch.zeros(1, *model.shape))
    return float(pixel_distances(originals(model), other).min()) / 2


def starts_positive(count: int, seed: int) -> Tensor:
    """Which noises lead to the picture: the first entry's sign, drawn as sampling draws it."""
    return noise_for((4, 8, 8), seed, range(count))[:, 0, 0, 0] > 0


def test_shares_are_the_known_ones(model: DiffusionModel) -> None:
    """A single step from noise j gives the picture if j's first entry is positive, else zero."""
    expected = starts_positive(10, 3)
    assert 0 < expected.sum() < 10
    found = prompt_memory(
        model,
        CAPTIONS,
        originals(model),
        threshold=close_enough(model),
        samples_per_prompt=10,
        drawing=Drawing(seed=3, num_steps=1, batch_size=4),
    )
    share = expected.double().mean().item()
    assert found.per_item is not None
    torch.testing.assert_close(found.per_item, torch.tensor([share, share, 0]).double())
    assert found.value == pytest.approx(2 * share / 3)
    assert found.interval is not None
    assert found.interval[0] <= found.value <= found.interval[1]
    assert found.interval == pytest.approx((0, share))  # no prompt remembers, or all
    assert found.settings["threshold"] == close_enough(model)
    assert found.as_json()["settings"]["guidance"] == 1


def test_a_sample_does_not_depend_on_other_prompts_or_the_batch(model: DiffusionModel) -> None:
    judges = near_originals(originals(model), close_enough(model))
    counts: list[int] = []
    together = memorised_samples(
        model,
        CAPTIONS,
        judges,
        samples_per_prompt=6,
        drawing=Drawing(num_steps=1, progress=counts.append),
    )
    alone = memorised_samples(
        model,
        CAPTIONS[1:2],
        judges[1:2],
        samples_per_prompt=6,
        drawing=Drawing(num_steps=1, batch_size=1),
    )
    assert counts == [6, 6, 6]
    assert torch.equal(together[1:2], alone)
    assert torch.equal(together[0], starts_positive(6, 0))


def test_labels_of_the_original_models_samples_judge_fresh_ones(model: DiffusionModel) -> None:
    first = generate(model, 32, Drawing(seed=1, num_steps=1, prompts=["red"]))
    labelling = label_memorised(first, training_image=originals(model)[0])
    assert labelling.verdict == "mixed"
    judges: list[Judge] = [LikeLabelled(labelling), LikeLabelled(labelling)]
    found = memorised_samples(
        model, ["red", "green"], judges, samples_per_prompt=12, drawing=Drawing(seed=2, num_steps=1)
    )
    assert torch.equal(found[0], starts_positive(12, 2))
    assert not found[1].any()


def test_each_original_has_its_threshold() -> None:
    """Grey pictures of 2x2 pixels that differ by 0.2 lie 0.1 * 2 apart in [0, 1] pixels."""
    pictures = torch.stack([torch.full((1, 2, 2), value) for value in (0.0, 0.5)])
    judges = near_originals(pictures, torch.tensor([0.3, 0.1]))
    samples = torch.stack([torch.full((1, 2, 2), value) for value in (0.2, 0.7)])
    assert [judge(samples).tolist() for judge in judges] == [[True, False], [False, False]]
    same = near_originals(pictures, 0.3)
    assert [judge.threshold for judge in same] == pytest.approx([0.3, 0.3])
    assert same[1](samples).tolist() == [False, True]


def test_mitigated_counts_prompts_whose_first_samples_are_clean() -> None:
    found = torch.zeros(4, 16, dtype=torch.bool)
    found[0, 2] = found[1, 8] = found[2, 15] = True
    eight, sixteen = mitigated_share(found), mitigated_share(found, num_samples=16)
    assert eight.value == 3 / 4 and sixteen.value == 1 / 4
    assert eight.interval == wilson(3, 4) and sixteen.interval == wilson(1, 4)
    assert eight.per_item is not None
    assert eight.per_item.tolist() == [False, True, True, True]
    assert (eight.name, sixteen.name) == ("mitigated_share_8", "mitigated_share_16")


def test_of_one_prompt_the_interval_is_over_its_samples() -> None:
    found = torch.tensor([[True, False, False, True, False]])
    result = memorised_share(found)
    assert result.value == pytest.approx(2 / 5)
    assert result.interval == wilson(2, 5)


def test_errors_say_what_to_do(model: DiffusionModel) -> None:
    picture = torch.zeros(3, 16, 16)
    judge = NearOriginal(picture, 1.0)
    with pytest.raises(ValueError, match="1 judges for the prompts"):
        memorised_samples(model, CAPTIONS, [judge], drawing=Drawing(num_steps=50))
    with pytest.raises(ValueError, match="give one for each"):
        memorised_samples(model, "red", [judge] * 3, drawing=Drawing(num_steps=50))
    with pytest.raises(ValueError, match="give at least 1"):
        memorised_samples(
            model, ["red"], [judge], samples_per_prompt=0, drawing=Drawing(num_steps=50)
        )
    with pytest.raises(ValueError, match="bring the original to the samples' shape"):
        judge(torch.zeros(1, 3, 8, 8))
    with pytest.raises(ValueError, match="2 originals with thresholds"):
        near_originals(torch.stack([picture, picture]), torch.ones(3))
    with pytest.raises(ValueError, match="of 8 samples per prompt"):
        mitigated_share(torch.zeros(2, 8, dtype=torch.bool), num_samples=16)
    with pytest.raises(ValueError, match="give bools"):
        memorised_share(torch.zeros(0, 8, dtype=torch.bool))
