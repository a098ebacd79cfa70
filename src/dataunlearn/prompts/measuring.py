"""What is measured of a model before and after its prompts are unlearned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dataunlearn.data.prompt import Prompt
from dataunlearn.metrics.clip_iqa import clip_iqa, open_clip_iqa
from dataunlearn.metrics.embedders import Embedder
from dataunlearn.metrics.intervals import mean_interval
from dataunlearn.metrics.prompt_memory import memorised_share, mitigated_share
from dataunlearn.metrics.result import Result
from dataunlearn.metrics.similarity import similarities
from dataunlearn.metrics.text_noise import text_noise_norms
from dataunlearn.models import DiffusionModel
from dataunlearn.prompts.config import PromptUnlearning
from dataunlearn.prompts.labels import predict
from dataunlearn.prompts.modified_prompts import modified_prompt
from dataunlearn.prompts.prompt_file import read_prompt_file
from dataunlearn.prompts.sample_cache import SampleCache, draw_once
from dataunlearn.prompts.samples import LabelledPrompt
from dataunlearn.runtime.progress import progress_bar
from dataunlearn.runtime.streams import FRESH_STREAM, TEXT_NOISE_STREAM, UNNAMED_STREAM

PUBLISHED_SAMPLES = 8
NOISE_DRAWS, NOISE_STEPS = 4, 10


@dataclass(frozen=True, eq=False)
class PromptMeasurement:
    """A model's fresh samples of every prompt, and what they show.

    Attributes:
        samples: By kind ("original", "modified"), samples ``(P, S, C, H, W)`` in [-1, 1] of the
            prompts that have one of that kind.
        results: By name; of those that count prompts, ``per_item`` is in the order of the prompts.
        unnamed: Samples ``(N, C, H, W)`` of prompts that were not named; empty without any.
    """

    samples: Mapping[str, Tensor]
    results: Mapping[str, Result]
    unnamed: Tensor

    def as_json(self) -> dict[str, Any]:
        """JSON values of the results."""
        return {name: result.as_json() for name, result in self.results.items()}


def measure_prompts(
    model: DiffusionModel,
    prompts: Sequence[LabelledPrompt],
    config: PromptUnlearning,
    *,
    label: str,
    cache: SampleCache | None = None,
    embedder: Embedder | None = None,
    shown: bool = True,
) -> PromptMeasurement:
    """Draw fresh samples and judge them.

    The samples of a prompt depend on its place and the seed alone, so those before and after
    unlearning can be compared one by one.

    Args:
        model: The model, in eval mode.
        prompts: The prompts with their labelled samples, which judge fresh ones.
        config: How many samples, and of what else.
        label: Label of the progress bar.
        cache: The model's samples, if they are kept, so that each is drawn once.
        embedder: Compares samples with what was memorised; None leaves that out.
        shown: Whether to draw progress.
    """
    kinds = asked_for(prompts)
    samples, results = {}, {}
    for kind, texts in kinds.items():
        title = f"{label}, {kind} prompts"
        drawn = fresh_samples(model, texts, config, label=title, cache=cache, shown=shown)
        found = [prompt for prompt, text in zip(prompts, texts, strict=True) if text is not None]
        samples[kind] = drawn
        for result in judged(found, drawn, embedder):
            results[f"{kind}_{result.name}"] = result
    results["text_noise"] = text_noise(model, [prompt.data.prompt for prompt in prompts])
    if config.clip_iqa is not None:
        judge = open_clip_iqa(config.clip_iqa, model.device)
        results["clip_iqa"] = clip_iqa(samples["original"].flatten(0, 1), judge)
    unnamed = unnamed_samples(model, config, UNNAMED_STREAM, cache=cache, shown=shown)
    return PromptMeasurement(samples, results, unnamed)


def asked_for(prompts: Sequence[LabelledPrompt]) -> dict[str, list[Prompt | None]]:
    """The prompts of each kind; modified ones only where there are any."""
    kinds: dict[str, list[Prompt | None]] = {"original": [each.data.prompt for each in prompts]}
    modified = [modified_prompt(prompt) for prompt in prompts]
    if any(prompt is not None for prompt in modified):
        kinds["modified"] = modified
    return kinds


def fresh_samples(
    model: DiffusionModel,
    texts: Sequence[Prompt | None],
    config: PromptUnlearning,
    *,
    label: str,
    cache: SampleCache | None = None,
    shown: bool,
) -> Tensor:
    """Fresh samples ``(P, S, C, H, W)`` of the texts that are not None."""
    given, count = [text for text in texts if text is not None], config.fresh_samples
    drawn = []
    with progress_bar(label, count * len(given), shown=shown) as advance:
        for number, text in enumerate(given):
            place = (count, FRESH_STREAM, number)
            drawn.append(draw_once(cache, model, config, [text], *place, progress=advance))
    return torch.stack(drawn)


def judged(
    prompts: Sequence[LabelledPrompt], samples: Tensor, embedder: Embedder | None
) -> list[Result]:
    """Share of memorised samples, share of prompts that give none, similarity to the memorised.

    Args:
        prompts: P prompts; their labels say what is memorised.
        samples: ``(P, S, C, H, W)``.
        embedder: None leaves the similarity out.
    """
    found = torch.stack(
        [predict(p.labelling, drawn) for p, drawn in zip(prompts, samples, strict=True)]
    )
    counts = sorted({min(PUBLISHED_SAMPLES, found.shape[1]), found.shape[1]})
    return [
        memorised_share(found, name="memorised_fraction"),
        *(mitigated_share(found, num_samples=count) for count in counts),
        *([] if embedder is None else [similarity_to_memorised(prompts, samples, embedder)]),
    ]


def similarity_to_memorised(
    prompts: Sequence[LabelledPrompt], samples: Tensor, embedder: Embedder
) -> Result:
    """Mean cosine similarity of a prompt's samples to its memorised picture, over prompts.

    That is the training image, or where it is not at hand the most typical memorised sample.
    """
    found = [
        similarities(embedder, drawn, memorised_picture(prompt)[None]).mean()
        for prompt, drawn in zip(prompts, samples, strict=True)
    ]
    items = torch.stack(found)
    settings = {**embedder.settings, "num_samples": samples.shape[1]}
    interval = mean_interval(items.numpy())
    return Result("copy_similarity", float(items.mean()), interval, False, settings, items)


def memorised_picture(prompt: LabelledPrompt) -> Tensor:
    """What a prompt has memorised ``(C, H, W)``, as near as it is known."""
    if prompt.original is not None:
        return prompt.original
    memorised = prompt.images[prompt.labelling.labels]
    away = (memorised - memorised.mean(dim=0)).flatten(1).norm(dim=1)
    return memorised[int(away.argmin())]


def text_noise(model: DiffusionModel, texts: Sequence[str]) -> Result:
    """Text-noise norm at the first step, mean over prompts; those of later steps in settings."""
    norms = text_noise_norms(
        model, texts, num_steps=NOISE_STEPS, draws=NOISE_DRAWS, seed=TEXT_NOISE_STREAM
    )
    first = norms[:, 0]
    interval = mean_interval(first.numpy())
    settings = {"by_step": norms.mean(dim=0).tolist()}
    return Result("text_noise", float(first.mean()), interval, False, settings, first)


def unnamed_samples(
    model: DiffusionModel,
    config: PromptUnlearning,
    seed: int,
    *,
    cache: SampleCache | None = None,
    shown: bool,
) -> Tensor:
    """Samples ``(N, C, H, W)`` of prompts that were not named, in turn; empty without any."""
    if config.unnamed is None:
        return torch.empty(0, *model.image_shape)
    texts = [spec.prompt for spec in read_prompt_file(config.unnamed)]
    total = config.unnamed_samples * len(texts)
    with progress_bar("drawing other prompts", total, shown=shown) as advance:
        return draw_once(cache, model, config, texts, total, seed, progress=advance)


@dataclass(frozen=True, eq=False)
class PromptRun:
    """One unlearning run: its prompts, and what was measured before and after.

    Attributes:
        prompts: The prompts, those with memorised samples alone.
        before: Measurements before.
        after: Measurements after.
        facts: JSON values for the report.
    """

    prompts: Sequence[LabelledPrompt]
    before: PromptMeasurement
    after: PromptMeasurement
    facts: dict[str, Any]
