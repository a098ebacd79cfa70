"""The facts of a run, as ``report.json`` and ``images.npz`` hold them."""

from __future__ import annotations

import shlex
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dataunlearn.data.pixels import to_uint8
from dataunlearn.report.run_files import write_report
from dataunlearn.runtime.files import file_hash, save_arrays, write_sealed
from dataunlearn.runtime.machine import machine, peak_memory, versions
from dataunlearn.runtime.settings import describe
from dataunlearn.unlearning.job import Job
from dataunlearn.unlearning.judging import Judgement
from dataunlearn.unlearning.measuring import Measurement

NUM_SHOWN_SAMPLES = 64
NUM_SHOWN_REGENERATIONS = 16


@dataclass
class Timing:
    """Wall-clock seconds of a run's parts.

    Attributes:
        started: When this call of the command began.
        unlearn_seconds: Training, that before a resume included.
        measure_seconds: Measuring.
        earlier_seconds: The part of the training before a resume.
    """

    started: float = field(default_factory=time.perf_counter)
    unlearn_seconds: float = 0.0
    measure_seconds: float = 0.0
    earlier_seconds: float = 0.0


@dataclass(frozen=True, eq=False)
class Course:
    """How the training went.

    Attributes:
        log: One record per step.
        settled_after: Steps after which the model settled, if it did.
        went_back_to: The step whose weights the model has, if not those of the last one.
        forgot_to_the_end: Whether it settled on both sides; else on the keep images alone.
    """

    log: list[dict[str, Any]]
    settled_after: int | None
    went_back_to: int | None
    forgot_to_the_end: bool = False


@dataclass(frozen=True, eq=False)
class RunFacts:
    """Everything a report is made from."""

    job: Job
    before: Measurement
    after: Measurement
    timing: Timing
    hash_before: str
    hash_after: str
    course: Course
    judgement: Judgement
    reference: dict[str, Any] | None = None

    @cached_property
    def content(self) -> dict[str, Any]:
        """The content of ``report.json``, as of the first time that it is asked for."""
        job, config, judgement = self.job, self.job.config, self.judgement
        return {
            "schema": 1,
            "title": title(job),
            "verdict": judgement.verdict.as_json(),
            "seconds": self.timing.earlier_seconds + time.perf_counter() - self.timing.started,
            "unlearn_seconds": self.timing.unlearn_seconds,
            "measure_seconds": self.timing.measure_seconds,
            "peak_memory_bytes": peak_memory(job.model.device),
            "forget": forget_facts(job),
            "keep": {"count": len(job.split.keep), "source": job.sources.keep},
            "method": self.method,
            "settings": job.settings | {"training": describe(job.training)},
            "seeds": {"training": config.seed, "evaluation": config.evaluation.seed},
            "versions": versions(),
            "machine": machine(job.model.device),
            "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
            "model": {
                "before": {"path": job.model.source, "sha256": self.hash_before},
                "after": {"path": "model", "sha256": self.hash_after},
            },
            "threshold": job.threshold,
            "recognition": recognition_facts(job),
            "before": self.before.numbers | judgement.over_level_numbers("before"),
            "after": self.after.numbers | judgement.over_level_numbers("after"),
            "reference": None
            if self.reference is None
            else self.reference | judgement.over_level_numbers("reference"),
            "quality_change": judgement.quality_numbers(),
        }

    @property
    def method(self) -> dict[str, Any]:
        """How it was done."""
        job, config = self.job, self.job.config
        return {
            "objective": str(config.objective),
            "combination": str(job.combination),
            "steps": len(self.course.log),
            "settled_after": self.course.settled_after,
            "forgot_to_the_end": self.course.forgot_to_the_end,
            "went_back_to": self.course.went_back_to,
            "keep_towards": "predictions" if config.keeps_predictions else "data",
            "batch_pairs": job.training.batch_pairs,
            "learning_rate": job.training.learning_rate,
            "timesteps": str(config.noise_levels),
            "seed": config.seed,
        }

    def images(self) -> dict[str, NDArray[np.uint8]]:
        """The content of ``images.npz``: uint8 ``(N, H, W, C)`` each."""
        shown = {"forget": to_uint8(self.job.originals)}
        for when, found in (("before", self.before), ("after", self.after)):
            shown[f"{when}_samples"] = to_uint8(found.samples[:NUM_SHOWN_SAMPLES])
            if len(found.others):
                shown[f"{when}_others"] = to_uint8(found.others[:NUM_SHOWN_SAMPLES])
            for regeneration in found.regenerations:
                images = regeneration.images[:NUM_SHOWN_REGENERATIONS]
                shown[f"{when}_regeneration_{regeneration.timestep}"] = to_uint8(images)
        return shown


def write_facts(facts: RunFacts, out: Path) -> None:
    """Write ``report.json``, ``images.npz`` and ``report.html``, each whole or not at all."""
    save_arrays(out / "images.npz", **facts.images())
    write_sealed(out / "report.json", facts.content)
    write_report(out)


def forget_facts(job: Job) -> dict[str, Any]:
    """Names and hashes of the forget images, each different picture once.

    A picture's digest is over its pixels, at the model's size; its file, if it has one of its own,
    has another.
    """
    forget = job.split.forget
    first: dict[str, str] = {}
    for index in range(len(forget)):
        first.setdefault(forget.digest(index), forget.name(index))
    paths = [Path(name) for name in first.values()]
    return {
        "count": len(forget),
        "names": [path.name for path in paths],
        "file_sha256": [file_hash(path) if path.is_file() else None for path in paths],
        "digests": list(first),
    }


def recognition_facts(job: Job) -> dict[str, Any]:
    """How far the model knew each different forget image, and through which views it was asked."""
    levels = job.levels
    assert levels is not None
    return {
        "timesteps": list(levels.timesteps),
        "before": levels.before.mean(2).tolist(),
        "level": levels.level.mean(2).tolist(),
        "recognition": levels.recognition.tolist(),
        "views": levels.names,
        "unfamiliar": levels.unfamiliar.tolist(),
        "mixed_with_keep": (levels.keep_weight > 0).tolist(),
        "asked_without_prompt": levels.asks_other,
    }


def title(job: Job) -> str:
    """A line that says what was done."""
    if job.sources.title is not None:
        return job.sources.title
    names = Counter(short_name(job.split.forget.name(i)) for i in range(len(job.split.forget)))
    what = next(iter(names)) if len(names) == 1 else f"{len(names)} pictures"
    return f"Removing {what} from {Path(job.model.source).name}"


def short_name(name: str) -> str:
    """What to call a picture: its file's name without suffix, of an archive its place there too."""
    file = Path(name)
    return file.name if ":" in file.name or "[" in file.name else file.stem
