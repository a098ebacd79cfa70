"""The trainer: base training and every unlearning method take their steps here."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from dataunlearn.models import DiffusionModel
from dataunlearn.models.compiling import as_written, compiled
from dataunlearn.models.frozen import frozen_model
from dataunlearn.rows import Rows
from dataunlearn.runtime.processes import share, telling_lost_processes
from dataunlearn.runtime.seeding import mix_seed
from dataunlearn.training.checkpoint import Checkpoint, load_optimizer_tensors, optimizer_tensors
from dataunlearn.training.config import Training
from dataunlearn.training.engine import GradientEngine, changing_state, trainable
from dataunlearn.training.lagged import LaggedNorms
from dataunlearn.training.loop import Loop, Record
from dataunlearn.training.optimizer import make_ema, make_optimizer
from dataunlearn.training.parts import like, whole
from dataunlearn.training.phase import Phase
from dataunlearn.training.sharded_engine import ShardedEngine
from dataunlearn.training.sharding import Shards
from dataunlearn.training.step_log import StepLog, step_record

Callback = Callable[["Trainer", int], bool]

# What a checkpoint keeps of a trainer beside its tensors.
KEPT = ("settled_after", "times_settled", "ended", "went_back_to", "seconds", "arrived")


class Trainer:
    """Runs a phase's rows through the engine, its combination rule and an optimizer.

    Args:
        model: The model; its denoiser is changed in place.
        phases: What steps train on: the first one until a callback calls :meth:`settle`, then the
            second one, after a second call the third one and so on, the last one for good. With
            one alone, settling ends the run.
        config: Numbers of the loop.
        run_dir: Where the log and the checkpoints go; None keeps nothing.
        accelerator: Processes and device; a plain single process by default.
        callbacks: Called with (trainer, steps done) after every step; True ends the run.
        description: Label of the progress bar.
        shown: Whether to draw it.

    Attributes:
        frozen: The model as it is now, before the first step, where a phase asks it; else None.
        arrived: Which of the different forget images are where they should end; set by a callback.
    """

    def __init__(
        self,
        model: DiffusionModel,
        phases: Sequence[Phase],
        config: Training,
        *,
        run_dir: Path | None = None,
        accelerator: Accelerator | None = None,
        callbacks: Sequence[Callback] = (),
        description: str = "training",
        shown: bool = True,
    ) -> None:
        if not phases:
            raise ValueError("a trainer needs at least one phase")
        self.model, self.config = model, config
        self.forgetting, self.settling = phases[0], phases[1:]
        asks, low = any(phase.asks for phase in phases), config.precision == "bfloat16"
        self.frozen = frozen_model(model, rounded=low and not config.shard) if asks else None
        self.shards = Shards(model, self.frozen, accelerator) if config.shard else None
        self.settled_after: int | None = None
        self.times_settled = self.steps_done = 0
        self.ended = False  # by a callback
        self.went_back_to: int | None = None
        self.arrived: list[bool] = []  # by forget image; empty before anyone looked
        self.seconds = 0.0  # of training and all around it, those before a resume included
        self.callbacks = callbacks
        self.loop = Loop(config, run_dir, accelerator, description, shown)
        self.notes: list[str] = []
        self.params = trainable(model.denoiser)
        self.optimizer = make_optimizer(self.params, config)
        self.ema = make_ema(self.params, config)
        self.engine = self._engine()
        self.lagged = LaggedNorms()
        self.remembered: dict[str, Tensor] | None = None
        self.remembered_at = 0
        self.record: Record = {}  # of the last step; callbacks add what they saw

    @property
    def log(self) -> StepLog:
        """One record per step, those before a resume included."""
        return self.loop.log

    @property
    def is_main(self) -> bool:
        """Whether this is the only process, or the one that writes."""
        return self.loop.is_main

    def run(self) -> list[Record]:
        """Train until the last step, a callback's stop, or an interrupt.

        Returns:
            The log: one record per step, those before a resume included.

        Raises:
            NonFiniteError: On a non-finite loss or gradient.
            InterruptedRunError: After Ctrl-C or a termination signal, with the state saved.
            LostProcessError: If another process of the run ended.
        """
        self.loop.resume(self)
        if self.shards is None:
            share(self._shared(), self.loop.accelerator)
        compiling = compiled(self._networks if self.config.compile else [])
        lost = telling_lost_processes(self.loop.accelerator, self.loop.run_dir)
        with lost, compiling, closing(self.loop.steps(self)) as steps:
            for record in steps:
                self.record = record
                self.model.denoiser.eval()  # callbacks draw samples: without dropout
                with as_written():
                    stop = [callback(self, self.steps_done) for callback in self.callbacks]
                self.ended = any(stop)
        if self.shards is not None:
            self.shards.give_back()
        self.model.denoiser.eval()
        return self.log.records

    def step(self, number: int) -> Record:
        """One update of the weights; returns its log record."""
        started = time.perf_counter()
        self.model.denoiser.train()
        rows = self.rows(number)
        seed = mix_seed(self.config.seed, number)
        phase, rule = self.phase, self.phase.combination
        factors = rule.factors or self.lagged.factors(rule, rows, phase.norms_every_steps)
        gradients = self.engine(self.model.denoiser, rows, seed, self.frozen, factors)
        phase.restraint.mask(gradients)
        gradients, gramian = gradients.with_losses_here()
        gradients.require_finite(gramian, rows, number + 1)
        u_keep, u_forget = factors if gradients.in_one_pass and factors else rule(gramian)
        self.lagged.saw(rule, rows, gradients, gramian)
        gradients.write(self.params, u_keep, u_forget)
        phase.restraint.draw_back(self.params)
        torch.nn.utils.clip_grad_norm_(self.params, self.config.clip_norm)
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.rate(number)
        self.optimizer.step()
        phase.restraint.hold(self.params)
        if self.ema is not None:
            self.ema.step(self.params)
        return {
            "step": number + 1,
            **step_record(rows, gradients, gramian, self.model.process),
            "norm_drift": self.lagged.drift,
            "learning_rate": self.config.rate(number),
            "u_keep": u_keep,
            "u_forget": u_forget,
            "seconds": time.perf_counter() - started,
        }

    def note(self, record: Record) -> str:
        """Both losses, for the progress bar."""
        return f"keep {record['loss_keep']:.3g} forget {record['loss_forget']:.3g}"

    def rows(self, number: int) -> Rows:
        """The global rows of step ``number``, the same on every process."""
        return self.phase.rows(self.model.process, number)

    def settle(self) -> bool:
        """Go on with the next settling phase; true if there is none, which ends the run."""
        if not self.settling:
            return True
        self.settled_after, self.times_settled = self.steps_done, self.times_settled + 1
        return False

    def forget_again(self) -> None:
        """Leave the settling phase: what was forgotten came back."""
        self.settled_after = None

    @property
    def phase(self) -> Phase:
        """What the next step trains on."""
        if self.settled_after is None or not self.settling:
            return self.forgetting.eased(self.arrived)
        return self.settling[min(self.times_settled, len(self.settling)) - 1].eased(self.arrived)

    def use_average(self) -> None:
        """Put the moving average into the model, if there is one: the result of base training."""
        if self.ema is not None:
            self.ema.copy_to(self.params)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """The moving average in the model for a while, then the trained weights again."""
        if self.ema is None:
            yield
            return
        self.ema.store(self.params)
        self.ema.copy_to(self.params)
        try:
            yield
        finally:
            self.ema.restore(self.params)

    def remember(self) -> None:
        """Keep the weights as they are now, their moving average if there is one."""
        with self.averaged():
            state = changing_state(self.model.denoiser)
            self.remembered = {name: value.detach().clone() for name, value in state.items()}
        self.remembered_at = self.steps_done

    def go_back(self) -> None:
        """Put the weights last remembered into the model and its moving average."""
        if self.remembered is None:
            raise ValueError("no weights were remembered")
        self._put(self.remembered)
        self.went_back_to = self.remembered_at
        if self.ema is not None:
            for shadow, param in zip(self.ema.shadow_params, self.params, strict=True):
                shadow.copy_(param.detach())

    def save(self) -> None:
        """Write a checkpoint, if the run has a folder and this is the main process."""
        self.loop.save(self)

    def state(self) -> Checkpoint:
        """Weights, moments, averages, and where the run stands."""
        tensors = {f"model.{k}": v for k, v in changing_state(self.model.denoiser).items()}
        tensors |= optimizer_tensors(self.optimizer)
        values: dict[str, Any] = {name: getattr(self, name) for name in KEPT}
        values["lagged"] = self.lagged.state
        if self.ema is not None:
            tensors |= {f"ema.{i}": v for i, v in enumerate(self.ema.shadow_params)}
            values["ema_steps"] = self.ema.optimization_step
        if self.remembered is not None:
            tensors |= {f"remembered.{k}": v for k, v in self.remembered.items()}
            values["remembered_at"] = self.remembered_at
        return Checkpoint(self.steps_done, whole(tensors), values)

    def _shared(self) -> Iterator[Tensor]:
        for network in self._networks:
            yield from network.state_dict().values()
        yield from self.forgetting.restraint.tensors()

    @property
    def _networks(self) -> list[nn.Module]:
        """The one that is trained, and the frozen one where a phase asks it."""
        return [self.model.denoiser, *([] if self.frozen is None else [self.frozen])]

    def restore(self, checkpoint: Checkpoint) -> None:
        """Put back what :meth:`state` took out.

        Raises:
            ValueError: If the checkpoint is another network's.
        """
        tensors = checkpoint.tensors
        weights = checkpoint.part("model")
        if changing_state(self.model.denoiser).keys() != weights.keys():
            raise ValueError(f"the checkpoint in {self.loop.run_dir} belongs to another network")
        self._put(weights)
        if self.remembered is not None:
            for name, value in self.remembered.items():
                value.copy_(like(value, tensors[f"remembered.{name}"]))
            self.remembered_at = checkpoint.values["remembered_at"]
        load_optimizer_tensors(self.optimizer, tensors)
        if self.ema is not None:
            for index, shadow in enumerate(self.ema.shadow_params):
                shadow.copy_(tensors[f"ema.{index}"])
            self.ema.optimization_step = checkpoint.values["ema_steps"]
        self.steps_done = checkpoint.step
        self.lagged = LaggedNorms.of(checkpoint.values.get("lagged", {}))
        for name in KEPT:
            setattr(self, name, checkpoint.values.get(name, getattr(self, name)))

    @torch.no_grad()
    def _put(self, weights: Mapping[str, Tensor]) -> None:
        for name, value in changing_state(self.model.denoiser).items():
            value.copy_(like(value, weights[name]))

    def _engine(self) -> GradientEngine:
        kind = GradientEngine if self.shards is None else ShardedEngine
        return kind(
            self.config.micro_batch_rows,
            precision=self.config.precision,
            accelerator=self.loop.accelerator,
            on_shrink=self._note_shrink,
        )

    def _note_shrink(self, rows: int) -> None:
        self.notes.append(
            f"out of memory at step {self.steps_done + 1}: micro-batches halved to {rows} rows"
        )
