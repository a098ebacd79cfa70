from __future__ import annotations

import math
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from dataunlearn.combine import DEFAULT_RATIO, BoundedDescent, Combination, Fixed, NormFix
from dataunlearn.data import ArrayImages
from dataunlearn.models import DiffusionModel
from dataunlearn.models.space import PixelSpace
from dataunlearn.objectives import OBJECTIVES, SISS, NaiveDeletion, NegGrad, Objective, SISSNoIS
from dataunlearn.questions import Question, View
from dataunlearn.rows import Term
from dataunlearn.runtime.files import read_log
from dataunlearn.runtime.interrupt import InterruptedRunError
from dataunlearn.training.config import Ema, Training
from dataunlearn.training.optimizer import make_ema, make_optimizer
from dataunlearn.training.pairs import PairSampler
from dataunlearn.training.phase import Phase, StepPart
from dataunlearn.training.trainer import Trainer
from dataunlearn.training.two_gradients import NonFiniteError
from toy_levels import UNPROMPTED, prepared

MakeTrainer = Callable[..., Trainer]
CONFIG = Training(steps=3, batch_pairs=4, learning_rate=1e-3)


@pytest.fixture
def make_trainer(
    make_model: Callable[..., DiffusionModel], make_images: Callable[..., ArrayImages]
) -> MakeTrainer:
    """A trainer of a tiny model; keywords go to it or change its configuration."""

    def make(
        objective: Objective | None = None,
        combination: Combination | None = None,
        config: Training = CONFIG,
        model: DiffusionModel | None = None,
        **options: Any,
    ) -> Trainer:
        objective = objective or SISS()
        model = model or make_model()
        sampler = PairSampler(
            make_images(12),
            make_images(3, 1),
            model.process,
            batch_pairs=config.batch_pairs,
            seed=config.seed,
        )
        images = sampler.forget.batch(torch.arange(len(sampler.forget)))
        objective = prepared(objective, model.process, images)
        return Trainer(
            model,
            [Phase([StepPart(sampler, objective)], combination or objective.default_combination)],
            config,
            shown=False,
            **options,
        )

    return make


def flat(tensors: Any) -> torch.Tensor:
    return torch.cat([value.detach().reshape(-1) for value in tensors])


class TestCompiled:
    def test_steps_are_the_same_and_callbacks_run_as_written(
        self, make_trainer: MakeTrainer, programs_run: list[str]
    ) -> None:
        inside: list[int] = []

        def look(trainer: Trainer, _: int) -> bool:
            before = len(programs_run)
            trainer.model.denoiser(torch.randn(1, 1, 8, 8), torch.tensor([5]), None)
            inside.append(len(programs_run) - before)
            return False

        plain = make_trainer()
        trainer = make_trainer(config=replace(CONFIG, compile=True), callbacks=[look])
        plain.run()
        assert programs_run == []
        trainer.run()
        assert programs_run
        assert inside == [0] * CONFIG.steps
        assert torch.allclose(flat(trainer.params), flat(plain.params), atol=1e-5)
        programs_run.clear()
        trainer.step(0)  # the run is over
        assert programs_run == []


