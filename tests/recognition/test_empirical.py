"""What keep pictures alone say: which images are of another kind, and the mixture's proportions."""

from __future__ import annotations

import pytest
import torch

from dataunlearn.recognition.empirical import (
    FEWEST_OF_A_KIND,
    empirical_prediction,
    keep_weight,
    mixed,
    noise_share,
    of_another_kind,
    posterior_mean,
)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def on_a_line(*places):
    """Pictures of 2 x 2 pixels whose first one lies on a line, the others are nought."""
    pictures = torch.zeros(len(places), 1, 2, 2)
    pictures[:, 0, 0, 0] = torch.tensor([float(place) for place in places])
    return pictures


class TestAnotherKind:
    def test_farther_than_all_but_a_hundredth_of_keep_pictures_are(self):
        """Of 200 on a line each has a neighbour at 1, but two whose nearest are at 5: the 99th
        percentile of the distances is a hundredth of the way from 1 to 5."""
        keep = on_a_line(*range(198), 202, 207)
        images = on_a_line(-0.9, -1.0, -1.2, 100.5, 1000)
        assert of_another_kind(images, keep).tolist() == [False, False, True, False, True]

    def test_by_a_slow_loop(self):
        keep = torch.randn(80, 3, 4, 4, generator=generator())
        shares = torch.tensor([0.5, 0.9, 1.0, 1.1, 1.5, 3.0]).reshape(-1, 1, 1, 1)
        images = shares * torch.randn(6, 3, 4, 4, generator=generator(5))

        def nearest(picture):
            apart = [float((picture - other).norm()) for other in keep]
            return min(distance for distance in apart if distance > 0)

        bound = torch.tensor([nearest(picture) for picture in keep]).double().quantile(0.99)
        expected = [nearest(picture) > bound for picture in images]
        assert of_another_kind(images, keep).tolist() == expected
        assert True in expected and False in expected

    def test_the_image_itself_among_those_to_keep_does_not_count(self):
        keep = on_a_line(*range(100), 1000, 1000)
        assert of_another_kind(on_a_line(1000), keep).tolist() == [True]

    @pytest.mark.parametrize(("count", "told"), [(FEWEST_OF_A_KIND - 1, False), (50, True)])
    def test_few_keep_pictures_do_not_tell(self, count, told):
        keep = on_a_line(*range(count))
        assert of_another_kind(on_a_line(1000), keep).tolist() == [told]


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample", "flow_prediction"])
def test_one_keep_picture_is_what_all_is_made_of(prediction, make_process):
    """Who knows one picture alone predicts what is right for it, whatever is shown."""
    process = make_process(prediction)
    noisy, only = torch.randn(3, 1, 2, 2, generator=generator()), on_a_line(0.7)
    t = torch.tensor([10, 100, 190])
    found = empirical_prediction(process, noisy, only, t)
    torch.testing.assert_close(found, process.target(noisy, only.expand_as(noisy), t))


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "flow_prediction"])
def test_it_is_right_for_the_posterior_mean_of_many(prediction, make_process):
    """The same as what compares each picture with the first one, row by row."""
    process = make_process(prediction)
    pictures = torch.randn(70, 1, 3, 3, generator=generator(1))
    t = torch.tensor([1, 5, 30, 100, 199])
    noisy = process.add_noise(pictures[:5], torch.randn(5, 1, 3, 3, generator=generator(2)), t)
    candidates = pictures.expand(5, *pictures.shape)
    mean = posterior_mean(process, noisy, candidates, t)
    found = empirical_prediction(process, noisy, pictures, t)
    torch.testing.assert_close(found, process.target(noisy, mean, t), rtol=1e-4, atol=1e-5)


def test_the_mixture_goes_from_the_answers_to_keep_pictures_with_the_noise(make_process):
    process = make_process()
    t = torch.tensor([0, 60, 120, 199])
    answers, said = torch.zeros(4, 1, 2, 2), torch.ones(4, 1, 2, 2)
    share = noise_share(process, t)
    torch.testing.assert_close(mixed(answers, said, share)[:, 0, 0, 0], share)
    alphas = process.alphas_cumprod[t]
    torch.testing.assert_close(share.double(), 1 - alphas, rtol=1e-5, atol=1e-6)
    assert bool((share.diff() > 0).all())


def test_keep_pictures_have_all_the_noises_share_half_of_it_or_none():
    """All where every view is familiar, half of another kind, none of other images."""
    keep, images = on_a_line(*range(100)), on_a_line(50.5, 1000, 50.5, 1000)
    unfamiliar = torch.tensor([True, True, False, False])
    assert keep_weight(unfamiliar, images, keep).tolist() == [0.0, 0.5, 1.0, 1.0]
