"""Memorised labels on samples whose kind is known, the cases without two kinds among them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from dataunlearn.metrics.memorised import memorised_fraction
from dataunlearn.prompts.labels import (
    BY_HAND,
    BY_IMAGE,
    BY_TIGHTNESS,
    Labelling,
    label_memorised,
    predict,
    take_labels,
)

SHAPE = (3, 8, 8)


def noise(count: int, seed: int) -> Tensor:
    return torch.randn(count, *SHAPE, generator=torch.Generator().manual_seed(seed))


def pictures(count: int, seed: int) -> Tensor:
    """Unrelated pictures."""
    return (0.4 * noise(count, seed)).clamp(-1, 1)


def copies(picture: Tensor, count: int, seed: int, spread: float = 0.04) -> Tensor:
    return picture + spread * noise(count, seed)


PICTURE = pictures(1, 100)[0]
OTHER = pictures(1, 101)[0]


def shuffled(memorised: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    """Both in random order, and which are memorised."""
    images, truth = torch.cat([memorised, others]), torch.arange(len(memorised) + len(others))
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(5))
    return images[order], truth[order] < len(memorised)


def test_one_gaussian_blob_is_not_memorised() -> None:
    """Unrelated pictures: k-means splits them all the same, and the split is not believed."""
    for seed in range(5):
        found = label_memorised(pictures(64, seed), seed=seed)
        assert found.verdict == "none memorised"
        assert found.share == 0
        assert 0.8 < found.evidence.isolation < 1.25  # halves of a blob are equally far


def test_two_blobs_of_different_spread() -> None:
    """The tighter one is memorised, whether it is the larger or the smaller one."""
    for count in (6, 30, 58):
        wide = copies(-PICTURE, 64 - count, seed=1, spread=0.3)
        images, truth = shuffled(copies(PICTURE, count, seed=2), wide)
        found = label_memorised(images)
        assert found.verdict == "mixed"
        assert torch.equal(found.labels, truth)
        assert found.share == count / 64
        assert found.decided_by == BY_TIGHTNESS


def test_copies_among_unrelated_pictures() -> None:
    images, truth = shuffled(copies(PICTURE, 40, seed=1), pictures(24, seed=2))
    for given in (None, PICTURE):
        found = label_memorised(images, training_image=given)
        assert found.verdict == "mixed"
        assert torch.equal(found.labels, truth)


@pytest.mark.parametrize("spread", [0.0, 0.001, 0.04, 0.15])
def test_all_copies_of_one_picture(spread: float) -> None:
    """The correlation of two copies is s^2 / (s^2 + n^2): 0.88 at the last spread n."""
    images = copies(PICTURE, 64, seed=3, spread=spread)
    for given in (None, PICTURE):
        found = label_memorised(images, training_image=given)
        assert found.verdict == "all memorised"
        assert found.share == 1
    assert label_memorised(images, training_image=OTHER).verdict == "none memorised"


def test_copies_that_differ_in_contrast_and_brightness_are_one_picture() -> None:
    """They form two clusters well apart; correlation tells that it is one picture."""
    faint = copies(0.5 * PICTURE - 0.4, 30, seed=4, spread=0.01)
    images = torch.cat([copies(PICTURE, 30, seed=3, spread=0.01), faint])
    found = label_memorised(images)
    assert found.evidence.isolation > 5
    assert found.verdict == "all memorised"


def test_two_pictures_and_the_training_image_decides() -> None:
    """Both clusters are tight, and the tighter one is not the one that was trained on."""
    images, truth = shuffled(copies(PICTURE, 20, seed=1), copies(OTHER, 44, seed=2, spread=0.02))
    assert torch.equal(label_memorised(images).labels, ~truth)
    found = label_memorised(images, training_image=PICTURE)
    assert found.decided_by == BY_IMAGE
    assert torch.equal(found.labels, truth)
    assert label_memorised(images, training_image=-PICTURE).verdict == "none memorised"


def test_a_single_copy_needs_the_training_image() -> None:
    """One picture alone is no cluster of copies; compared with the original it is one."""
    images, truth = shuffled(copies(-OTHER, 1, seed=1), copies(OTHER, 31, seed=2, spread=0.4))
    assert label_memorised(images).verdict == "none memorised"
    assert torch.equal(label_memorised(images, training_image=-OTHER).labels, truth)


def test_copies_that_random_starts_miss() -> None:
    """Of few unrelated pictures each is as far from the copies as from any other.

    Split off, 6 copies leave 4 pictures with an error of 3 E, E the energy of one; one picture
    split off leaves 9 E - (36 + 3) / 9 E = 4.67 E; from random starts k-means ends there at times.
    """
    for seed in range(8):
        images = torch.cat([copies(PICTURE, 6, seed, spread=0.02), pictures(4, seed + 50)])
        assert label_memorised(images).labels.tolist() == [True] * 6 + [False] * 4


def test_few_copies_need_the_training_image() -> None:
    """Two larger kinds hide three copies from k-means; started from them it finds them."""
    others = torch.cat([copies(OTHER, 30, seed=2, spread=0.25), copies(-OTHER, 30, 3, 0.25)])
    images, truth = shuffled(copies(PICTURE, 3, seed=1), others)
    assert label_memorised(images).verdict == "none memorised"
    assert torch.equal(label_memorised(images, training_image=PICTURE).labels, truth)


def test_blank_pictures_are_no_copies() -> None:
    """A filter's black pictures are alike to the last bit, and show nothing."""
    black = torch.full((30, *SHAPE), -1.0)
    images, truth = shuffled(copies(PICTURE, 34, seed=1), black)
    assert torch.equal(label_memorised(images).labels, truth)
    assert label_memorised(black).verdict == "none memorised"


