"""What a run would do: steps, rows, memory and time, from one trial of the first step."""

from __future__ import annotations

import time
from dataclasses import astuple, replace

from dataunlearn.data import ImageSet
from dataunlearn.metrics.regeneration import quarter_timesteps
from dataunlearn.models.sampling import Drawing, generate
from dataunlearn.runtime.machine import peak_memory
from dataunlearn.training.engine import GradientEngine, trainable
from dataunlearn.training.two_gradients import PassCounts
from dataunlearn.unlearning.config import Unlearning
from dataunlearn.unlearning.job import Job
from dataunlearn.unlearning.preparing import prepared

MIB = 2**20
# Weights, two gradient buffers, the combined gradient and the optimizer's two moments, as float32.
BYTES_PER_PARAMETER = 6 * 4
BYTES_PER_COPIED_PARAMETER = 4
BYTES_PER_VALUE = 4
TRIED_PICTURES = 8
TRIED_CALLS = 2
TRIED_PAIRS = 128  # a step of more pairs is told from one of so many
TENSORS_A_ROW = 8  # of a sample's size: clean and noisy pictures, noise, targets, answers


def describe_plan(job: Job) -> str:
    """Describe a run without changing the model: the first step's gradients are taken once.

    Returns:
        Lines for the terminal.
    """
    config, training, model = job.config, job.training, job.model
    counts, seconds, memory = _try_first_step(job)
    lines = {
        "model": f"{model.source} ({model.num_parameters:,} parameters, "
        f"images {model.image_shape})",
        "trainable": f"{sum(param.numel() for param in trainable(model.denoiser)):,} parameters",
        "forget": _with_remarks(f"{_forget_words(job)}, {job.sources.forget}", job.split.forget),
        "keep": _with_remarks(f"{len(job.split.keep)} images, {job.sources.keep}", job.split.keep),
        "objective": f"{config.objective}",
        "combination": f"{job.combination}",
        "timesteps": f"{config.noise_levels}",
        "steps": f"{training.steps} of {training.batch_pairs} pairs = {counts.rows} rows",
        "micro-batch": f"{training.micro_batch_rows} rows at most",
        "passes": f"{counts.forward_rows} rows forward and {counts.backward_rows} backward a step",
        "learning rate": f"{training.learning_rate:.3g} ({training.schedule})",
        "copy threshold": f"pixel distance {job.threshold:.3g}",
        "memory": f"about {memory / MIB:,.0f} MiB on {model.device}",
        "time": f"about {training.steps * seconds:,.0f} s of training ({seconds:.2f} s a step) and "
        f"{_seconds_of_measuring(job):,.0f} s of measuring before and after",
        "output": f"{config.out}" if isinstance(config, Unlearning) else "kept in memory",
    }
    width = max(map(len, lines))
    return "\n".join(f"{name:<{width}}  {text}" for name, text in lines.items())


def _forget_words(job: Job) -> str:
    different, measured = len(set(job.split.forget.digests())), len(job.originals)
    words = f"{len(job.split.forget)} image(s), {different} of them different"
    return words if measured == different else f"{words} (the first {measured} are measured)"


def _with_remarks(words: str, images: ImageSet) -> str:
    return "; ".join([words, *images.remarks])


def _seconds_of_measuring(job: Job) -> float:
    """Seconds of all measurements, by drawing a few pictures twice."""
    model, settings = job.model, job.config.evaluation
    few = min(TRIED_PICTURES, settings.batch_size)
    for _ in range(2):  # the first draw pays for set-up
        started = time.perf_counter()
        generate(model, few, Drawing(num_steps=TRIED_CALLS, batch_size=few))
        seconds = (time.perf_counter() - started) / (few * TRIED_CALLS)
    levels = settings.regeneration_timesteps or quarter_timesteps(model.process)
    tries = max(settings.regeneration_copies, len(job.originals)) * len(levels)
    calls = settings.num_samples * settings.sampling_steps + tries * settings.regeneration_steps
    return calls * seconds * (2 if job.reference is None else 3)


def _try_first_step(job: Job) -> tuple[PassCounts, float, float]:
    """Passes, seconds and bytes of one step's gradients, by taking them twice for so many pairs."""
    pairs = job.config.batch_pairs
    tried = min(pairs, TRIED_PAIRS)
    counts, seconds, memory = _try_step(replace(job, config=replace(job.config, batch_pairs=tried)))
    times = pairs / tried
    counts = PassCounts(*(round(count * times) for count in astuple(counts)))
    held = (pairs - tried) * TENSORS_A_ROW * BYTES_PER_VALUE * job.originals[0].numel()
    return counts, seconds * times, memory + held


def _try_step(job: Job) -> tuple[PassCounts, float, float]:
    job = prepared(job, shown=False)
    model, forgetting = job.model, job.phases()[0]
    rows = forgetting.rows(model.process, 1)  # the first step asks the frozen model nothing
    engine = GradientEngine(job.training.micro_batch_rows, precision=job.training.precision)
    engine(model.denoiser, rows, frozen=model.denoiser)  # the first pass pays for set-up
    started = time.perf_counter()
    gradients = engine(model.denoiser, rows, frozen=model.denoiser)
    seconds = time.perf_counter() - started
    parameters = BYTES_PER_PARAMETER * model.num_parameters
    has_copy = forgetting.asks and job.config.lora is None  # an adapter is switched off instead
    config = job.config
    copies = has_copy + (config.saliency is not None) + 2 * (config.anchor is not None)
    copied = copies * BYTES_PER_COPIED_PARAMETER * model.num_parameters
    return gradients.counts, seconds, peak_memory(model.device) + parameters / 2 + copied