class TestRecord:
    def test_holds_everything_about_a_step(self, make_trainer: MakeTrainer, tmp_path: Path) -> None:
        trainer = make_trainer(run_dir=tmp_path)
        log = trainer.run()
        assert [record["step"] for record in log] == [1, 2, 3]
        assert read_log(tmp_path / "log.jsonl") == log
        for record in log:
            for name in ("loss_keep", "loss_forget", "norm_keep", "norm_forget", "seconds"):
                assert math.isfinite(record[name])
                assert record[name] > 0
            assert -1 <= record["cosine"] <= 1
            assert record["learning_rate"] == 1e-3
            assert record["u_keep"] == 1
            expected = -DEFAULT_RATIO * record["norm_keep"] / record["norm_forget"]
            assert record["u_forget"] == pytest.approx(expected)
            assert record["rows"] == 4
            rows = trainer.rows(record["step"] - 1)
            weights = [rows.keep.weight, rows.forget.weight]
            small = sum(int(((w > 0) & (w < 1e-6 * w.max())).sum()) for w in weights)
            zero = sum(int((w == 0).sum()) for w in weights)
            assert record["terms_dropped"] == small
            assert 2 <= record["backward_passes"] <= 4
            assert record["backward_rows"] == 8 - small - zero
            for side in ("ess_keep", "ess_forget"):
                assert record[side]
                assert all(share is None or 0 < share <= 1 for share in record[side].values())
                low, high = next(iter(record[side])).split("-")
                assert int(high) - int(low) == 99

    def test_an_absent_side_is_recorded_as_such(self, make_trainer: MakeTrainer) -> None:
        record = make_trainer(NaiveDeletion()).run()[0]
        assert record["loss_forget"] == record["norm_forget"] == record["u_forget"] == 0
        assert record["cosine"] is None
        assert set(record["ess_forget"].values()) == {None}
        assert set(record["ess_keep"].values()) == {1.0}
        assert record["backward_passes"] == 1

    def test_losses_are_those_of_the_rows(self, make_trainer: MakeTrainer) -> None:
        """Sum over rows of weight |prediction - target|^2 / B, by a plain loop."""
        trainer = make_trainer(SISSNoIS())
        rows, model = trainer.rows(0), trainer.model
        model.denoiser.train()
        sums = [0.0, 0.0]
        with torch.no_grad():
            for row in range(len(rows)):
                prediction = model.denoiser(rows.inputs[row : row + 1], rows.t[row : row + 1])[0]
                for side, term in enumerate((rows.keep, rows.forget)):
                    square = (prediction - term.target[row]).square().sum()
                    sums[side] += float(term.weight[row] * square)
        record = trainer.step(0)
        assert record["loss_keep"] == pytest.approx(sums[0], rel=1e-5)
        assert record["loss_forget"] == pytest.approx(sums[1], rel=1e-5)


class TestUpdate:
    @pytest.mark.parametrize("clip", [1e-3, 1.0, 1e9])
    def test_the_combined_gradient_is_clipped(self, make_trainer: MakeTrainer, clip: float) -> None:
        """|u_k g_k + u_f g_f|^2 = u_k^2 kk + 2 u_k u_f kf + u_f^2 ff, then at most the clip."""
        trainer = make_trainer(config=replace(CONFIG, clip_norm=clip))
        r = trainer.step(0)
        u_keep, u_forget = r["u_keep"], r["u_forget"]
        inner = r["cosine"] * r["norm_keep"] * r["norm_forget"]
        squared = (
            (u_keep * r["norm_keep"]) ** 2
            + 2 * u_keep * u_forget * inner
            + (u_forget * r["norm_forget"]) ** 2
        )
        norm = float(flat([param.grad for param in trainer.params]).norm())
        assert norm == pytest.approx(min(math.sqrt(squared), clip), rel=1e-4)

    @pytest.mark.parametrize("name", ["adamw", "adam"])
    def test_first_step_by_hand(self, name: Any) -> None:
        """With m = (1-b1) g and v = (1-b2) g^2 the bias-corrected first step is g/(|g| + eps).

        AdamW shrinks the weight by lr * decay first; Adam adds decay * weight to g.
        """
        config = replace(CONFIG, optimizer=name, learning_rate=0.1, weight_decay=0.5)
        weight = torch.tensor([1.0, -2.0, 3.0])
        gradient = torch.tensor([0.2, 0.4, -1.0])
        param = torch.nn.Parameter(weight.clone())
        param.grad = gradient.clone()
        optimizer = make_optimizer([param], config)
        assert type(optimizer) is {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}[name]
        optimizer.step()
        if name == "adamw":
            expected = weight * (1 - 0.1 * 0.5) - 0.1 * gradient.sign()
        else:
            expected = weight - 0.1 * (gradient + 0.5 * weight).sign()
        torch.testing.assert_close(param.detach(), expected, rtol=1e-5, atol=1e-6)
        assert optimizer.param_groups[0]["betas"] == config.betas

    def test_the_rate_of_each_step_reaches_the_optimizer(self, make_trainer: MakeTrainer) -> None:
        config = replace(CONFIG, steps=5, schedule="cosine", warmup_steps=2)
        seen = []

        def look(trainer: Trainer, steps_done: int) -> bool:
            seen.append(trainer.optimizer.param_groups[0]["lr"])
            return False

        log = make_trainer(config=config, callbacks=[look]).run()
        assert seen == [config.rate(step) for step in range(5)]
        assert [record["learning_rate"] for record in log] == seen

    def test_micro_batches_change_nothing_but_rounding(self, make_trainer: MakeTrainer) -> None:
        whole, pieces = (
            make_trainer(config=replace(CONFIG, micro_batch_rows=rows)) for rows in (64, 1)
        )
        records = [whole.step(0), pieces.step(0)]
        assert records[1]["forward_passes"] > records[0]["forward_passes"]
        first, second = (flat([p.grad for p in t.params]) for t in (whole, pieces))
        torch.testing.assert_close(first, second, rtol=1e-4, atol=1e-6)

    def test_micro_batches_may_be_as_large_as_they_like(self, make_trainer: MakeTrainer) -> None:
        whole, vast = (
            make_trainer(config=replace(CONFIG, micro_batch_rows=rows)) for rows in (64, 10**30)
        )
        assert whole.step(0)["loss_keep"] == vast.step(0)["loss_keep"]

    def test_parts_add_up(self, make_trainer: MakeTrainer) -> None:
        """A part given twice at half its factor is the part itself."""
        one, two = make_trainer(), make_trainer()
        part = two.phase.parts[0]
        halves = [replace(part, factor=0.5), replace(part, factor=0.5)]
        two.forgetting = replace(two.phase, parts=halves)
        first, second = one.step(0), two.step(0)
        assert second["rows"] == 2 * first["rows"]
        for name in ("loss_keep", "loss_forget", "norm_keep", "norm_forget"):
            assert second[name] == pytest.approx(first[name], rel=1e-4)

    def test_frozen_parameters_stay(
        self, make_trainer: MakeTrainer, make_model: Callable[..., DiffusionModel]
    ) -> None:
        model = make_model()
        frozen = model.denoiser.unet.conv_in
        frozen.requires_grad_(False)
        before, moving = frozen.weight.clone(), model.denoiser.unet.conv_out.weight.clone()
        make_trainer(model=model).run()
        assert torch.equal(frozen.weight, before)
        assert not torch.equal(model.denoiser.unet.conv_out.weight, moving)


