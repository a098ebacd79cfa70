"""Levels: the loss of the mean answer through an image's views, by a slow loop."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from dataunlearn.recognition.levels import Levels, mean_answers, measure_levels
from dataunlearn.recognition.witness import Pictures, Witness
from toy_levels import levels_by_hand

SHAPE = (3, 4, 4)
TIMESTEPS = (100, 400)


def ask(noisy, t, cond):
    """Not the same for a view as for the picture; depends on the conditioning."""
    place = torch.linspace(-1, 1, noisy[0].numel()).reshape(noisy.shape[1:])
    number = 0 if cond is None else 0.1 * cond.float()
    return (
        0.9 * noisy
        + 0.1 * torch.tanh(noisy * place)
        + torch.as_tensor(number).reshape(-1, *[1] * 3)
    )


def pictures(count, seed, conditioned):
    clean = torch.randn(count, *SHAPE, generator=torch.Generator().manual_seed(seed))
    cond = torch.arange(count) if conditioned else None
    return Pictures(clean, cond, None if cond is None else cond + 5)


@pytest.mark.parametrize("conditioned", [False, True])
def test_the_level_is_the_loss_of_the_mean_answer(conditioned, make_process):
    """Picture by picture: noised, turned, asked, turned back, averaged, compared with the noise.

    Under the other conditioning where there is one; what the model loses itself under its own.
    """
    process = make_process()
    witness = Witness(ask, process, seed=3, num_draws=2)
    forget, keep = pictures(5, 0, conditioned), pictures(20, 1, conditioned)
    found = measure_levels(witness, forget, keep, TIMESTEPS, latent=False)
    assert found.timesteps == TIMESTEPS and found.asks_other == conditioned
    assert found.before.shape == found.level.shape == (5, 2, 2)
    views = list(found.views.values())
    for row in range(5):
        for column, t in enumerate(TIMESTEPS):
            for draw in range(2):
                times, noise = torch.tensor([t]), witness.noise(SHAPE, t, draw)
                noisy = process.add_noise(forget.clean[row : row + 1], noise, times)
                one = forget.take(slice(row, row + 1))
                own = ask(noisy, times, one.cond)
                answers = []
                for position in found.chosen[row]:
                    view = views[position]
                    answer = ask(view(noisy), times, one.other).flatten(1)
                    back = torch.empty_like(answer)
                    back[:, view.order] = answer * view.sign
                    answers.append(back.reshape(1, *SHAPE))
                mean = sum(answers) / len(answers)
                for table, said in ((found.before, own), (found.level, mean)):
                    expected = (said - noise).square().mean().double()
                    torch.testing.assert_close(
                        table[row, column, draw], expected, rtol=1e-4, atol=1e-7
                    )


def test_familiar_pictures_lose_what_the_mixture_with_keep_pictures_does(make_process):
    """Latents that every turn keeps have no unfamiliar view. Their answers are mixed with what the
    mean of keep pictures says, each counted by how likely the noisy picture is to be made from it,
    in the proportion of the noise; other pictures' answers are not."""
    process = make_process()
    witness = Witness(ask, process, seed=3, num_draws=2)
    plain, keep = pictures(2, 0, False).clean, pictures(9, 1, False)
    turned = [plain[:1].rot90(k, (2, 3)) for k in range(4)]
    still = sum(turned + [each.mT for each in turned]) / 8
    forget = Pictures(torch.cat([plain, still]))
    found = measure_levels(witness, forget, keep, TIMESTEPS, latent=True)
    assert found.unfamiliar.tolist() == [True, True, False]
    torch.testing.assert_close(found.keep, keep.clean)
    views = list(found.views.values())
    for column, t in enumerate(TIMESTEPS):
        times = torch.tensor([t])
        gamma, sigma = float(process.gamma(times)), float(process.sigma(times))
        for draw in range(2):
            noise = witness.noise(SHAPE, t, draw)
            noisy = gamma * still + sigma * noise
            own = [views[at] for at in found.chosen[2]]
            answers = [view.inverse(ask(view(noisy), times, None)) for view in own]
            away = (noisy.double() - gamma * keep.clean.double()).square().flatten(1).sum(1)
            likely = (-away / (2 * sigma**2)).softmax(0)
            clean = sum(p * x for p, x in zip(likely, keep.clean.double(), strict=True))
            share = sigma**2 / (gamma**2 + sigma**2)
            said = (1 - share) * sum(answers) / len(answers) + share * (
                (noisy - gamma * clean) / sigma
            )
            expected = (said - noise).square().mean()
            torch.testing.assert_close(
                found.level[2, column, draw], expected.double(), rtol=1e-4, atol=1e-7
            )
    alone = measure_levels(witness, Pictures(plain), keep, TIMESTEPS, latent=True)
    torch.testing.assert_close(found.level[:2], alone.level)
    assert alone.keep is None


