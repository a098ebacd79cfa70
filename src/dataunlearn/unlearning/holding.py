"""The folder of an unlearning run: held while it runs, known by what its inputs are."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from dataunlearn.data.content import describe_images
from dataunlearn.models.identity import describe_model
from dataunlearn.runtime.progress import Say
from dataunlearn.runtime.run_folder import RunFolder, RunState, only_main, run_folder
from dataunlearn.unlearning.config import without_run_place
from dataunlearn.unlearning.generated_keep import generated_count
from dataunlearn.unlearning.job import Job
from dataunlearn.unlearning.reference import Reference

PLACES = ("model", "forget", "reference", "scheduler", "forget_digests", "num_train")


@contextmanager
def held(
    job: Job,
    out: Path | None,
    say: Say,
    accelerator: Accelerator | None,
    *,
    overwrite: bool,
    hash_before: str,
) -> Iterator[RunFolder | None]:
    """Hold a run's folder on the main process, and say if it goes on with an unfinished run.

    Args:
        job: The run.
        out: Its folder; None keeps nothing.
        say: Where lines for a person go.
        accelerator: Processes; the others wait until the main one has the folder.
        overwrite: Replace the run that it holds.
        hash_before: Hash of the model's weights.

    Raises:
        ValueError: If the folder cannot be had.
    """
    if out is None:
        yield None
        return
    content = content_of(job, hash_before)
    holding = run_folder(
        out,
        run_settings(job),
        overwrite=overwrite,
        declared=job.config,
        content=content,
        places=(*PLACES, "keep") if "keep" in content else PLACES,
    )
    with only_main(holding, out, accelerator) as run:
        is_main = accelerator is None or accelerator.is_main_process
        if is_main and run.state is RunState.UNFINISHED:
            say(f"{run.folder} holds an unfinished run with these settings: going on from there.")
        yield run


def run_settings(job: Job) -> dict[str, Any]:
    """The settings that a run is known by, with what versions before knew of its inputs."""
    forget = job.split.forget
    return without_run_place(job.settings) | {
        "forget_digests": sorted(set(forget.digests())),
        "num_train": job.split.num_train,
    }


def content_of(job: Job, hash_before: str) -> dict[str, Any]:
    """What a run's inputs are, wherever they lie. The model's own samples follow from the model."""
    content = {
        "model": describe_model(job.model, hash_before),
        "forget": describe_images(job.split.forget),
        "reference": None if job.reference is None else describe_reference(job.reference),
    }
    if generated_count(job.sources.keep) is None:
        content["keep"] = describe_images(job.split.keep)
    return content


def describe_reference(reference: Reference) -> dict[str, Any]:
    """What a reference is: a model, or numbers."""
    if reference.model is not None:
        return describe_model(reference.model)
    numbers = json.dumps(reference.numbers, sort_keys=True)
    return {"sha256": hashlib.sha256(numbers.encode()).hexdigest()}
