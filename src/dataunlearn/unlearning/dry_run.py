"""What a run would do: steps, rows, memory and time, from one trial of the first step."""

from __future__ import annotations

import math
import time
from dataclasses import astuple, dataclass, replace

from dataunlearn.data import ImageSet
from dataunlearn.metrics.regeneration import quarter_timesteps
from dataunlearn.models.compiling import compiled
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


@dataclass(frozen=True)
class Trial:
    """What trying a step came to.

    Attributes:
        counts: Its passes.
        seconds: How long its gradients take.
        memory: Bytes.
        compiling: Seconds of its first time compiled; None where it is not.
        compiled_seconds: Seconds from then on.
    """

    counts: PassCounts
    seconds: float
    memory: float
    compiling: float | None = None
    compiled_seconds: float = 0.0

    @property
    def words(self) -> str:
        """Seconds a step, and from how many steps on compiling pays."""
        if self.compiling is None:
            return f"{self.seconds:.2f} s a step"
        saved, rate = self.seconds - self.compiled_seconds, f"{self.compiled_seconds:.2f} s a step"
        before = (
            f"{rate} compiled, {self.seconds:.2f} s as it is, {self.compiling:.0f} s to compile"
        )
        if saved <= 0:
            return f"{before}: leave out --compile"
        pays = math.ceil((self.compiling - self.compiled_seconds) / saved)
        return f"{before}, which pays from {pays:,} steps on"

    def total(self, steps: int) -> float:
        """Seconds of so many steps."""
        if self.compiling is None:
            return steps * self.seconds
        return self.compiling + (steps - 1) * self.compiled_seconds


def describe_plan(job: Job) -> str:
    """Describe a run without changing the model: the first step's gradients are taken once.

    Returns:
        Lines for the terminal.
    """
    config, training, model = job.config, job.training, job.model
    trial = _try_first_step(job)
    counts = trial.counts
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
        "memory": f"about {trial.memory / MIB:,.0f} MiB on {model.device}",
        "time": f"about {trial.total(training.steps):,.0f} s of training ({trial.words}) and "
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


def _try_first_step(job: Job) -> Trial:
    """One step's gradients, tried for so many pairs."""
    pairs = job.config.batch_pairs
    tried = min(pairs, TRIED_PAIRS)
    trial = _try_step(replace(job, config=replace(job.config, batch_pairs=tried)))
    times = pairs / tried
    held = (pairs - tried) * TENSORS_A_ROW * BYTES_PER_VALUE * job.originals[0].numel()
    return Trial(
        PassCounts(*(round(count * times) for count in astuple(trial.counts))),
        trial.seconds * times,
        trial.memory + held,
        trial.compiling,
        trial.compiled_seconds * times,
    )


def _try_step(job: Job) -> Trial:
    job = prepared(job, shown=False)
    model, forgetting = job.model, job.phases()[0]
    rows = forgetting.rows(model.process, 1)  # the first step asks the frozen model nothing
    engine = GradientEngine(job.training.micro_batch_rows, precision=job.training.precision)

    def seconds_of_a_step() -> float:
        started = time.perf_counter()
        engine(model.denoiser, rows, frozen=model.denoiser)
        return time.perf_counter() - started

    counts = engine(model.denoiser, rows, frozen=model.denoiser).counts  # pays for set-up
    besides = _bytes_besides(job, asks=forgetting.asks)
    trial = Trial(counts, seconds_of_a_step(), peak_memory(model.device) + besides)
    if not job.training.compile:
        return trial
    with compiled([model.denoiser]):
        compiling, seconds = seconds_of_a_step(), seconds_of_a_step()
    return replace(trial, compiling=compiling, compiled_seconds=seconds)


def _bytes_besides(job: Job, *, asks: bool) -> float:
    """What a run holds that trying its gradients does not show."""
    config, size = job.config, job.model.num_parameters
    copied = asks and config.lora is None  # an adapter is switched off instead
    frozen = copied / 2 if job.training.precision == "bfloat16" else copied
    copies = frozen + (config.saliency is not None) + 2 * (config.anchor is not None)
    return BYTES_PER_PARAMETER * size / 2 + copies * BYTES_PER_COPIED_PARAMETER * size
