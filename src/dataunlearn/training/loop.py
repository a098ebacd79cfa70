"""The loop that every training runs in: steps, progress, log, checkpoints, interrupts.

It yields after each step, so that whoever trains can look at the model before the step is logged
and saved, and can end the run there.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from dataunlearn.runtime.interrupt import InterruptedRunError, interrupt_flag
from dataunlearn.runtime.progress import progress_bar
from dataunlearn.training.checkpoint import Checkpoint, CheckpointStore
from dataunlearn.training.config import Training
from dataunlearn.training.step_log import StepLog

if TYPE_CHECKING:
    from accelerate import Accelerator

Record = dict[str, Any]


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
    """

    config: Training
    run_dir: Path | None = None
    accelerator: Accelerator | None = None
    description: str = "training"
    shown: bool = True
    log: StepLog = field(default_factory=lambda: StepLog(None))

    @property
    def is_main(self) -> bool:
        """Whether this process logs and saves."""
        return self.accelerator is None or self.accelerator.is_main_process

    @property
    def store(self) -> CheckpointStore | None:
        """The checkpoints; None without a folder."""
        return None if self.run_dir is None else CheckpointStore(self.run_dir / "checkpoints")

    def resume(self, stepper: Stepper) -> None:
        """Go on from the newest checkpoint, if there is one, and open the log."""
        checkpoint = None if self.store is None else self.store.latest()
        if checkpoint is not None:
            stepper.restore(checkpoint)
        path = self.run_dir / "log.jsonl" if self.run_dir is not None and self.is_main else None
        self.log = StepLog(path, stepper.steps_done)

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
                try:
                    yield record
                finally:
                    self.log.append(record)
                stepper.seconds = time.perf_counter() - began
                due = stepper.steps_done % self.config.checkpoint_every_steps == 0
                if due or interrupted.is_set():
                    self.save(stepper)
                if interrupted.is_set():
                    raise InterruptedRunError(stepper.steps_done, self.run_dir)
        self.save(stepper)

    def save(self, stepper: Stepper) -> None:
        """Write a checkpoint, if the run has a folder and this is the main process."""
        if self.store is not None and self.is_main:
            self.store.save(stepper.state())
