"""Unlearn what prompts have memorised: label samples, forget memorised ones, measure, report."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from dataunlearn.metrics.embedders import Embedder, RememberingEmbedder, embedder_for, open_embedder
from dataunlearn.models import DiffusionModel, save_model
from dataunlearn.models.base import set_guidance
from dataunlearn.models.identity import describe_model
from dataunlearn.models.latents import TextSpace
from dataunlearn.models.loading import ModelSource
from dataunlearn.models.saving import hash_weights
from dataunlearn.prompts.begun import require_same
from dataunlearn.prompts.config import PromptUnlearning
from dataunlearn.prompts.facts import collect, results_of, training_facts
from dataunlearn.prompts.measuring import (
    PromptRun,
    measure_prompts,
    unnamed_samples,
)
from dataunlearn.prompts.modified_prompts import find_modified
from dataunlearn.prompts.prompt_file import read_prompt_file
from dataunlearn.prompts.report import write_report
from dataunlearn.prompts.sample_cache import SampleCache
from dataunlearn.prompts.samples import LabelledPrompt, label_prompts
from dataunlearn.prompts.training import make_job, prior_set, split_prompts, train
from dataunlearn.runtime.files import write_sealed
from dataunlearn.runtime.own_files import CHECKPOINTS
from dataunlearn.runtime.run_folder import RunFolder, check_run_dir, run_folder
from dataunlearn.runtime.settings import describe
from dataunlearn.runtime.streams import YARDSTICK_STREAM
from dataunlearn.unlearning.reference import open_reference
from dataunlearn.unlearning.run import finish_lora, say_what_happened
from dataunlearn.unlearning.tracking import tracked

FACTS_FILE = "report.json"
# Where inputs lie; prompts and samples are known by what `drawn.json` and `inputs.json` say.
PLACES = ("model", "prompts", "prior", "unnamed", "clip_iqa", "unlearning.reference")
# What may change between a call that labels and the one that goes on.
FREE = ("out", "stop_after", "device", "batch_size", "before")
Say = Callable[[str], None]


@dataclass
class Clock:
    """Wall-clock seconds of a run's parts."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def running(self, part: str) -> Iterator[None]:
        """Add the time that the block takes to a part's."""
        started = time.perf_counter()
        yield
        self.seconds[part] = self.seconds.get(part, 0.0) + time.perf_counter() - started


def unlearn_prompts(
    config: PromptUnlearning,
    *,
    accelerator: Accelerator | None = None,
    say: Say,
    overwrite: bool = False,
    shown: bool = True,
) -> dict[str, Any] | None:
    """Run the whole workflow; a second call goes on where the first one stopped.

    Args:
        config: The settings.
        accelerator: Device; None takes the CPU.
        say: Where lines for a person go.
        overwrite: Replace what ``out`` holds.
        shown: Whether to draw progress.

    Returns:
        The facts of the report; None if it was to stop after the labels.

    Raises:
        ValueError: On anything that cannot be used; or if no prompt has memorised samples.
    """
    places = {name: getattr(config, name) for name in PLACES if "." not in name}
    places["reference"] = config.settings.reference
    check_run_dir(config.out, overwrite=overwrite, inputs=places)
    check_prompt_files(config, say)
    if config.embedder != "auto":
        open_embedder(config.embedder)  # one that is not there is told before anything is done
    device = accelerator.device if accelerator is not None else torch.device("cpu")
    model = open_model(config, device)
    reference = opened_reference(config, model)
    content = {"reference": None if reference is None else describe_model(reference)}
    settings = {k: v for k, v in describe(config).items() if k not in FREE}
    holding = run_folder(
        config.out,
        settings,
        overwrite=overwrite,
        declared=config,
        content=content,
        places=PLACES,
    )
    with holding as run:
        course = _Course(replace(config, out=run.folder), run, accelerator, say, shown)
        prompts, cache = course.labelled(model)
        if config.stop_after == "labels":
            return None
        return course.unlearned(model, prompts, cache, reference)


@dataclass(frozen=True, eq=False)
class _Course:
    """A workflow that has its folder; ``config.out`` is where it writes."""

    config: PromptUnlearning
    place: RunFolder
    accelerator: Accelerator | None
    say: Say
    shown: bool

    def labelled(self, model: DiffusionModel) -> tuple[Sequence[LabelledPrompt], SampleCache]:
        """All prompts with their labelled samples, and where further samples are kept."""
        config, say, shown = self.config, self.say, self.shown
        prompts = label_prompts(model, config, say, shown=shown)
        cache = SampleCache.of(model, config, hash_weights(model))
        found = find_modified(model, prompts, config, cache, shown=shown)
        for prompt in found:
            share, verdict = prompt.labelling.share, prompt.labelling.verdict
            say(f"{prompt.name}: {share:.0%} of {len(prompt.images)} samples memorised ({verdict})")
        return found, cache

    def unlearned(
        self,
        model: DiffusionModel,
        prompts: Sequence[LabelledPrompt],
        cache: SampleCache,
        reference: DiffusionModel | None,
    ) -> dict[str, Any]:
        """The facts of all runs, written down."""
        config, place = self.config, self.place
        named = [prompt for prompt in prompts if prompt.labelling.labels.any()]
        if not named:
            raise ValueError("no prompt has memorised samples: there is nothing to unlearn")
        embedder = opened_embedder(model, config, self.say)
        around = Surroundings(
            config, place, self.accelerator, embedder, reference, cache, self.say, self.shown
        )
        runs: list[PromptRun] = []
        for name, group in groups(named, config):
            if runs:
                model = open_model(config, model.device)
            runs.append(unlearn_group(model, group, name, around))
        facts = collect(replace(config, out=place.out), prompts, runs, model)
        write_sealed(config.out / FACTS_FILE, facts)
        write_report(config, prompts, runs, facts)
        for name, _ in groups(named, config):
            shutil.rmtree(config.out / name / CHECKPOINTS, ignore_errors=True)
        place.finish()
        return facts


