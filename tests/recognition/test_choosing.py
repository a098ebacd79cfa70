"""Which views are chosen: unfamiliar ones that the model is not bad at."""

from __future__ import annotations

import pytest
import torch

from dataunlearn.recognition.choosing import AS_IT_IS, choose_views
from dataunlearn.recognition.costs import ViewCosts, median_distance
from dataunlearn.recognition.witness import Pictures, Witness
from dataunlearn.views import turns_and_flips

GREY, COLOUR = (1, 4, 4), (3, 4, 4)
BRIGHT = 20.0  # far above the noise, so that the toy below is never mistaken


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def even(noisy, t, cond):
    """Gives its input back, so that every view costs the same: T^-1 (T m) = m."""
    return noisy


def good_at_bright(*corners):
    """Good at pictures that are bright at these corners, hopeless at all others."""

    def ask(noisy, t, cond):
        lit = torch.stack([noisy[:, 0, row, column] for row, column in corners], 1)
        wrong = (lit < 3).any(1)
        return noisy + 100 * wrong.reshape(-1, 1, 1, 1)

    return ask


def random_pictures(count, shape, seed=0, bright=()):
    clean = torch.randn(count, *shape, generator=generator(seed))
    for row, column in bright:
        clean[:, :, row, column] = BRIGHT
    return Pictures(clean)


def symmetric(clean):
    """The mean over the eight turns and flips."""
    turned = [clean.rot90(k, (2, 3)) for k in range(4)]
    return sum(turned + [each.mT for each in turned]) / 8


def chosen_names(ask, forget, keep, process, latent=False):
    views, chosen, unfamiliar = choose_views(Witness(ask, process), forget, keep, latent=latent)
    names = list(views)
    assert {position for own in chosen for position in own} == set(range(len(names)))
    return [[names[position] for position in own] for own in chosen], unfamiliar.tolist()


ALL_CORNERS = [(0, 0), (0, 3), (3, 0), (3, 3)]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("shape", [GREY, COLOUR])
def test_a_mirror_symmetric_picture_is_never_mirrored(shape, seed, make_process):
    clean = random_pictures(4, shape, seed).clean
    forget, keep = Pictures(clean + clean.flip(3)), random_pictures(30, shape, seed + 10)
    names, unfamiliar = chosen_names(even, forget, keep, make_process())
    assert all(unfamiliar)
    assert all(own and "mirrored" not in own for own in names)


@pytest.mark.parametrize("seed", range(3))
def test_the_rule_by_hand(seed, make_process):
    """Where all views cost the same: those at least 0.6 of the median distance to keep pictures
    away, and at least 0.85 as far as the farthest one; of these the first four."""
    forget, keep = random_pictures(6, GREY, seed), random_pictures(31, GREY, seed + 10)
    names, unfamiliar = chosen_names(even, forget, keep, make_process())
    turns = turns_and_flips(GREY)
    for row, clean in enumerate(forget.clean):
        to_keep = sorted(float((clean - other).square().sum().sqrt()) for other in keep.clean)
        away = {n: float((v(clean[None])[0] - clean).norm()) for n, v in turns.items()}
        bound = max(0.6 * to_keep[15], 0.85 * max(away.values()))
        assert names[row] == [name for name in turns if away[name] >= bound][:4]
        assert float(median_distance(forget, keep)[row]) == pytest.approx(to_keep[15], rel=1e-4)
    assert all(unfamiliar)


def test_a_picture_that_every_turn_keeps_gets_colours(make_process):
    """The negative and the shift are farther away, but cost too much: corners are bright."""
    clean = symmetric(random_pictures(3, COLOUR).clean) * 4
    for row, column in ALL_CORNERS:
        clean[:, :, row, column] = BRIGHT
    keep = random_pictures(30, COLOUR, 1, ALL_CORNERS)
    names, unfamiliar = chosen_names(
        good_at_bright(*ALL_CORNERS), Pictures(clean), keep, make_process()
    )
    assert unfamiliar == [True] * 3
    assert all(own and all("colours" in name for name in own) for own in names)