class TestPairings:
    @pytest.mark.parametrize(
        ("objective", "combination"),
        [
            (NegGrad(), NormFix(ratio=0.1)),
            (NaiveDeletion(), NormFix(ratio=0.1)),
            (OBJECTIVES["EraseDiff"](), NormFix(ratio=0.1)),
            (SISS(), BoundedDescent()),
            (SISS(), Fixed(keep=1, forget=1)),
            (SISS(), Fixed(keep=1, forget=0)),
            (NegGrad(), Fixed(keep=1, forget=-1)),
        ],
    )
    def test_senseless_ones_are_refused(
        self, make_trainer: MakeTrainer, objective: Objective, combination: Combination
    ) -> None:
        with pytest.raises(ValueError, match="does not fit"):
            make_trainer(objective, combination)

    @pytest.mark.parametrize("name", UNPROMPTED)
    def test_every_default_trains(self, make_trainer: MakeTrainer, name: str) -> None:
        trainer = make_trainer(OBJECTIVES[name]())
        before = flat(trainer.params).clone()
        trainer.run()
        assert torch.isfinite(flat(trainer.params)).all()
        assert not torch.equal(flat(trainer.params), before)


class TestAverage:
    def test_follows_its_formula_and_is_lent_for_a_while(self, make_trainer: MakeTrainer) -> None:
        """Shadow s <- d s + (1 - d) w with d = 1 - (1 + (n-1)/inv_gamma)^-power in step n."""
        ema = Ema(max_decay=0.6, inv_gamma=2.0, power=1.0)
        trainer = make_trainer(config=replace(CONFIG, ema=ema))
        shadow = flat(trainer.params).clone()
        for number in range(3):
            trainer.step(number)
            decay = min(1 - (1 + number / 2.0) ** -1.0, 0.6)
            shadow = decay * shadow + (1 - decay) * flat(trainer.params)
        trained = flat(trainer.params).clone()
        assert not torch.allclose(shadow, trained)
        with trainer.averaged():
            torch.testing.assert_close(flat(trainer.params), shadow)
        assert torch.equal(flat(trainer.params), trained)
        with pytest.raises(KeyError), trainer.averaged():
            raise KeyError
        assert torch.equal(flat(trainer.params), trained)
        trainer.use_average()
        torch.testing.assert_close(flat(trainer.params), shadow)

    def test_without_one_the_weights_are_their_own_average(self, make_trainer: MakeTrainer) -> None:
        trainer = make_trainer()
        assert make_ema(trainer.params, CONFIG) is None
        before = flat(trainer.params).clone()
        with trainer.averaged():
            assert torch.equal(flat(trainer.params), before)
        trainer.use_average()
        assert torch.equal(flat(trainer.params), before)