def test_the_same_each_time_and_whatever_the_batches(make_process):
    given = pictures(5, 0, False), pictures(20, 1, False)
    first, again, parts = (
        measure_levels(
            Witness(ask, make_process(), batch_size=size), *given, TIMESTEPS, latent=False
        )
        for size in (64, 64, 2)
    )
    assert torch.equal(first.level, again.level)
    torch.testing.assert_close(first.level, parts.level)
    assert first.names == again.names == parts.names


def test_a_model_that_is_the_same_through_every_view_recognises_nothing(make_process):
    """T^-1 (T m) = m: level and loss are one."""
    witness = Witness(lambda noisy, t, cond: 0.5 * noisy, make_process())
    found = measure_levels(
        witness, pictures(4, 0, False), pictures(9, 1, False), TIMESTEPS, latent=False
    )
    torch.testing.assert_close(found.level, found.before)
    torch.testing.assert_close(found.recognition, torch.zeros(4, 2, dtype=torch.float64))


def test_recognition_by_hand():
    """1 - before/level of the means over draws; 0 where the model loses as much or more."""
    before = torch.tensor([[[1.0, 3.0], [4.0, 6.0], [0.0, 0.0]]], dtype=torch.float64)
    level = torch.tensor([[[8.0, 8.0], [5.0, 4.0], [1.0, 2.0]]], dtype=torch.float64)
    unfamiliar = torch.ones(1, dtype=torch.bool)
    found = Levels((1, 2, 3), {}, ((),), unfamiliar, False, before, level, torch.zeros(1))
    assert found.recognition.tolist() == [[0.75, 0.0, 1.0]]


@pytest.mark.parametrize(
    ("recognition", "below"),
    [
        ([[0.9, 0.8, 0.5, 0.1, 0.0]], 40),
        ([[0.9, 0.5, 0.0, 0.0, 0.0], [0.9, 0.9, 0.5, 0.0, 0.0]], 30),  # the mean counts
        ([[0.9, 0.1, 0.6, 0.1, 0.0]], 40),  # the last one
        ([[0.9, 0.9, 0.9, 0.9, 0.9]], None),
        ([[0.1, 0.1, 0.1, 0.0, 0.0]], None),
    ],
)
def test_where_recognition_ends(recognition, below):
    found = levels_by_hand(recognition, SHAPE, (10, 20, 30, 40, 50))
    assert found.recognised_below == below


@pytest.mark.parametrize("seed", range(3))
def test_recognition_is_a_share(seed):
    generator = torch.Generator().manual_seed(seed)
    before, level = torch.rand(2, 6, 5, 3, generator=generator, dtype=torch.float64)
    found = replace(levels_by_hand([[0.0] * 5] * 6, SHAPE, range(5)), before=before, level=level)
    assert bool(((found.recognition >= 0) & (found.recognition <= 1)).all())
    worse = before.mean(2) >= level.mean(2)
    assert torch.equal(found.recognition == 0, worse)


def test_images_have_names_of_their_views():
    found = levels_by_hand([[0.5]] * 2, (1, 4, 4), [10], chosen=[[2, 0], [1]])
    assert found.names == [["half turn", "mirrored"], ["upside down"]]


def test_mean_answers_leave_out_views_of_others(make_process):
    """A model that says the same of everything: every mean is that, however many views."""
    witness = Witness(lambda noisy, t, cond: torch.ones_like(noisy), make_process())
    views = levels_by_hand([[0.5]], SHAPE, [10]).views
    mean = mean_answers(witness, pictures(3, 0, False), (10, 0), views, [[0], [0, 1, 2], [4, 5]])
    assert torch.equal(mean, torch.ones(3, *SHAPE))
