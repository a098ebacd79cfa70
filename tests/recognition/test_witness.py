"""The witness: asked row by row with one noise for all pictures."""

from __future__ import annotations

import pytest
import torch

from dataunlearn.recognition.witness import Pictures, Witness
from dataunlearn.views import plain_views

SHAPE = (1, 4, 4)
PROCESSES = ["epsilon", "sample", "v_prediction", "flow_prediction"]


def ask(noisy, t, cond):
    """Says something else of every coordinate, timestep and class; knows no batch."""
    place = torch.arange(noisy[0].numel()).reshape(noisy.shape[1:]).to(noisy)
    number = t.float() / 1000 + (0 if cond is None else 10 * cond.float())
    return torch.tanh(noisy * (1 + place)) + number.reshape(-1, 1, 1, 1)


def pictures(count=7, classes=False):
    clean = torch.randn(count, *SHAPE, generator=torch.Generator().manual_seed(3))
    cond = torch.arange(count) if classes else None
    return Pictures(clean, cond, None if cond is None else cond + 100)


def noisy_by_hand(witness, clean, t, draw):
    """gamma x + sigma eps of one picture, the noise by the witness's name for it."""
    noise = witness.noise(SHAPE, t, draw)[0]
    times = torch.tensor([t])
    gamma, sigma = witness.process.gamma(times).float(), witness.process.sigma(times).float()
    return gamma * clean + sigma * noise, noise


@pytest.mark.parametrize("other", [False, True])
@pytest.mark.parametrize("name", [None, *plain_views(SHAPE)])
def test_answers_equal_a_slow_loop(name, other, make_process):
    witness, given = Witness(ask, make_process(), seed=5, batch_size=3), pictures(classes=True)
    view = None if name is None else plain_views(SHAPE)[name]
    found = witness.answers(given, 300, 1, view, other=other)
    for row in range(len(given)):
        noisy, _ = noisy_by_hand(witness, given.clean[row], 300, 1)
        flat = noisy.flatten()
        if view is not None:
            flat = flat[view.order] * view.sign
        cond = (given.other if other else given.cond)[row : row + 1]
        answer = ask(flat.reshape(1, *SHAPE), torch.tensor([300]), cond).flatten()
        if view is not None:
            back = torch.empty_like(answer)
            for i, origin in enumerate(view.order.tolist()):
                back[origin] = answer[i] * view.sign[i]
            answer = back
        torch.testing.assert_close(found[row].flatten(), answer)


@pytest.mark.parametrize("prediction", PROCESSES)
def test_losses_equal_a_slow_loop(prediction, make_process):
    """The mean square of answer minus target, which is written in noise and clean picture."""
    process = make_process(prediction)
    witness, given = Witness(ask, process, seed=1, num_draws=3), pictures()
    timesteps = (100, 400)
    found = witness.mean_losses(given, timesteps)
    assert found.shape == (7, 2, 3) and found.dtype == torch.float64
    for row in range(len(given)):
        for column, t in enumerate(timesteps):
            gamma, sigma = (float(f(torch.tensor([t]))) for f in (process.gamma, process.sigma))
            for draw in range(3):
                clean = given.clean[row]
                noisy, noise = noisy_by_hand(witness, clean, t, draw)
                target = {
                    "epsilon": noise,
                    "sample": clean,
                    "v_prediction": gamma * noise - sigma * clean,
                    "flow_prediction": noise - clean,
                }[prediction]
                answer = ask(noisy[None], torch.tensor([t]), None)[0]
                expected = (answer - target).square().mean().double()
                torch.testing.assert_close(found[row, column, draw], expected, rtol=1e-4, atol=1e-6)


def test_every_picture_gets_the_same_noise(make_process):
    """A model that gives back its input: answers differ by gamma times the pictures' difference,
    and pictures that are equal get equal answers. Draws, timesteps and seeds differ."""
    process = make_process()
    witness, given = Witness(lambda noisy, t, cond: noisy, process, batch_size=2), pictures()
    found = witness.answers(given, 200, 0, None)
    gamma = process.gamma(torch.tensor([200])).float()
    torch.testing.assert_close(found - found[:1], gamma * (given.clean - given.clean[:1]))
    same = Pictures(given.clean[:1].expand(5, *SHAPE))
    assert bool((witness.answers(same, 200, 0, None) == found[:1]).all())
    noises = [witness.noise(SHAPE, t, draw) for t in (200, 201) for draw in (0, 1)]
    noises.append(Witness(ask, process, seed=1).noise(SHAPE, 200, 0))
    assert len({tuple(noise.flatten().tolist()) for noise in noises}) == 5


def test_micro_batches_do_not_matter(make_process):
    given, view = pictures(classes=True), plain_views(SHAPE)["transposed"]
    seen = []
    whole, parts = (
        Witness(ask, make_process(), batch_size=size, progress=seen.append) for size in (64, 2)
    )
    assert torch.equal(whole.answers(given, 70, 0, view), parts.answers(given, 70, 0, view))
    assert seen == [7, 2, 2, 2, 1]


def test_pictures_are_taken_with_what_they_are_conditioned_on():
    taken = pictures(classes=True).take(torch.tensor([4, 1]))
    assert taken.cond.tolist() == [4, 1] and taken.other.tolist() == [104, 101]
    assert torch.equal(taken.clean, pictures().clean[[4, 1]])
    assert pictures().take(slice(2)).cond is None
