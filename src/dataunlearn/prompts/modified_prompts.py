"""Modified prompts of a workflow: given ones, and those that are found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from dataunlearn.data.prompt import EmbeddedPrompt, Prompt
from dataunlearn.models import DiffusionModel
from dataunlearn.prompts.config import PromptUnlearning
from dataunlearn.prompts.keep_side import KeepSide
from dataunlearn.prompts.prompt_optimiser import PromptOptimiser
from dataunlearn.prompts.published_layout import write_prompts
from dataunlearn.prompts.sample_cache import SampleCache
from dataunlearn.prompts.samples import DATA_FOLDER, LabelledPrompt
from dataunlearn.runtime.progress import progress_bar


def find_modified(
    model: DiffusionModel,
    prompts: Sequence[LabelledPrompt],
    config: PromptUnlearning,
    cache: SampleCache,
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
        cache: Where samples of the model before unlearning are.
        shown: Whether to draw progress.
    """
    keeping = KeepSide(model, config, cache, shown)
    wanted = [
        prompt
        for prompt in prompts
        if _may_want_modified(prompt, config)
        and (_always(config) or len(keeping.own(prompt)) < config.min_keep)
    ]
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


def _may_want_modified(prompt: LabelledPrompt, config: PromptUnlearning) -> bool:
    known = prompt.data.modified is not None or config.optimise == "never"
    return not known and bool(prompt.labelling.labels.any())


def _always(config: PromptUnlearning) -> bool:
    return config.optimise == "always" or config.condition_on == "modified"


def modified_prompt(prompt: LabelledPrompt) -> Prompt | None:
    """The modified prompt, a text or an embedding; None where there is none."""
    modified = prompt.data.modified
    if not isinstance(modified, Tensor):
        return modified
    return EmbeddedPrompt(f"modified prompt {prompt.data.name}", prompt.data.prompt, modified)