class TestRun:
    def test_a_callback_ends_the_run_with_its_state_saved(
        self, make_trainer: MakeTrainer, tmp_path: Path
    ) -> None:
        seen = []

        def stop_at_two(trainer: Trainer, steps_done: int) -> bool:
            seen.append(steps_done)
            return steps_done == 2

        log = make_trainer(run_dir=tmp_path, callbacks=[stop_at_two]).run()
        assert seen == [1, 2]
        assert len(log) == 2
        assert (tmp_path / "checkpoints" / "step_00000002").is_dir()

    def test_without_a_folder_nothing_is_written(
        self, make_trainer: MakeTrainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        trainer = make_trainer()
        assert len(trainer.run()) == 3
        trainer.save()
        assert list(tmp_path.iterdir()) == []

    def test_a_finished_run_does_nothing_more(
        self, make_trainer: MakeTrainer, tmp_path: Path
    ) -> None:
        first = make_trainer(run_dir=tmp_path)
        log = first.run()
        again = make_trainer(run_dir=tmp_path)
        assert again.run() == log
        assert torch.equal(flat(first.params), flat(again.params))

    def test_the_network_is_in_training_mode_in_steps_only(
        self, make_trainer: MakeTrainer, make_model: Callable[..., DiffusionModel]
    ) -> None:
        """Callbacks draw samples, which must not see dropout."""
        modes = []

        def look(trainer: Trainer, steps_done: int) -> bool:
            modes.append(trainer.model.denoiser.training)
            return False

        trainer = make_trainer(model=make_model(dropout=0.5), callbacks=[look])
        in_steps = []
        trainer.model.denoiser.register_forward_hook(
            lambda module, *_: in_steps.append(module.training)
        )
        trainer.run()
        assert modes == [False] * 3
        assert set(in_steps) == {True}
        assert not trainer.model.denoiser.training

    def test_dropout_is_named_by_the_step(
        self, make_trainer: MakeTrainer, make_model: Callable[..., DiffusionModel]
    ) -> None:
        def result(global_seed: int) -> torch.Tensor:
            torch.manual_seed(global_seed)
            trainer = make_trainer(model=make_model(dropout=0.5))
            trainer.run()
            return flat(trainer.params)

        assert torch.equal(result(1), result(2))

    def test_global_random_state_is_left_alone(self, make_trainer: MakeTrainer) -> None:
        trainer = make_trainer()
        torch.manual_seed(7)
        before = torch.get_rng_state()
        trainer.run()
        assert torch.equal(torch.get_rng_state(), before)

    def test_non_finite_losses_stop_the_run_and_name_the_step(
        self, make_trainer: MakeTrainer, tmp_path: Path
    ) -> None:
        def poison(trainer: Trainer, steps_done: int) -> bool:
            with torch.no_grad():
                trainer.params[0].fill_(math.inf)
            return False

        with pytest.raises(NonFiniteError, match="step 2"):
            make_trainer(run_dir=tmp_path, callbacks=[poison]).run()
        assert len(read_log(tmp_path / "log.jsonl")) == 1


class TestSignals:
    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_a_request_to_stop_saves_first(
        self, make_trainer: MakeTrainer, tmp_path: Path, number: signal.Signals
    ) -> None:
        def interrupt(trainer: Trainer, steps_done: int) -> bool:
            signal.raise_signal(number)
            return False

        handlers = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)]
        with pytest.raises(InterruptedRunError, match="after step 1") as caught:
            make_trainer(run_dir=tmp_path, callbacks=[interrupt]).run()
        assert (caught.value.step, caught.value.folder) == (1, tmp_path)
        assert (tmp_path / "checkpoints" / "step_00000001").is_dir()
        assert [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)] == handlers

    def test_a_second_one_interrupts_at_once(self, make_trainer: MakeTrainer) -> None:
        def interrupt_twice(trainer: Trainer, steps_done: int) -> bool:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
            return False

        before = signal.getsignal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            make_trainer(callbacks=[interrupt_twice]).run()
        assert signal.getsignal(signal.SIGINT) is before


