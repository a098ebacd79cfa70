"""A resumed run equals an uninterrupted one, bit for bit."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from dataunlearn.combine import Fixed
from dataunlearn.data import ArrayImages
from dataunlearn.models import DiffusionModel
from dataunlearn.objectives import SISS, NaiveDeletion
from dataunlearn.runtime.files import read_log
from dataunlearn.runtime.interrupt import InterruptedRunError
from dataunlearn.runtime.sealed import DamagedFileWarning
from dataunlearn.training import lagged
from dataunlearn.training.checkpoint import CheckpointStore
from dataunlearn.training.config import Ema, Training
from dataunlearn.training.pairs import PairSampler
from dataunlearn.training.phase import Phase, StepPart
from dataunlearn.training.trainer import Trainer

NUM_STEPS, EVERY_STEPS = 8, 3
MakeTrainer = Callable[..., Trainer]


def unlearning() -> tuple[Any, Any, Training]:
    """SISS at a constant rate."""
    config = Training(
        steps=NUM_STEPS,
        batch_pairs=4,
        learning_rate=1e-3,
        checkpoint_every_steps=EVERY_STEPS,
        seed=3,
    )
    return SISS(), SISS().default_combination, config


def base_training() -> tuple[Any, Any, Training]:
    """The denoising loss with warm-up, cosine schedule and a moving average."""
    config = Training(
        steps=NUM_STEPS,
        batch_pairs=4,
        learning_rate=1e-3,
        schedule="cosine",
        warmup_steps=2,
        checkpoint_every_steps=EVERY_STEPS,
        seed=3,
        ema=Ema(max_decay=0.9, inv_gamma=1.0, power=0.75),
    )
    return NaiveDeletion(), Fixed(keep=1 / 64, forget=0), config


def in_one_kernel() -> tuple[Any, Any, Training]:
    """The same with the optimizer that GPUs have, which keeps its count of steps elsewhere."""
    return base_training()


@pytest.fixture(
    params=[unlearning, base_training, in_one_kernel], ids=["siss", "base", "one kernel"]
)
def make_trainer(
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    make_model: Callable[..., DiffusionModel],
    make_images: Callable[..., ArrayImages],
) -> MakeTrainer:
    """A new trainer of a new model over a run folder; dropout makes every draw count.

    SISS measures the gradients' lengths in every third step and in those after a jump.
    """
    monkeypatch.setattr(lagged, "EXACT_AT_FIRST", 1)
    objective, combination, config = request.param()
    one_kernel = request.param is in_one_kernel
    monkeypatch.setattr("dataunlearn.training.optimizer.are_on_a_gpu", lambda _: one_kernel)

    def make(run_dir: Path, callback: Any = None, seed: int = 0) -> Trainer:
        model = make_model(seed, dropout=0.2)
        sampler = PairSampler(
            make_images(7), make_images(3, 1), model.process, batch_pairs=4, seed=config.seed
        )
        return Trainer(
            model,
            [Phase([StepPart(sampler, objective)], combination, norms_every_steps=3)],
            config,
            run_dir=run_dir,
            callbacks=[callback] if callback is not None else [],
            shown=False,
        )

    return make


def assert_same(first: Trainer, second: Trainer) -> None:
    """Equal weights, optimizer state, average and log; only the time taken may differ."""
    for one, two in zip(first.params, second.params, strict=True):
        assert torch.equal(one, two)
    states = [trainer.optimizer.state_dict() for trainer in (first, second)]
    for groups in zip(*(state["param_groups"] for state in states), strict=True):
        one, two = ({k: v for k, v in group.items() if k != "lr"} for group in groups)
        assert one == two  # the rate is set anew in every step; the log holds it
    assert states[0]["state"].keys() == states[1]["state"].keys()
    for index, entries in states[0]["state"].items():
        for key, value in entries.items():
            assert torch.equal(value, states[1]["state"][index][key])
    assert (first.ema is None) == (second.ema is None)
    if first.ema is not None:
        assert first.ema.optimization_step == second.ema.optimization_step
        for one, two in zip(first.ema.shadow_params, second.ema.shadow_params, strict=True):
            assert torch.equal(one, two)
    assert without_seconds(first.log.records) == without_seconds(second.log.records)


def without_seconds(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{k: v for k, v in record.items() if k != "seconds"} for record in records]


def assert_log_on_disk(trainer: Trainer) -> None:
    assert trainer.loop.run_dir is not None
    records = read_log(trainer.loop.run_dir / "log.jsonl")
    assert records == trainer.log.records
    assert [record["step"] for record in records] == list(range(1, NUM_STEPS + 1))


@pytest.fixture
def whole(make_trainer: MakeTrainer, tmp_path: Path) -> Trainer:
    """The uninterrupted run."""
    trainer = make_trainer(tmp_path / "whole")
    trainer.run()
    return trainer


@pytest.mark.parametrize("stop", [1, 3, 5, 8])
def test_after_an_interrupt_at_any_step(
    make_trainer: MakeTrainer, whole: Trainer, tmp_path: Path, stop: int
) -> None:
    """The new process starts from other weights, so all of them must come from the checkpoint."""

    def interrupt(trainer: Trainer, steps_done: int) -> bool:
        if steps_done == stop:
            os.kill(os.getpid(), signal.SIGINT)
        return False

    with pytest.raises(InterruptedRunError, match=f"after step {stop}"):
        make_trainer(tmp_path / "run", interrupt).run()
    assert CheckpointStore(tmp_path / "run" / "checkpoints").steps()[-1] == stop
    resumed = make_trainer(tmp_path / "run", seed=9)
    resumed.run()
    assert_same(resumed, whole)
    assert_log_on_disk(resumed)


def test_after_several_interrupts(
    make_trainer: MakeTrainer, whole: Trainer, tmp_path: Path
) -> None:
    def interrupt(trainer: Trainer, steps_done: int) -> bool:
        if steps_done % 2:
            signal.raise_signal(signal.SIGTERM)
        return False

    for stop in (1, 3, 5, 7):
        with pytest.raises(InterruptedRunError, match=f"after step {stop}"):
            make_trainer(tmp_path / "run", interrupt, seed=stop - 1).run()
    resumed = make_trainer(tmp_path / "run")
    resumed.run()
    assert_same(resumed, whole)
    assert_log_on_disk(resumed)


def test_after_a_hard_stop_from_the_last_periodic_checkpoint(
    make_trainer: MakeTrainer, whole: Trainer, tmp_path: Path
) -> None:
    """Steps 4 and 5 were logged but not saved: the resumed run drops them and does them again."""

    def crash(trainer: Trainer, steps_done: int) -> bool:
        if steps_done == 5:
            raise RuntimeError("power cut")
        return False

    with pytest.raises(RuntimeError, match="power cut"):
        make_trainer(tmp_path / "run", crash).run()
    log = tmp_path / "run" / "log.jsonl"
    assert [record["step"] for record in read_log(log)] == [1, 2, 3, 4, 5]
    log.write_text(log.read_text() + '{"step": 6, "loss_ke')
    assert CheckpointStore(tmp_path / "run" / "checkpoints").steps() == [3]
    started: list[int] = []

    def note(trainer: Trainer, steps_done: int) -> bool:
        started.append(steps_done)
        return False

    resumed = make_trainer(tmp_path / "run", note, seed=9)
    resumed.run()
    assert started == [4, 5, 6, 7, 8]
    assert_same(resumed, whole)
    assert_log_on_disk(resumed)


def test_a_hard_stop_before_the_first_checkpoint_starts_over(
    make_trainer: MakeTrainer, whole: Trainer, tmp_path: Path
) -> None:
    def crash(trainer: Trainer, steps_done: int) -> bool:
        if steps_done == 2:
            raise RuntimeError("power cut")
        return False

    with pytest.raises(RuntimeError, match="power cut"):
        make_trainer(tmp_path / "run", crash).run()
    resumed = make_trainer(tmp_path / "run")
    resumed.run()
    assert_same(resumed, whole)
    assert_log_on_disk(resumed)


def test_looking_at_the_average_changes_nothing(
    make_trainer: MakeTrainer, whole: Trainer, tmp_path: Path
) -> None:
    def look(trainer: Trainer, steps_done: int) -> bool:
        with trainer.averaged():
            trainer.model.denoiser(torch.zeros(1, 1, 8, 8), torch.tensor([5]))
        return False

    looking = make_trainer(tmp_path / "run", look)
    looking.run()
    assert_same(looking, whole)


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-40])


def flip(file: Path) -> None:
    """One bit of a byte in the last quarter, where safetensors hold values."""
    content = bytearray(file.read_bytes())
    content[-len(content) // 4] ^= 1
    file.write_bytes(bytes(content))


def other_step(file: Path) -> None:
    state = json.loads(file.read_text())
    file.write_text(json.dumps({"step": 5, "values": state["values"]}))


DAMAGE: dict[str, tuple[str, Callable[[Path], Any]]] = {
    "cut tensors": ("state.safetensors", cut),
    "flipped bit": ("state.safetensors", flip),
    "no tensors": ("state.safetensors", lambda file: file.unlink()),
    "cut state": ("state.json", cut),
    "flipped state": ("state.json", flip),
    "empty state": ("state.json", lambda file: file.write_bytes(b"")),
    "null state": ("state.json", lambda file: file.write_text("null")),
    "list": ("state.json", lambda file: file.write_text("[]")),
    "other step": ("state.json", other_step),
    "bytes": ("state.json", lambda file: file.write_bytes(b"\xff\xfe")),
    "log": ("log.jsonl", flip),
}


class TestDamage:
    @pytest.fixture
    def interrupted(self, make_trainer: MakeTrainer, tmp_path: Path) -> Path:
        """A run with checkpoints of steps 3 and 6."""

        def crash(trainer: Trainer, steps_done: int) -> bool:
            if steps_done == 7:
                raise RuntimeError("power cut")
            return False

        with pytest.raises(RuntimeError, match="power cut"):
            make_trainer(tmp_path / "run", crash).run()
        store = CheckpointStore(tmp_path / "run" / "checkpoints")
        assert store.steps() == [3, 6]
        return tmp_path / "run"

    @pytest.mark.parametrize("kind", DAMAGE)
    def test_of_the_newest_checkpoint_falls_back_to_the_one_before(
        self, interrupted: Path, make_trainer: MakeTrainer, whole: Trainer, kind: str
    ) -> None:
        name, damage = DAMAGE[kind]
        damage(interrupted / "checkpoints" / "step_00000006" / name)
        (interrupted / "checkpoints" / "step_notes").mkdir()
        resumed = make_trainer(interrupted, seed=9)
        with pytest.warns(DamagedFileWarning, match=rf"{name} is damaged.*from step 3, "):
            resumed.run()
        assert_same(resumed, whole)
        assert_log_on_disk(resumed)
        assert CheckpointStore(interrupted / "checkpoints").steps() == [6, 8]

    def test_of_all_checkpoints_starts_from_the_first_step(
        self, interrupted: Path, make_trainer: MakeTrainer, whole: Trainer
    ) -> None:
        for step in (3, 6):
            flip(interrupted / "checkpoints" / f"step_{step:08d}" / "state.safetensors")
        resumed = make_trainer(interrupted)
        with pytest.warns(DamagedFileWarning, match="from the first step"):
            resumed.run()
        assert_same(resumed, whole)
        assert_log_on_disk(resumed)

    @pytest.mark.parametrize(
        "damage",
        [
            cut,
            flip,
            lambda log: log.write_bytes(b""),
            lambda log: log.write_bytes(b"\xff\n" + log.read_bytes()),
            lambda log: log.write_text(log.read_text().replace('"step": 2,', '"step": 1,')),
        ],
    )
    def test_of_the_log_is_made_good_from_the_checkpoint(
        self,
        interrupted: Path,
        make_trainer: MakeTrainer,
        whole: Trainer,
        damage: Callable[[Path], Any],
    ) -> None:
        damage(interrupted / "log.jsonl")
        resumed = make_trainer(interrupted)
        resumed.run()
        assert_same(resumed, whole)
        assert_log_on_disk(resumed)

    def test_checkpoints_of_earlier_versions_are_taken(
        self, interrupted: Path, make_trainer: MakeTrainer, whole: Trainer
    ) -> None:
        """They have neither checksums nor copies."""
        for folder in (interrupted / "checkpoints").iterdir():
            state = json.loads((folder / "state.json").read_text())
            old = {"step": state["step"], "values": state["values"]}
            (folder / "state.json").write_text(json.dumps(old))
            (folder / "log.jsonl").unlink()
        started: list[int] = []

        def note(trainer: Trainer, steps_done: int) -> bool:
            started.append(steps_done)
            return False

        resumed = make_trainer(interrupted, note, seed=9)
        resumed.run()
        assert started == [7, 8]
        assert_same(resumed, whole)
        assert_log_on_disk(resumed)
