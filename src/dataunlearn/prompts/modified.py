"""Modified prompts of a workflow: given ones, found ones, and what they put on the keep side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from dataunlearn.conditioning import TextCond
from dataunlearn.metrics.text_noise import text_space
from dataunlearn.models import DiffusionModel
from dataunlearn.progress import progress_bar
from dataunlearn.prompts.config import PromptUnlearning
from dataunlearn.prompts.kept import KeptSamples, draw_once
from dataunlearn.prompts.labels import predict
from dataunlearn.prompts.layout import write_prompts
from dataunlearn.prompts.modify import PromptOptimiser
from dataunlearn.prompts.samples import DATA_FOLDER, LabelledPrompt

KEEP_SEED = 1
ADVICE = (
    "give another modified prompt for it, draw more samples, leave it out, "
    "or do not give --optimise never"
)


def find_modified(
    model: DiffusionModel,
    prompts: Sequence[LabelledPrompt],
    config: PromptUnlearning,
    *,
    shown: bool = True,
) -> list[LabelledPrompt]:
    """The prompts, with modified ones found where the settings ask for them and none is given.

    They are written beside the samples, unless those are in a folder that was given.

    Args:
        model: The model before unlearning, in eval mode.
        prompts: The labelled prompts.
        config: Whether modified prompts are looked for always, never, or where they are needed: to
            condition on, or because a prompt has fewer samples to keep than there are to be.
        shown: Whether to draw progress.
    """
    wanted = [prompt for prompt in prompts if _wants_modified(prompt, config)]
    optimiser, found = PromptOptimiser(seed=config.evaluation_seed), {}
    with progress_bar("modifying prompts", len(wanted), shown=shown and bool(wanted)) as advance:
        for prompt in wanted:
            embedding = optimiser(model, prompt.data.prompt).cond.fields["prompt"][0]
            found[prompt.data.name] = replace(prompt.data, modified=embedding)
            advance(1)
    known = [replace(prompt, data=found.get(prompt.data.name, prompt.data)) for prompt in prompts]
    if found and not config.prompts.is_dir():
        texts = {prompt.data.name: prompt.data.prompt for prompt in known}
        modified = {prompt.data.name: prompt.data.modified for prompt in known}
        given = {name: value for name, value in modified.items() if value is not None}
        write_prompts(config.out / DATA_FOLDER, texts, given)
    return known


def _wants_modified(prompt: LabelledPrompt, config: PromptUnlearning) -> bool:
    memorised = prompt.labelling.labels
    if prompt.data.modified is not None or not memorised.any() or config.optimise == "never":
        return False
    few = int((~memorised).sum()) < config.min_keep
    return few or config.optimise == "always" or config.condition_on == "modified"


def modified_caption(model: DiffusionModel, prompt: LabelledPrompt) -> str | None:
    """The modified prompt's text, or the name under which the model knows its embedding."""
    modified = prompt.data.modified
    if not isinstance(modified, Tensor):
        return modified
    name, space = f"modified prompt {prompt.data.name}", text_space(model)
    fields = space.prompts([prompt.data.prompt]).fields
    space.given[name] = TextCond({**fields, "prompt": modified[None].float()})
    return name


def samples_to_keep(
    model: DiffusionModel,
    prompt: LabelledPrompt,
    config: PromptUnlearning,
    kept: KeptSamples,
    *,
    shown: bool = True,
) -> Tensor:
    """Samples ``(N, C, H, W)`` of a prompt that are not memorised.

    Where they are few those of its modified prompt that are not memorised join them.

    Raises:
        ValueError: If there are none.
    """
    others = [prompt.images[~prompt.labelling.labels]]
    caption = modified_caption(model, prompt)
    size = min(2 * config.min_keep, config.images_per_prompt)
    rounds = config.images_per_prompt // size
    while caption is not None and sum(map(len, others)) < config.min_keep and len(others) <= rounds:
        place = (size, KEEP_SEED, len(others))
        with progress_bar(f"drawing what to keep of {prompt.name}", size, shown=shown) as advance:
            samples = draw_once(kept, model, config, [caption], *place, progress=advance)
        others.append(samples[~predict(prompt.labelling, samples)])
    found = torch.cat(others)
    if not len(found):
        also = "" if caption is None else ", and so are those of its modified prompt"
        raise ValueError(
            f"all samples of prompt {prompt.name} are memorised{also}, so there is nothing to "
            f"keep: {ADVICE}"
        )
    return found
