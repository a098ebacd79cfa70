"""Experiment trackers that accelerate knows, for the time of a run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from accelerate import Accelerator

from dataunlearn.training.trainer import Callback, Trainer


@contextmanager
def tracked(
    accelerator: Accelerator | None, tracker: str | None, project: str = "dataunlearn"
) -> Iterator[None]:
    """Accelerate's trackers for the time of a run, if one is asked for."""
    if accelerator is None or tracker is None:
        yield
        return
    accelerator.init_trackers(project)
    try:
        yield
    finally:
        for each in accelerator.trackers:
            each.finish()
        accelerator.trackers.clear()


def tracker_callback(accelerator: Accelerator) -> Callback:
    """A callback that passes each step's numbers to accelerate's trackers."""

    def track(trainer: Trainer, steps_done: int) -> bool:
        numbers = {
            k: v for k, v in trainer.record.items() if isinstance(v, (int, float)) and k != "step"
        }
        accelerator.log(numbers, step=steps_done)
        return False

    return track
