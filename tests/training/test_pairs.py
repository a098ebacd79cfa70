from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from diffusers import DDPMScheduler

from dataunlearn.data import ArrayImages, SubsetImages
from dataunlearn.models.space import PixelSpace
from dataunlearn.process import ForwardProcess
from dataunlearn.rows import Pair
from dataunlearn.runtime.streams import FORGET_STREAM, KEEP_STREAM
from dataunlearn.timesteps import Window
from dataunlearn.training.pairs import EpochOrder, PairSampler

MakeImages = Callable[..., ArrayImages]


@pytest.fixture
def process() -> ForwardProcess:
    return ForwardProcess.from_scheduler(DDPMScheduler())


def flat(order: EpochOrder, steps: int, count: int) -> torch.Tensor:
    return torch.cat([order.batch(step, count) for step in range(steps)])


def assert_same(first: Pair, second: Pair) -> None:
    for name in ("keep", "forget", "t", "noise"):
        assert torch.equal(getattr(first, name), getattr(second, name))


class TestEpochOrder:
    @pytest.mark.parametrize(("size", "count"), [(10, 5), (10, 4), (7, 3), (3, 8), (1, 4)])
    def test_every_index_once_per_epoch_across_batches(self, size: int, count: int) -> None:
        """Concatenated batches, cut into epochs, are permutations whatever the batch size."""
        steps = -(-4 * size // count)
        epochs = flat(EpochOrder(size, 0, 0), steps, count)[: 4 * size].reshape(4, size)
        for epoch in epochs:
            assert torch.equal(epoch.sort().values, torch.arange(size))

    def test_batch_size_does_not_change_the_order(self) -> None:
        first = flat(EpochOrder(11, 5, 0), 12, 3)
        second = flat(EpochOrder(11, 5, 0), 4, 9)
        assert torch.equal(first, second)

    def test_any_access_order_gives_the_same_batches(self) -> None:
        forwards = EpochOrder(5, 3, 0)
        expected = [forwards.batch(step, 4) for step in range(20)]
        one = EpochOrder(5, 3, 0)
        for step in [19, 0, 10, 3, 3, 18, 1, *reversed(range(20))]:
            assert torch.equal(one.batch(step, 4), expected[step])
            assert torch.equal(EpochOrder(5, 3, 0).batch(step, 4), expected[step])

    def test_epochs_seeds_and_streams_are_shuffled_apart(self) -> None:
        base = flat(EpochOrder(50, 0, KEEP_STREAM), 2, 50)
        assert not torch.equal(base[:50], base[50:])
        assert not torch.equal(base[:50], torch.arange(50))
        assert not torch.equal(base, flat(EpochOrder(50, 1, KEEP_STREAM), 2, 50))
        assert not torch.equal(base, flat(EpochOrder(50, 0, FORGET_STREAM), 2, 50))

    def test_long_runs_do_not_hoard_epochs(self) -> None:
        order = EpochOrder(3, 0, 0)
        flat(order, 200, 2)
        assert len(order._cache) <= 3

    def test_global_random_state_is_left_alone(self) -> None:
        torch.manual_seed(1)
        expected = torch.rand(3)
        torch.manual_seed(1)
        flat(EpochOrder(9, 0, 0), 3, 9)
        assert torch.equal(torch.rand(3), expected)


class TestPairSampler:
    def test_is_a_pure_function_of_the_step(
        self, make_images: MakeImages, process: ForwardProcess
    ) -> None:
        def fresh() -> PairSampler:
            return PairSampler(make_images(9), make_images(4, 1), process, batch_pairs=5, seed=2)

        used = fresh()
        expected = [used(step) for step in range(6)]
        torch.manual_seed(99)
        for step in (5, 0, 3, 3):
            assert_same(used(step), expected[step])
            assert_same(fresh()(step), expected[step])
            draws = [torch.rand(4, generator=s.objective_stream(step)) for s in (used, fresh())]
            assert torch.equal(*draws)

    def test_steps_and_seeds_differ(self, make_images: MakeImages, process: ForwardProcess) -> None:
        def draw(seed: int, step: int) -> Pair:
            sampler = PairSampler(make_images(9), None, process, batch_pairs=5, seed=seed)
            return sampler(step)

        for other in (draw(0, 1), draw(1, 0)):
            assert not torch.equal(draw(0, 0).noise, other.noise)
            assert not torch.equal(draw(0, 0).t, other.t)

    def test_streams_are_independent_of_each_other(
        self, make_images: MakeImages, process: ForwardProcess
    ) -> None:
        """The objective's uniform draws must not repeat those behind timesteps and noise."""
        sampler = PairSampler(make_images(9), None, process, batch_pairs=5)
        first = torch.randn(5, 1, 8, 8, generator=sampler.objective_stream(0))
        assert not torch.equal(first, sampler(0).noise)

    def test_shapes_and_ranges(self, make_images: MakeImages, process: ForwardProcess) -> None:
        keep, forget = make_images(9), make_images(4, 1)
        sampler = PairSampler(
            keep, forget, process, batch_pairs=30, timesteps=Window(lo=10, hi=12), seed=0
        )
        pair = sampler(0)
        assert pair.keep.shape == pair.forget.shape == pair.noise.shape == (30, 1, 8, 8)
        assert set(pair.t.tolist()) == {10, 11, 12}
        assert pair.keep_cond is None
        assert pair.forget_cond is None
        everything = {tuple(x.flatten().tolist()) for x in forget.batch(torch.arange(4))}
        assert {tuple(x.flatten().tolist()) for x in pair.forget} == everything

    def test_timesteps_out_of_range_are_refused_at_once(
        self, make_images: MakeImages, process: ForwardProcess
    ) -> None:
        with pytest.raises(ValueError, match="leaves the model's timesteps"):
            PairSampler(
                make_images(3), None, process, batch_pairs=2, timesteps=Window(lo=5, hi=1000)
            )

    def test_keep_only_shows_the_keep_samples_on_both_sides(
        self, make_images: MakeImages, process: ForwardProcess
    ) -> None:
        sampler = PairSampler(make_images(9), None, process, batch_pairs=5)
        pair = sampler(3)
        assert torch.equal(pair.keep, pair.forget)

    @pytest.mark.parametrize("role", ["keep", "forget"])
    def test_an_empty_set_is_an_error_not_a_stand_in(
        self, make_images: MakeImages, process: ForwardProcess, role: str
    ) -> None:
        """An empty forget set must never be replaced by the keep set, which would be unlearned."""
        full = make_images(3)
        sets = {"keep": full, "forget": full, role: SubsetImages(full, [])}
        with pytest.raises(ValueError, match=f"{role} set is empty"):
            PairSampler(sets["keep"], sets["forget"], process, batch_pairs=2)

    def test_labels_follow_the_images(
        self, make_images: MakeImages, process: ForwardProcess
    ) -> None:
        keep_labels, forget_labels = [0, 1, 2, 0, 1, 2], [2, 1]
        keep, forget = make_images(6, 0, keep_labels), make_images(2, 1, forget_labels)
        pair = PairSampler(keep, forget, process, batch_pairs=8, space=PixelSpace(3))(1)
        assert pair.keep_cond is not None
        assert pair.forget_cond is not None
        for images, labels, samples, cond in (
            (keep, keep_labels, pair.keep, pair.keep_cond),
            (forget, forget_labels, pair.forget, pair.forget_cond),
        ):
            whole = images.batch(torch.arange(len(images)))
            for sample, label in zip(samples, cond.tolist(), strict=True):
                index = int((whole == sample).flatten(1).all(dim=1).nonzero())
                assert labels[index] == label

    def test_labels_of_an_unconditional_model_are_dropped(
        self, make_images: MakeImages, process: ForwardProcess
    ) -> None:
        pair = PairSampler(make_images(2, 0, [7, 8]), None, process, batch_pairs=2)(0)
        assert pair.keep_cond is None

    @pytest.mark.parametrize(
        ("keep", "forget", "message"),
        [
            (None, [0, 1], "keep images carry no labels"),
            ([0, 1], None, "forget images carry no labels"),
            ([0, 3], [0, 1], "keep images' labels run from 0 to 3"),
            ([0, 1], [-1, 1], "forget images' labels run from -1 to 1"),
        ],
    )
    def test_unusable_labels_are_an_error(
        self,
        make_images: MakeImages,
        process: ForwardProcess,
        keep: list[int] | None,
        forget: list[int] | None,
        message: str,
    ) -> None:
        with pytest.raises(ValueError, match=message):
            PairSampler(
                make_images(2, 0, keep),
                make_images(2, 1, forget),
                process,
                batch_pairs=2,
                space=PixelSpace(3),
            )
