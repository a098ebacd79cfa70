"""Membership: losses against a slow loop, AUC and TPR against counting pairs by hand."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel
from scipy.stats import mannwhitneyu

from dataunlearn.data import ArrayImages
from dataunlearn.data.base import ImageSet
from dataunlearn.metrics.inputs import Inputs
from dataunlearn.metrics.membership import Membership, by_timestep, compared
from dataunlearn.metrics.membership_scores import denoising_losses
from dataunlearn.metrics.membership_statistics import (
    membership_auc,
    membership_outside,
    membership_tpr,
)
from dataunlearn.models import DiffusionModel
from dataunlearn.models.families import wrap_pipeline
from dataunlearn.models.sampling import noise_for
from dataunlearn.runtime.seeding import mix_seed


@pytest.fixture(scope="module")
def model() -> DiffusionModel:
    torch.manual_seed(0)
    unet = UNet2DModel(
        sample_size=8,
        in_channels=1,
        out_channels=1,
        block_out_channels=(8, 8),
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        norm_num_groups=4,
    )
    pipeline = DDPMPipeline(unet, DDPMScheduler(prediction_type="v_prediction"))
    found = wrap_pipeline(pipeline)
    found.denoiser.eval()
    return found


def test_losses_equal_a_loop_over_single_images(model: DiffusionModel) -> None:
    """Each entry is the mean over draws of diffusers' own noise and velocity target's error."""
    images = torch.rand(5, 1, 8, 8) * 2 - 1
    found = denoising_losses(model, images, (100, 700), draws=range(3), seed=5, batch_size=2)
    scheduler = model.pipeline.scheduler
    for i, image in enumerate(images):
        for j, timestep in enumerate((100, 700)):
            t, total = torch.tensor([timestep]), 0.0
            for noise in noise_for(model.shape, mix_seed(5, timestep), range(3)):
                clean, eps = image[None], noise[None]
                noisy = scheduler.add_noise(clean, eps, t)
                with torch.no_grad():
                    error = model.denoiser(noisy, t) - scheduler.get_velocity(clean, eps, t)
                total += float(error.square().mean()) / 3
            assert found[i, j].item() == pytest.approx(total, rel=1e-4)


def test_losses_of_an_image_do_not_depend_on_its_company(model: DiffusionModel) -> None:
    images = torch.rand(4, 1, 8, 8) * 2 - 1
    together = denoising_losses(model, images, (300,))
    alone = denoising_losses(model, images[3:], (300,))
    torch.testing.assert_close(together[3:], alone, rtol=1e-5, atol=0)


def test_auc_is_mann_whitney() -> None:
    """The area is the share of (member, other) pairs in the right order."""
    rng = torch.Generator().manual_seed(0)
    members = torch.randn(30, generator=rng) - 0.7
    others = torch.randn(80, generator=rng).round(decimals=1)  # with ties among the others
    members[:3] = others[:3]  # and across
    found = membership_auc(members, others)
    u = mannwhitneyu(-members.numpy(), -others.numpy()).statistic
    assert found.value == pytest.approx(u / (30 * 80))
    assert found.per_item is not None
    assert found.per_item.mean().item() == pytest.approx(found.value)
    assert found.interval is not None
    assert found.interval[0] < found.value < found.interval[1]
    assert membership_auc(members, others).interval == found.interval


def test_auc_of_perfect_and_reversed_order() -> None:
    low, high = torch.arange(5.0), torch.arange(5.0) + 10
    assert membership_auc(low, high).value == 1
    assert membership_auc(high, low).value == 0
    assert membership_auc(low[:1], high).value == 1  # a single image to forget


def test_the_interval_stays_within_the_range_of_an_auc() -> None:
    others = torch.arange(100) + 0.1
    for members in (torch.linspace(-12, -1, 12), torch.linspace(200, 300, 12)):
        low, high = membership_auc(members, others).interval or (-1.0, 2.0)
        assert 0 <= low <= high <= 1


def test_each_timestep_is_judged_by_its_own_losses() -> None:
    """Members have the lower loss at the first noise level and the higher one at the second."""
    low, high = torch.arange(5.0).double(), torch.arange(8.0).double() + 10
    losses = {
        "forget": torch.stack([low, low + 20], dim=1),
        "held_out": torch.stack([high, high], dim=1),
    }
    found = {result.name: result for result in by_timestep(losses, (100, 700))}
    assert found["membership_auc_held_out_100"].value == 1
    assert found["membership_auc_held_out_700"].value == 0
    assert found["membership_loss_forget_700"].value == pytest.approx(22)
    low_end, high_end = found["membership_loss_held_out_100"].interval or (0, 0)
    assert 10 < low_end < 13.5 < high_end < 17
    assert len(found) == 6


def test_tpr_counts_members_below_the_allowed_quantile() -> None:
    """Of 200 others two may pass at 1 %: members must lie below the third smallest of them."""
    rng = torch.Generator().manual_seed(1)
    members, others = torch.randn(50, generator=rng) - 2, torch.randn(200, generator=rng)
    third = others.sort().values[2]
    found = membership_tpr(members, others)
    assert found.value == pytest.approx((members < third).float().mean().item())
    assert found.interval is not None
    assert found.interval[0] < found.value < found.interval[1]


def test_tpr_with_few_others_allows_no_false_positive() -> None:
    members, others = torch.tensor([0.0, 2.0, 4.0]), torch.tensor([1.0, 3.0])
    found = membership_tpr(members, others)
    assert found.value == pytest.approx(1 / 3)
    assert np.array_equal(found.per_item, [True, False, False])


def test_an_image_is_outside_if_its_own_rank_would_be_rare() -> None:
    """Among 79 others and itself an image may have one as far out: (1 + 1) / 80 is 2.5 %."""
    others = torch.arange(79.0)
    members = torch.tensor([-1.0, 0.0, 0.5, 1.0, 40.0, 77.0, 77.5, 78.0, 90.0])
    below = membership_outside(members, others, "below")
    above = membership_outside(members, others, "above")
    assert below.per_item is not None and above.per_item is not None
    assert below.per_item.tolist() == [True] * 3 + [False] * 6
    assert above.per_item.tolist() == [False] * 6 + [True] * 3
    assert below.value == pytest.approx(3 / 9)
    assert below.interval is not None
    assert below.interval[0] < 3 / 9 < below.interval[1]


def test_an_image_like_the_others_is_outside_in_one_of_forty_at_most() -> None:
    """Each of 40 scores in turn against the rest: the lowest alone, and the highest alone, is out;
    of 39 none is, since its rank cannot be rare enough."""
    scores = torch.randn(40, generator=torch.Generator().manual_seed(0))
    for tail in ("below", "above"):
        for count, expected in ((40, 1), (39, 0)):
            few = scores[:count]
            found = [
                membership_outside(few[i : i + 1], torch.cat([few[:i], few[i + 1 :]]), tail).value
                for i in range(count)
            ]
            assert sum(found) == expected


def test_forgetting_too_hard_shows_above_and_not_in_the_rate_of_members() -> None:
    others = torch.randn(100, generator=torch.Generator().manual_seed(0))
    found = {r.name: r.value for r in compared({"forget": others[:5] + 9, "held_out": others})}
    assert found == {
        "membership_auc_held_out": 0,
        "membership_tpr_held_out": 0,
        "membership_below_held_out": 0,
        "membership_above_held_out": 1,
    }


def test_attacks_are_chosen_by_name(model: DiffusionModel) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 1, 8, 8), dtype=np.uint8)
    inputs = Inputs(
        model, forget=ArrayImages(pixels[:2]), keep=ArrayImages(pixels[2:]), shown=False
    )
    kinds = ("auc", "tpr", "below", "above")
    every = {result.name for result in Membership(num_draws=1)(inputs)}
    assert every == {
        f"membership{attack}_{kind}_keep" for attack in ("", "_sima", "_pia") for kind in kinds
    }
    chosen = Membership(attacks=("pia",), pia_timesteps=(50,), each_timestep=True)(inputs)
    assert {result.name for result in chosen} == {
        *(f"membership_pia_{kind}_keep" for kind in kinds),
        "membership_pia_forget_50",
        "membership_pia_keep_50",
        "membership_pia_auc_keep_50",
    }
    with pytest.raises(ValueError, match="no attack guess; attacks takes loss, sima, pia"):
        Membership(attacks=("guess",)).check(inputs)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="sima_timesteps must lie from 0 to 999"):
        Membership(sima_timesteps=(1000,)).check(inputs)


def test_empty_sides_and_infinite_losses_are_errors() -> None:
    with pytest.raises(ValueError, match="0 members"):
        membership_auc(torch.zeros(0), torch.zeros(3))
    with pytest.raises(ValueError, match="0 other images"):
        membership_tpr(torch.zeros(2), torch.zeros(0))
    with pytest.raises(ValueError, match="not finite"):
        membership_auc(torch.tensor([float("nan")]), torch.zeros(3))


def test_a_model_with_fewer_noise_levels_is_measured_at_its_own(model: DiffusionModel) -> None:
    scheduler = DDPMScheduler(num_train_timesteps=100)
    short = wrap_pipeline(DDPMPipeline(model.denoiser.unet, scheduler))
    pixels = np.random.default_rng(0).integers(0, 256, (3, 1, 8, 8), dtype=np.uint8)
    inputs = Inputs(short, forget=ArrayImages(pixels[:1]), keep=ArrayImages(pixels[1:]))
    measure = Membership(num_draws=1, each_timestep=True, attacks=("loss",))
    measure.check(inputs)
    names = {result.name for result in measure(inputs)}
    assert {f"membership_loss_forget_{t}" for t in range(20, 100, 10)} <= names
    assert "membership_loss_forget_100" not in names


def test_labels_are_cut_with_their_pictures(
    make_model: Callable[..., DiffusionModel], make_images: Callable[..., ImageSet]
) -> None:
    """Of 12 held-out and keep images 5 are scored, under their own labels."""
    labels = [row % 3 for row in range(12)]
    inputs = Inputs(
        make_model(num_class_embeds=3),
        forget=make_images(2, 1, [0, 1]),
        keep=make_images(12, 2, labels),
        held_out=make_images(12, 3, labels),
        shown=False,
    )
    found = Membership(timesteps=(500,), num_draws=1, num_images=5, pia_timesteps=(200,))(inputs)
    assert {result.settings["num_others"] for result in found} == {5}
    conditions, few = inputs.conditions("keep"), inputs.conditions("keep", 5)
    assert torch.equal(few, conditions[:5])
