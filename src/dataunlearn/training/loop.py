"""The loop that every training runs in: steps, progress, log, checkpoints, interrupts.

It yields after each step, so that whoever trains can look at the model before the step is logged
and saved, and can end the run there.
"""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from dataunlearn.runtime.interrupt import InterruptedRunError, interrupt_flag
from dataunlearn.runtime.own_files import SETTINGS_FILE
from dataunlearn.runtime.progress import progress_bar
from dataunlearn.runtime.sealed import DamagedFileWarning, read_sealed, sealed
from dataunlearn.training.checkpoint import Checkpoint, CheckpointStore
from dataunlearn.training.config import Training
from dataunlearn.training.step_log import StepLog

if TYPE_CHECKING:
    from accelerate import Accelerator

Record = dict[str, Any]
LOG_FILE = "log.jsonl"


class Stepper(Protocol):
    """What a loop drives.

    Attributes:
        steps_done: Steps behind it.
        ended: Whether it wants no more steps.
        seconds: Spent in the loop so far, those before a resume included.
    """

    steps_done: int
    ended: bool
    seconds: float

    def step(self, number: int) -> Record:
        """Update the weights once; ``number`` counts from 0. Returns the step's log record."""

    def note(self, record: Record) -> str:
        """A few words on a step, for the progress bar."""

    def state(self) -> Checkpoint:
        """Everything that a resume needs."""

    def restore(self, checkpoint: Checkpoint) -> None:
        """Put a state back.

        Raises:
            ValueError: If it is another network's.
        """


@dataclass(eq=False)
class Loop:
    """How a training runs.

    Attributes:
        config: Number of steps, and steps between checkpoints.
        run_dir: Where the log and the checkpoints go; None keeps nothing.
        accelerator: The processes that run it together; None is one alone.
        description: Label of the progress bar.
        shown: Whether to draw it.
        log: One record per step, those before a resume included.
        settings: A copy of the run's settings, which goes with every checkpoint.
        unlogged: The record of a step whose body, in which it may be saved, has not ended.
    """

    config: Training
    run_dir: Path | None = None
    accelerator: Accelerator | None = None
    description: str = "training"
    shown: bool = True
    log: StepLog = field(default_factory=lambda: StepLog(None))
    settings: dict[str, str] = field(default_factory=dict, init=False, repr=False)
    unlogged: Record | None = field(default=None, init=False, repr=False)

    @property
    def is_main(self) -> bool:
        """Whether this process logs and saves."""
        return self.accelerator is None or self.accelerator.is_main_process

    @property
    def store(self) -> CheckpointStore | None:
        """The checkpoints; None without a folder."""
        return None if self.run_dir is None else CheckpointStore(self.run_dir / "checkpoints")

    def resume(self, stepper: Stepper) -> None:
        """Go on from the newest whole checkpoint, if there is one, and open the log.

        What is damaged is put aside with a warning; the steps since are done again.
        """
        store = self.store
        checkpoint = None if store is None else store.latest()
        if store is not None and self.is_main:
            _tell_damage(store.set_damaged_aside(), checkpoint)
        if checkpoint is not None:
            stepper.restore(checkpoint)
        path = self.run_dir / LOG_FILE if self.run_dir is not None and self.is_main else None
        kept = None if checkpoint is None else checkpoint.texts.get(LOG_FILE)
        self.log = StepLog(path, stepper.steps_done, kept)
        self.settings = {} if self.run_dir is None else _copy_of_settings(self.run_dir)

    def steps(self, stepper: Stepper) -> Generator[Record]:
        """Do the steps that are left, and yield each one's record before it is logged.

        Close the iterator where an exception may leave the loop's body: the step is logged then.

        Raises:
            InterruptedRunError: After Ctrl-C or a termination signal, with the state saved.
        """
        began = time.perf_counter() - stepper.seconds
        with (
            interrupt_flag(self.accelerator) as interrupted,
            progress_bar(
                self.description, self.config.steps, shown=self.shown and self.is_main
            ) as advance,
        ):
            advance(stepper.steps_done)
            while stepper.steps_done < self.config.steps and not stepper.ended:
                record = stepper.step(stepper.steps_done)
                stepper.steps_done += 1
                advance(1, stepper.note(record))
                self.unlogged = record
                try:
                    yield record
                finally:
                    self.unlogged = None
                    self.log.append(record)
                stepper.seconds = time.perf_counter() - began
                due = stepper.steps_done % self.config.checkpoint_every_steps == 0
                if due or interrupted.is_set():
                    self.save(stepper)
                if interrupted.is_set():
                    raise InterruptedRunError(stepper.steps_done, self.run_dir)
        self.save(stepper)

    def save(self, stepper: Stepper) -> None:
        """Write a checkpoint on the main process, if the run has a folder; all have to call it."""
        if self.store is None:
            return
        state = stepper.state()  # what is in parts is put together by all
        if self.is_main:
            texts = {LOG_FILE: self.log.text(self.unlogged), **self.settings}
            self.store.save(replace(state, texts=texts))


def _copy_of_settings(run_dir: Path) -> dict[str, str]:
    if not (run_dir / SETTINGS_FILE).is_file():
        return {}
    copy = sealed({"settings": read_sealed(run_dir / SETTINGS_FILE)})
    return {SETTINGS_FILE: json.dumps(copy)}


def _tell_damage(damage: Sequence[str], checkpoint: Checkpoint | None) -> None:
    if damage:
        since = "the first step" if checkpoint is None else f"step {checkpoint.step}"
        words = f"{damage[0]}. Going on from {since}, from where all is done again."
        warnings.warn(words, DamagedFileWarning, stacklevel=3)