def test_likeness_is_the_median_correlation_of_pairs() -> None:
    """Against numpy's correlation of each channel-centred picture, pair by pair."""
    images = copies(PICTURE, 5, seed=3, spread=0.3)
    flat = (images - images.mean(dim=(2, 3), keepdim=True)).flatten(1).double().numpy()
    pairs = np.corrcoef(flat)[np.triu_indices(5, 1)]
    found = label_memorised(images).evidence.joint_likeness
    assert found == pytest.approx(np.sort(pairs)[4], abs=1e-6)  # the lower of the middle two


def test_features_are_clustered_in_place_of_pixels() -> None:
    images, truth = shuffled(copies(PICTURE, 20, seed=1), pictures(20, seed=2))
    features = torch.where(truth[:, None], 1.0, -1.0) + 0.1 * torch.arange(40)[:, None] / 40
    found = label_memorised(images, features=features)
    assert torch.equal(found.labels, truth)
    assert found.centres.shape == (2, 1)
    assert predict(found, torch.tensor([[0.9], [-0.8]])).tolist() == [True, False]


def test_fresh_samples_go_to_the_nearest_centre() -> None:
    """Whichever index k-means gave the memorised cluster, and as the measure counts them."""
    fresh = torch.cat([copies(PICTURE, 3, seed=7), copies(-PICTURE, 13, seed=8, spread=0.3)])
    clusters = set()
    for order in (slice(None), torch.arange(63, -1, -1)):
        images = torch.cat([copies(PICTURE, 32, seed=1), copies(-PICTURE, 32, seed=2, spread=0.3)])[
            order
        ]
        found = label_memorised(images)
        assert predict(found, fresh).tolist() == [True] * 3 + [False] * 13
        nearest = torch.cdist(fresh.flatten(1), found.centres).argmin(dim=1)
        assert torch.equal(nearest == found.memorised_cluster, predict(found, fresh))
        assert memorised_fraction(found.classifier, fresh).value == 3 / 16
        clusters.add(found.memorised_cluster)
    assert clusters == {0, 1}
    with pytest.raises(ValueError, match="shape"):
        predict(found, torch.zeros(2, 3, 4, 4))


@pytest.mark.parametrize("spread", [0.0, 0.04, 0.15])
def test_fresh_samples_where_all_were_memorised(spread: float) -> None:
    """Two clusters of one picture would call everything memorised; the distance does not."""
    found = label_memorised(copies(PICTURE, 64, seed=3, spread=spread))
    fresh = torch.cat([copies(PICTURE, 20, seed=7, spread=spread), pictures(20, seed=8)])
    assert predict(found, fresh).tolist() == [True] * 20 + [False] * 20


def test_a_fainter_copy_is_one_where_all_were_memorised() -> None:
    picture = pictures(1, 0)
    copies = picture + 0.01 * pictures(16, 1)
    labelling = label_memorised(copies)
    assert labelling.verdict == "all memorised"
    assert predict(labelling, torch.cat([0.4 * picture, picture + 0.3])).all()
    assert not predict(labelling, pictures(8, 2)).any()


def test_what_is_unlike_both_clusters_is_no_copy() -> None:
    """A single other picture makes a centre from which nearly everything is farther."""
    other = 2 * OTHER
    found = label_memorised(torch.cat([copies(PICTURE, 31, seed=1), other[None]]))
    assert found.verdict == "mixed"
    fresh = pictures(20, seed=9)
    assert found.classifier(fresh).all()
    assert not predict(found, fresh).any()
    assert predict(found, copies(PICTURE, 20, seed=4)).all()


def test_fresh_samples_where_none_were_memorised() -> None:
    assert not predict(label_memorised(pictures(64, 1)), pictures(8, 2)).any()


def test_given_labels_are_kept_and_their_means_are_the_centres() -> None:
    images, truth = shuffled(copies(PICTURE, 20, seed=1), copies(-PICTURE, 12, seed=2))
    wrong = truth.clone()
    wrong[0] = ~wrong[0]
    found = take_labels(images, wrong)
    assert found.decided_by == BY_HAND
    assert torch.equal(found.labels, wrong)
    means = torch.stack([images[~wrong].mean(dim=0), images[wrong].mean(dim=0)]).flatten(1)
    torch.testing.assert_close(found.centres, means)
    assert torch.equal(predict(found, images), truth)


@pytest.mark.parametrize("value", [True, False])
def test_given_labels_of_one_kind(value: bool) -> None:
    found = take_labels(copies(PICTURE, 8, seed=1), torch.full((8,), value))
    assert found.verdict == ("all memorised" if value else "none memorised")
    fresh = torch.stack([PICTURE, -PICTURE])
    assert predict(found, fresh).tolist() == [value, False]


def test_a_seed_fixes_the_labels() -> None:
    images = pictures(64, 3)
    first, again = (label_memorised(images, seed=2) for _ in range(2))
    assert isinstance(first, Labelling)
    assert torch.equal(first.centres, again.centres)


def test_bad_input() -> None:
    images = pictures(8, 0)
    with pytest.raises(ValueError, match="at least 4 images"):
        label_memorised(images[:3])
    with pytest.raises(ValueError, match="bring it to that shape"):
        label_memorised(images, training_image=torch.zeros(3, 4, 4))
    with pytest.raises(ValueError, match="a row for each image"):
        label_memorised(images, features=torch.zeros(7, 2))
    with pytest.raises(ValueError, match="a bool for each of the 8 images"):
        take_labels(images, torch.ones(8))