def check_prompt_files(config: PromptUnlearning, say: Say) -> None:
    """Read all files of prompts, before a model is loaded, and say how many they hold.

    Raises:
        ValueError: If one cannot be used.
    """
    given = (config.prompts, config.prior, config.unnamed)
    for file in given:
        if file is not None and not file.is_dir():
            read_prompt_file(file, say)


def open_model(config: PromptUnlearning, device: torch.device) -> DiffusionModel:
    """The model before unlearning, in eval mode.

    Raises:
        ValueError: If it is no text-to-image model.
    """
    source = ModelSource(config.model, image_size=config.image_size)
    model = source.open(device)
    if not isinstance(model.space, TextSpace):
        raise ValueError(f"{config.model} takes no prompts: use dataunlearn unlearn for it")
    set_guidance(model, config.guidance)
    return model


def groups(
    prompts: Sequence[LabelledPrompt], config: PromptUnlearning
) -> list[tuple[str, Sequence[LabelledPrompt]]]:
    """The runs that there are to be, with the names of their folders."""
    if not config.one_run_each:
        return [("run", prompts)]
    return [(f"runs/{prompt.data.name}", [prompt]) for prompt in prompts]


@dataclass(frozen=True, eq=False)
class Surroundings:
    """What every run of a workflow shares: settings, tools, and how to talk to a person."""

    config: PromptUnlearning
    place: RunFolder
    accelerator: Accelerator | None
    embedder: Embedder | None
    reference: DiffusionModel | None
    cache: SampleCache
    say: Say
    shown: bool


def unlearn_group(
    model: DiffusionModel, prompts: Sequence[LabelledPrompt], name: str, around: Surroundings
) -> PromptRun:
    """Measure, unlearn some prompts, measure again, save the model; ``model`` is changed."""
    config, embedder, cache, shown = around.config, around.embedder, around.cache, around.shown
    out, hash_before, clock = config.out / name, hash_weights(model), Clock()
    sets = split_prompts(model, prompts, config, cache, shown=shown)
    measure = partial(measure_prompts, model, prompts, config, embedder=embedder, shown=shown)
    before = measure(label="before", cache=cache)
    again = unnamed_samples(model, config, YARDSTICK_STREAM, cache=cache, shown=shown)
    prior = prior_set(model, config, cache, shown=shown)
    require_same(out, hash_before, {"forget": sets.forget, "keep": sets.keep, "prior": prior})
    job = make_job(model, sets, config)
    reference = None
    if around.reference is not None:
        reference = measure_prompts(
            around.reference, prompts, config, label="reference", embedder=embedder, shown=shown
        )
    with (
        clock.running("unlearning"),
        tracked(around.accelerator, job.config.tracker, project_of(out, config)),
    ):
        trainer = train(
            job, prompts, config, prior, out, accelerator=around.accelerator, shown=shown
        )
    say_what_happened(trainer, around.say)
    if job.config.lora is not None:
        finish_lora(job, out)
    with clock.running("measuring"):
        after = measure(label="after")
    save_model(model, out / "model", getattr(torch, job.config.save_dtype))
    path = str(around.place.out / name / "model")
    facts = {
        "prompts": [prompt.data.name for prompt in prompts],
        "model": {"before": hash_before, "after": hash_weights(model), "path": path},
        **training_facts(job, trainer),
        "seconds": clock.seconds,
        "results": results_of(before, after, again, embedder),
        "reference": None if reference is None else reference.as_json(),
    }
    return PromptRun(prompts, before, after, facts)


def opened_reference(config: PromptUnlearning, model: DiffusionModel) -> DiffusionModel | None:
    """The model that never saw the pictures, if there is one.

    Raises:
        ValueError: If it cannot be opened, or does not fit the model.
    """
    source = config.settings.reference
    return None if source is None else open_reference(source, model, config.image_size).opened


def project_of(out: Path, config: PromptUnlearning) -> str:
    """What an experiment tracker calls a run."""
    return f"dataunlearn-{out.name}" if config.one_run_each else "dataunlearn"


def opened_embedder(model: DiffusionModel, config: PromptUnlearning, say: Say) -> Embedder | None:
    """What samples are compared with; None, and a line that says so, if the usual one is not there.

    Raises:
        ValueError: If one was named and is not there.
    """
    try:
        found = embedder_for(model.image_shape, config.embedder, device=model.device)
    except ValueError as error:
        if config.embedder != "auto":
            raise
        say(
            f"Similarity to the memorised pictures, and similarity and KID of other prompts, are "
            f"left out: {error}"
        )
        return None
    return RememberingEmbedder(found)
