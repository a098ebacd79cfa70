"""The measurement before, kept in the run's folder, so that a run that goes on need not draw it.

It lies beside the checkpoints and goes with them when the run has ended: it holds pictures that the
model restored. Numbers are counted anew from the pictures, which are kept as they were drawn.
"""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from dataunlearn.metrics.regeneration import counted
from dataunlearn.runtime.disk import writing
from dataunlearn.runtime.own_files import CHECKPOINTS
from dataunlearn.runtime.sealed import DamagedFileError, DamagedFileWarning
from dataunlearn.runtime.tensors import read_tensors, write_tensors
from dataunlearn.unlearning.config import Evaluation
from dataunlearn.unlearning.measuring import Measurement, judge

_RESTORED = "restored from "


def _file(run: Path) -> Path:
    return run / CHECKPOINTS / "before.safetensors"


def keep_measurement(run: Path, found: Measurement) -> None:
    """Keep what was drawn of the model before.

    Args:
        run: The run's folder.
        found: The measurement.

    Raises:
        DiskFullError: If the disk is full.
    """
    drawn = {"samples": found.samples, "others": found.others}
    drawn |= {f"{_RESTORED}{tried.timestep}": tried.images for tried in found.regenerations}
    file, size = _file(run), sum(each.numel() * each.element_size() for each in drawn.values())
    file.parent.mkdir(exist_ok=True)
    with writing("the measurement before", run, size):
        write_tensors(file, drawn)


def kept_measurement(
    run: Path, originals: Tensor, threshold: float, settings: Evaluation
) -> Measurement | None:
    """The measurement that an interrupted run in this folder took of the model before.

    Args:
        run: The run's folder; its settings and inputs are those of the run that goes on.
        originals: Forgotten images ``(K, C, H, W)`` in [-1, 1].
        threshold: Pixel distance below which an image counts as a copy.
        settings: How much was measured.

    Returns:
        The measurement; None if there is none or, with a warning, it is damaged.
    """
    file = _file(run)
    if not file.is_file():
        return None
    try:
        drawn = read_tensors(file)
        samples, others = drawn.pop("samples"), drawn.pop("others")
        there = sorted(int(name.removeprefix(_RESTORED)) for name in drawn)
        timesteps = settings.regeneration_timesteps or there
        restored = {t: drawn[f"{_RESTORED}{t}"] for t in timesteps}
    except (DamagedFileError, KeyError, ValueError):
        warnings.warn(
            f"{file} is damaged: the model before is measured anew.",
            DamagedFileWarning,
            stacklevel=2,
        )
        return None
    tries = [counted(restored[t], originals, t, threshold) for t in timesteps]
    return replace(judge(samples, tries, originals, threshold, settings), others=others)