class TestClasses:
    @pytest.mark.parametrize("objective", [SISSNoIS(), SISS(conditioning="forget")])
    def test_a_class_conditional_model_trains(
        self,
        make_model: Callable[..., DiffusionModel],
        make_images: Callable[..., ArrayImages],
        objective: Objective,
    ) -> None:
        """Only the embeddings of labels that occur get a gradient."""
        model = make_model(num_class_embeds=3)
        sampler = PairSampler(
            make_images(4, 0, [0, 0, 0, 0]),
            make_images(2, 1, [1, 1]),
            model.process,
            batch_pairs=4,
            space=model.space,
        )
        part = StepPart(sampler, objective)
        config = replace(CONFIG, weight_decay=0.0)
        trainer = Trainer(
            model, [Phase([part], objective.default_combination)], config, shown=False
        )
        embedding = model.denoiser.unet.class_embedding.weight
        before = embedding.detach().clone()
        assert len(trainer.run()) == 3
        moved = (embedding.detach() != before).any(dim=1).tolist()
        assert moved == [isinstance(objective, SISSNoIS), True, False]

    def test_one_pass_objectives_ask_which_class(
        self,
        make_model: Callable[..., DiffusionModel],
        make_images: Callable[..., ArrayImages],
    ) -> None:
        model = make_model(num_class_embeds=3)
        sampler = PairSampler(
            make_images(4, 0, [0, 0, 0, 0]),
            make_images(2, 1, [1, 1]),
            model.process,
            batch_pairs=4,
            space=PixelSpace(3),
        )
        trainer = Trainer(
            model, [Phase([StepPart(sampler, SISS())], NormFix(ratio=0.1))], CONFIG, shown=False
        )
        with pytest.raises(ValueError, match="conditioning='forget'"):
            trainer.run()

    def test_missing_labels_are_an_error(
        self,
        make_model: Callable[..., DiffusionModel],
        make_images: Callable[..., ArrayImages],
    ) -> None:
        model = make_model(num_class_embeds=3)
        with pytest.raises(ValueError, match="no labels"):
            PairSampler(make_images(4), None, model.process, batch_pairs=2, space=model.space)


class Asking(NaiveDeletion):
    """Keeps to what the frozen model predicts, from the first step on."""

    asks = True

    def __call__(self, *given):
        rows = super().__call__(*given)
        return replace(rows, keep=rows.keep.asking())


class Turned(NaiveDeletion):
    """Asks through a view that turns every sign."""

    asks = True

    def __init__(self, size):
        object.__setattr__(self, "view", View(torch.arange(size), -torch.ones(size)))

    def __call__(self, *given):
        rows = super().__call__(*given)
        every = torch.ones(len(rows), dtype=torch.bool)
        view = torch.zeros(len(rows), dtype=torch.int64)
        question = Question(every, views=[self.view], view=view)
        return replace(rows, keep=replace(rows.keep, question=question))


