"""The accelerator of a verb.

A file of its own because the command's parser runs the ``TYPE_CHECKING`` imports of every file that
it reads options from.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from dataunlearn.runtime.checks import require

if TYPE_CHECKING:
    from accelerate import Accelerator


def make_accelerator(
    device: str | None, tracker: str | None = None, out: Path | None = None
) -> Accelerator:
    """Processes and device of this run.

    Raises:
        ValueError: If the device is not there, or the tracker's package is not installed.
    """
    from accelerate import Accelerator
    from accelerate.tracking import get_available_trackers
    from accelerate.utils import InitProcessGroupKwargs

    from dataunlearn.models.loading import best_device, check_device

    trackers = [str(name) for name in get_available_trackers()]
    if tracker is not None and tracker not in trackers:
        raise ValueError(
            f"no tracker {tracker!r} here; installed: {', '.join(trackers) or 'none'}. "
            "pip install 'dataunlearn[trackers]' brings tensorboard; wandb, trackio and others are "
            "packages of their own"
        )

    if device is not None:
        require(
            ":" not in device,
            f"--device takes cpu, cuda or mps, not {device}; CUDA_VISIBLE_DEVICES in the "
            "environment chooses one of several GPUs",
        )
        check_device(device)
    cpu = (device or best_device()) == "cpu"
    patience = InitProcessGroupKwargs(timeout=timedelta(hours=6))  # the main process measures
    return Accelerator(
        cpu=cpu,
        mixed_precision="no",
        log_with=tracker,
        project_dir=str(out) if out is not None else None,
        kwargs_handlers=[patience],
    )
