"""The training half of the workflow: forget memorised samples, keep the others of each prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from accelerate import Accelerator
from torch import Tensor

from dataunlearn.data import ArrayImages, ConcatImages, ImageSet
from dataunlearn.data.pixels import to_uint8
from dataunlearn.data.prompt import Prompt
from dataunlearn.models import DiffusionModel
from dataunlearn.objectives import NaiveDeletion
from dataunlearn.prompts.config import PromptUnlearning
from dataunlearn.prompts.keep_side import KeepSide
from dataunlearn.prompts.modified_prompts import modified_prompt
from dataunlearn.prompts.prompt_file import read_prompt_file
from dataunlearn.prompts.sample_cache import SampleCache, draw_once
from dataunlearn.prompts.samples import LabelledPrompt
from dataunlearn.prompts.stopping import prompt_stop_callback
from dataunlearn.runtime.progress import progress_bar
from dataunlearn.runtime.streams import PRIOR_STREAM
from dataunlearn.training.phase import StepPart
from dataunlearn.training.trainer import Trainer
from dataunlearn.unlearning.job import Job, check_job, set_up_model
from dataunlearn.unlearning.run import make_trainer
from dataunlearn.unlearning.sources import Sources


@dataclass(frozen=True, eq=False)
class PromptSets:
    """The two sides of an unlearning run, captioned with what they are unlearned with."""

    forget: ImageSet
    keep: ImageSet


def prompt_to_unlearn(prompt: LabelledPrompt, config: PromptUnlearning) -> Prompt:
    """What a prompt's pictures are unlearned with: its text, or its modified prompt.

    Raises:
        ValueError: If the modified prompt is asked for, and there is none.
    """
    if config.condition_on == "original":
        return prompt.data.prompt
    modified = modified_prompt(prompt)
    if modified is None:
        raise ValueError(
            f"prompt {prompt.name} has no modified prompt to condition on: give one"
            " or leave out --optimise never"
        )
    return modified


def split_prompts(
    model: DiffusionModel,
    prompts: Sequence[LabelledPrompt],
    config: PromptUnlearning,
    cache: SampleCache,
    *,
    shown: bool = True,
) -> PromptSets:
    """Memorised samples against the others, for prompts that have memorised ones.

    Where most samples of a prompt are memorised, further ones are drawn to keep.

    Raises:
        ValueError: If a prompt then still has nothing to keep.
    """
    keeping, forget, keep = KeepSide(model, config, cache, shown), [], []
    for prompt in prompts:
        caption = prompt_to_unlearn(prompt, config)
        others = keeping.of(prompt, modified_prompt(prompt))
        memorised = prompt.images[prompt.labelling.labels]
        forget.append(captioned(memorised, [caption], f"{prompt.name} memorised"))
        keep.append(captioned(others, [caption], f"{prompt.name} other"))
    return PromptSets(ConcatImages(forget), ConcatImages(keep))


def captioned(images: Tensor, prompts: Sequence[Prompt], source: str) -> ArrayImages:
    """Pictures ``(N, C, H, W)`` in [-1, 1] as a set, captioned with the prompts in turn."""
    pixels = np.ascontiguousarray(np.moveaxis(to_uint8(images), 3, 1))
    captions = [prompts[index % len(prompts)] for index in range(len(images))]
    return ArrayImages(pixels, source=source, captions=captions)


def prior_set(
    model: DiffusionModel, config: PromptUnlearning, cache: SampleCache, *, shown: bool
) -> ImageSet | None:
    """Samples of the prompts that are to stay as they are, or None."""
    if config.prior is None:
        return None
    texts = [spec.prompt for spec in read_prompt_file(config.prior)]
    total = config.prior_images * len(texts)
    with progress_bar("drawing what stays", total, shown=shown) as advance:
        place = (total, PRIOR_STREAM)
        samples = draw_once(cache, model, config, texts, *place, progress=advance)
    return captioned(samples, texts, "prior")


def make_job(model: DiffusionModel, sets: PromptSets, config: PromptUnlearning) -> Job:
    """The unlearning run of some prompts, checked.

    Raises:
        ValueError: If settings and samples do not fit each other.
    """
    settings = config.settings
    set_up_model(model, settings)
    sources = Sources("memorised samples", "other samples")
    return check_job(settings, model, sets.forget, sets.keep, sources)


def train(
    job: Job,
    prompts: Sequence[LabelledPrompt],
    config: PromptUnlearning,
    prior: ImageSet | None,
    out: Path,
    *,
    accelerator: Accelerator | None = None,
    shown: bool = True,
) -> Trainer:
    """Run the job's steps, with the prior's pictures on the keep side; resumable.

    Once no prompt gives a memorised sample the rest of the steps goes to the keep side alone.

    Returns:
        The trainer, done.
    """
    extra = []
    if prior is not None:
        extra = [StepPart(job.keep_sampler(prior), NaiveDeletion(), config.prior_share)]
    trainer = make_trainer(
        job,
        out,
        accelerator,
        extra_parts=extra,
        stop=prompt_stop_callback(prompts, config, job.config.stop, job.config.seed),
        shown=shown,
    )
    trainer.run()
    trainer.use_average()
    return trainer