class TestSettle:
    """A callback can end the forgetting: the rest of the steps trains on the settling phase."""

    def trainer(self, make_model, make_images, run_dir=None, settling=True, again_at=None):
        model = make_model()
        sampler = PairSampler(make_images(6), make_images(2, seed=1), model.process, batch_pairs=4)
        phases = [
            Phase(
                [StepPart(sampler, NaiveDeletion(), keep_predictions=towards_predictions)],
                NaiveDeletion.default_combination,
            )
            for towards_predictions in (True, False)
        ]

        def callback(trainer, steps_done):
            if steps_done == again_at:
                trainer.forget_again()
                return False
            return steps_done in (2, 4) and trainer.settled_after is None and trainer.settle()

        return Trainer(
            model,
            [
                Phase([StepPart(sampler, SISSNoIS())], SISSNoIS.default_combination),
                *(phases if settling else []),
            ],
            Training(steps=5, batch_pairs=4, learning_rate=1e-3, checkpoint_every_steps=3),
            run_dir=run_dir,
            callbacks=[callback],
            shown=False,
        )

    def test_rest_of_the_steps_has_no_forget_side(self, make_model, make_images):
        trainer = self.trainer(make_model, make_images)
        log = trainer.run()
        assert [record["u_forget"] != 0 for record in log] == [True, True, False, False, False]
        assert [record["rows"] for record in log] == [8, 8, 4, 4, 4]
        assert trainer.settled_after == 2

    def test_without_a_settling_phase_the_run_ends(self, make_model, make_images):
        assert len(self.trainer(make_model, make_images, settling=False).run()) == 2

    def test_a_run_that_a_callback_ended_stays_ended(self, make_model, make_images, tmp_path):
        first = self.trainer(make_model, make_images, tmp_path, settling=False)
        first.run()
        again = self.trainer(make_model, make_images, tmp_path, settling=False)
        assert len(again.run()) == 2
        assert again.seconds == first.seconds > 0
        for one, other in zip(first.params, again.params, strict=True):
            assert torch.equal(one, other)

    def test_a_resumed_run_is_still_settled(self, make_model, make_images, tmp_path):
        whole = self.trainer(make_model, make_images)
        whole.run()
        broken = self.trainer(make_model, make_images, tmp_path)
        broken.callbacks = [*broken.callbacks, lambda trainer, steps: 1 / (steps - 4) > 9]
        with pytest.raises(ZeroDivisionError):
            broken.run()
        resumed = self.trainer(make_model, make_images, tmp_path)
        resumed.run()
        assert resumed.settled_after == 2
        for first, second in zip(whole.params, resumed.params, strict=True):
            assert torch.equal(first, second)

    def test_what_came_back_is_forgotten_again_and_then_settles_on_data(
        self, make_model, make_images
    ):
        trainer = self.trainer(make_model, make_images, again_at=3)
        log = trainer.run()
        assert [record["u_forget"] != 0 for record in log] == [True, True, False, True, False]
        assert (trainer.settled_after, trainer.times_settled) == (4, 2)
        assert trainer.phase is trainer.settling[1]
        assert not trainer.phase.asks

    def test_resume_after_forgetting_again(self, make_model, make_images, tmp_path):
        whole = self.trainer(make_model, make_images, again_at=3)
        whole.run()
        broken = self.trainer(make_model, make_images, tmp_path, again_at=3)
        broken.callbacks = [*broken.callbacks, lambda trainer, steps: 1 / (steps - 5) > 9]
        with pytest.raises(ZeroDivisionError):
            broken.run()
        resumed = self.trainer(make_model, make_images, tmp_path, again_at=3)
        resumed.run()
        assert resumed.phase is resumed.settling[1]
        for first, second in zip(whole.params, resumed.params, strict=True):
            assert torch.equal(first, second)

    def test_targets_are_what_the_frozen_model_predicts(self, make_model, make_images):
        trainer = self.trainer(make_model, make_images)
        frozen = trainer.frozen
        trainer.run()  # the model moves away; the copy must not
        rows = trainer.settling[0].rows(trainer.model.process, 3)
        denoiser = trainer.model.denoiser
        with torch.no_grad():
            expected = torch.cat(
                [frozen(rows.inputs[i : i + 1], rows.t[i : i + 1], None) for i in range(len(rows))]
            )
        plain = replace(rows, keep=Term(expected, rows.keep.weight))
        given, asked = trainer.engine(denoiser, plain), trainer.engine(denoiser, rows, 0, frozen)
        torch.testing.assert_close(asked.keep_losses, given.keep_losses, rtol=1e-4, atol=1e-8)
        torch.testing.assert_close(asked.flat_keep, given.flat_keep, rtol=1e-4, atol=1e-5)
        unasked = replace(rows, keep=replace(rows.keep, question=None))
        untaught = trainer.engine(denoiser, unasked)
        assert not torch.allclose(untaught.keep_losses, given.keep_losses, rtol=1e-2)
        assert torch.equal(untaught.flat_forget, asked.flat_forget)

    def test_without_movement_settling_has_no_loss(self, make_model, make_images):
        trainer = self.trainer(make_model, make_images)
        trainer.settle()
        assert trainer.step(1)["loss_keep"] < 1e-8

    def test_the_first_step_trains_on_the_data(self, make_model, make_images):
        """A keep gradient of rounding noise would scale the forget gradient to noise as well."""
        model = make_model()
        sampler = PairSampler(make_images(6), make_images(2, seed=1), model.process, batch_pairs=4)
        trainer = Trainer(
            model,
            [Phase([StepPart(sampler, SISSNoIS(), keep_predictions=True)], NormFix(ratio=0.5))],
            Training(steps=2, batch_pairs=4, learning_rate=1e-3),
            shown=False,
        )
        first, second = trainer.run()
        assert first["norm_keep"] > 1
        assert abs(first["u_forget"]) * first["norm_forget"] == pytest.approx(
            0.5 * first["norm_keep"]
        )
        assert 0 < second["loss_keep"] < first["loss_keep"] / 10

    def test_rows_from_a_timestep_on_keep_their_targets(self, make_model, make_images):
        """The others ask; forget rows, which have no keep weight, ask nothing at any timestep."""
        model = make_model()
        sampler = PairSampler(make_images(6), make_images(2, seed=1), model.process, batch_pairs=16)
        part = StepPart(sampler, SISSNoIS(), keep_predictions=True, predictions_below=400)
        rows = part.rows(model.process, 1)
        is_keep = rows.keep.weight != 0
        assert torch.equal(rows.keep.question.asked, is_keep & (rows.t < 400))
        assert 0 < int(rows.keep.question.asked.sum()) < int(is_keep.sum())

    def test_an_objective_that_asks_by_itself_finds_the_frozen_model(self, make_model, make_images):
        """At the first step the model is the frozen one, so nothing is lost; then it has moved."""
        model = make_model()
        sampler = PairSampler(make_images(6), make_images(2, seed=1), model.process, batch_pairs=4)
        parts = [StepPart(sampler, Asking()), StepPart(sampler, SISSNoIS())]
        trainer = Trainer(model, [Phase(parts, NormFix(ratio=0.5))], CONFIG, shown=False)
        assert trainer.rows(0).keep.question.asked.tolist() == [True] * 4 + [False] * 8
        losses = []
        for number in range(2):
            alone = parts[0].rows(model.process, number)
            found = trainer.engine(model.denoiser.eval(), alone, 0, trainer.frozen)
            losses.append(float(found.keep_losses.sum()))
            trainer.step(number)
        assert losses[0] < 1e-8 < 1e-6 < losses[1]

    def test_an_objectives_own_question_goes_first(self, make_model, make_images):
        model = make_model()
        sampler = PairSampler(make_images(6), None, model.process, batch_pairs=4)
        size = make_images(1).batch(torch.tensor([0])).numel()
        rows = StepPart(sampler, Turned(size), keep_predictions=True).rows(model.process, 1)
        assert len(rows.keep.question.views) == 1

    def test_there_must_be_something_to_train_on(self, make_model):
        with pytest.raises(ValueError, match="at least one part"):
            Phase([], NormFix(ratio=0.5))
        with pytest.raises(ValueError, match="at least one phase"):
            Trainer(make_model(), [], CONFIG)

    def test_a_senseless_settling_phase_is_refused(self, make_model, make_images):
        sampler = PairSampler(make_images(3), None, make_model().process, batch_pairs=2)
        with pytest.raises(ValueError, match="does not fit"):
            Phase([StepPart(sampler, NaiveDeletion())], NegGrad().default_combination)