def test_latents_have_no_colours(make_process):
    """The same pictures as latents: nothing is unfamiliar, and the two best turns stay."""
    clean = symmetric(random_pictures(3, COLOUR).clean) * 3
    keep = random_pictures(30, COLOUR, 1, ALL_CORNERS)
    ask = good_at_bright(*ALL_CORNERS)
    names, unfamiliar = chosen_names(ask, Pictures(clean), keep, make_process(), latent=True)
    assert unfamiliar == [False] * 3
    assert all(len(own) == 2 and set(own) <= set(turns_and_flips(COLOUR)) for own in names)


def test_what_is_symmetric_under_everything_is_familiar_and_still_gets_views(make_process):
    """Grey and kept by every turn: no affordable view moves it."""
    clean = symmetric(random_pictures(2, GREY).clean).expand(2, *COLOUR)
    keep = random_pictures(30, COLOUR, 1, ALL_CORNERS)
    names, unfamiliar = chosen_names(
        good_at_bright(*ALL_CORNERS), Pictures(clean), keep, make_process()
    )
    assert unfamiliar == [False, False]
    assert all(len(own) == 2 for own in names)


def test_what_every_turn_keeps_is_sheared(make_process):
    """Grey, and the same however turned and after half a shift; the negative is dark and costs too
    much. Leaning it changes, and that costs nothing."""
    tile = symmetric(random_pictures(2, (1, 6, 6)).clean) * 4
    forget = Pictures(tile.repeat(1, 1, 2, 2) + BRIGHT)
    keep = Pictures(random_pictures(30, (1, 12, 12), 1).clean + BRIGHT)

    def good_at_light(noisy, t, cond):
        return noisy + 100 * (noisy.mean((1, 2, 3)) < 0).reshape(-1, 1, 1, 1)

    names, unfamiliar = chosen_names(good_at_light, forget, keep, make_process())
    assert unfamiliar == [True, True]
    for own in names:
        assert own and all(name.split()[0] in ("leaning", "slanting") for name in own)
    names, unfamiliar = chosen_names(good_at_light, forget, keep, make_process(), latent=True)
    assert unfamiliar == [False, False]  # latents are not sheared


def test_what_is_the_same_sheared_is_familiar_and_gets_small_shifts(make_process):
    """A plain square that fills most of a picture: every turn keeps it, a shear all but its edge;
    the negative and half a shift cost too much. The farthest it gets is by a small shift."""
    square = torch.zeros(1, 1, 18, 18)
    square[:, :, 1:-1, 1:-1] = BRIGHT
    keep = torch.zeros(30, 1, 18, 18)
    keep[:, :, 7:-7, 7:-7] = BRIGHT

    def good_at_a_light_middle(noisy, t, cond):
        dark = noisy[:, :, 7:-7, 7:-7].mean((1, 2, 3)) < 2
        return noisy + 100 * dark.reshape(-1, 1, 1, 1)

    ask = good_at_a_light_middle
    names, unfamiliar = chosen_names(ask, Pictures(square), Pictures(keep), make_process())
    assert unfamiliar == [False]
    assert len(names[0]) == 2 and all(name.startswith("shifted") for name in names[0])


def test_one_picture_does_not_change_anothers_views(make_process):
    plain, still = random_pictures(1, COLOUR, 3).clean, symmetric(random_pictures(1, COLOUR).clean)
    keep = random_pictures(30, COLOUR, 1)
    alone, _ = chosen_names(even, Pictures(plain), keep, make_process())
    both, _ = chosen_names(even, Pictures(torch.cat([plain, still])), keep, make_process())
    assert both[0] == alone[0]


def test_a_view_that_the_model_is_bad_at_is_not_chosen(make_process):
    """Keep pictures are bright at the upper left, where transposing alone leaves the light."""
    keep = random_pictures(30, GREY, 1, [(0, 0)])
    forget = random_pictures(3, GREY, 2, [(0, 0)])
    names, unfamiliar = chosen_names(good_at_bright((0, 0)), forget, keep, make_process())
    assert names == [["transposed"]] * 3
    assert all(unfamiliar)