def weights_of(trainer: Trainer) -> list[torch.Tensor]:
    return [param.detach().clone() for param in trainer.params]


@pytest.mark.parametrize("ema", [None, Ema(0.5)])
def test_remembered_weights_come_back(make_trainer: MakeTrainer, ema: Ema | None) -> None:
    trainer = make_trainer(config=replace(CONFIG, ema=ema))
    trainer.step(0)
    with trainer.averaged():
        wanted = weights_of(trainer)
    trainer.remember()
    trainer.step(1)
    assert not all(a.equal(b) for a, b in zip(weights_of(trainer), wanted, strict=True))
    trainer.go_back()
    assert trainer.went_back_to == 0
    trainer.use_average()
    assert all(a.equal(b) for a, b in zip(weights_of(trainer), wanted, strict=True))


def test_remembered_weights_survive_a_resume(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    def remember_once(trainer: Trainer, steps_done: int) -> bool:
        if steps_done == 1:
            trainer.remember()
        return False

    config = replace(CONFIG, checkpoint_every_steps=1)
    options: dict[str, Any] = {"run_dir": tmp_path, "callbacks": [remember_once]}
    first = make_trainer(config=replace(config, steps=2), **options)
    first.remember()
    first.run()
    assert first.remembered is not None
    second = make_trainer(config=config, run_dir=tmp_path)
    second.remember()
    second.run()
    assert second.remembered is not None
    assert second.remembered_at == 1
    assert all(second.remembered[name].equal(value) for name, value in first.remembered.items())


def test_there_must_be_something_to_go_back_to(make_trainer: MakeTrainer) -> None:
    with pytest.raises(ValueError, match="no weights were remembered"):
        make_trainer().go_back()