def test_what_views_cost_is_asked_as_the_images_are(make_process):
    """A model that is hopeless at turned pictures under a prompt, and even without: images are
    asked about without any, so that no view costs anything."""
    lit = good_at_bright((0, 0))

    def ask(noisy, t, cond):
        prompted = cond.reshape(-1, 1, 1, 1).bool()
        return torch.where(prompted, lit(noisy, t, cond), noisy)

    def with_prompts(pictures):
        ones = torch.ones(len(pictures), dtype=torch.int64)
        return Pictures(pictures.clean, ones, torch.zeros_like(ones))

    keep = random_pictures(30, GREY, 1, [(0, 0)])
    forget = random_pictures(3, GREY, 2, [(0, 0)])
    free, _ = chosen_names(even, forget, keep, make_process())
    found, unfamiliar = chosen_names(ask, with_prompts(forget), with_prompts(keep), make_process())
    assert found == free and free != [["transposed"]] * 3
    assert all(unfamiliar)


def test_where_none_is_affordable_the_cheapest_are_taken(make_process):
    """Light beside a corner is moved by every turn and flip, by the shift and the negative."""
    keep = random_pictures(30, GREY, 1, [(0, 1)])
    forget = random_pictures(2, GREY, 2)
    names, unfamiliar = chosen_names(good_at_bright((0, 1)), forget, keep, make_process())
    assert unfamiliar == [False, False]
    assert all(len(own) == 2 for own in names)


def recognises(clean, process, *, off):
    """A model that answers 0 about all pictures but one; about that one it is off by a tenth under
    its prompt and by ``off`` without."""

    def ask(noisy, t, cond):
        scale, sigma = (s(t).reshape(-1, 1, 1, 1).float() for s in (process.gamma, process.sigma))
        noise = (noisy - scale * clean) / sigma
        known = (noise.flatten(1).abs().amax(1) < 6).reshape(-1, 1, 1, 1)
        error = torch.where(cond.bool(), 0.1, off).reshape(-1, 1, 1, 1)
        return torch.where(known & (error < 1), noise + error, torch.zeros_like(noise))

    return ask


@pytest.mark.parametrize(("off", "as_it_is"), [(0.3, False), (1.0, True), (0.11, False)])
def test_as_it_is_only_where_nothing_but_the_prompt_is_known(off, as_it_is, make_process):
    """Without its prompt it is lost on as little as .09 of what is lost on others, or all of it."""
    process = make_process()
    clean = 100 * torch.randn(1, *GREY, generator=generator(4))

    def with_prompts(clean):
        ones = torch.ones(len(clean), dtype=torch.int64)
        return Pictures(clean, ones, torch.zeros_like(ones))

    ask = recognises(clean, process, off=off)
    keep = with_prompts(100 * random_pictures(30, GREY, 1).clean)
    names, unfamiliar = chosen_names(ask, with_prompts(clean), keep, process)
    assert unfamiliar == [True]
    assert (names == [[AS_IT_IS]]) == as_it_is


def test_pictures_known_by_heart_do_not_tell_what_views_cost(make_process):
    """The model is good at any picture, and perfect at eight of twelve as they are: turned they
    cost it ten times as much. The other four say that turning costs nothing."""
    keep = random_pictures(30, GREY, 1)
    heart = keep.clean[:8]
    process = make_process()

    def ask(noisy, t, cond):
        gamma = process.gamma(t).reshape(-1, 1, 1, 1)
        sigma = process.sigma(t).reshape(-1, 1, 1, 1)
        noise = (noisy[:, None] - gamma[:, None] * heart) / sigma[:, None]
        size = noise.square().flatten(2).mean(2)
        nearest = noise[torch.arange(len(noisy)), size.argmin(1)]
        known = (size.amin(1) < 1.5).reshape(-1, 1, 1, 1)
        return torch.where(known, nearest + 0.1, noisy * 0 + 0.3)

    # the others' loss is mean((0.3 - noise)^2), turned or not, but for the draw of noise
    turns = turns_and_flips(GREY)
    costs = ViewCosts(Witness(ask, process), keep, turns)
    assert costs.num_pictures == 4
    assert all(cost == pytest.approx(1, abs=0.3) for cost in costs.of.values())
    all_known = Pictures(torch.cat([heart, heart[:4], keep.clean[12:]]))
    costs = ViewCosts(Witness(ask, process), all_known, turns)
    assert costs.num_pictures == 12  # none is left, so that all count, beside the cheapest turn
    assert all(cost == pytest.approx(1.1, abs=0.2) for cost in costs.of.values())
