"""What is kept of a prompt: its samples that are not memorised, and where they are few, others."""

from __future__ import annotations

import torch
from torch import Tensor

from dataunlearn.models import DiffusionModel
from dataunlearn.models.opening import guided
from dataunlearn.progress import progress_bar
from dataunlearn.prompts.config import PromptUnlearning
from dataunlearn.prompts.kept import KeptSamples, draw_once
from dataunlearn.prompts.labels import predict
from dataunlearn.prompts.samples import LabelledPrompt

MODIFIED_SEED, LESS_GUIDANCE_SEED = 1, 3
ADVICE = (
    "give another modified prompt for it, draw more samples, leave it out, "
    "or do not give --optimise never"
)


def own_samples_to_keep(
    model: DiffusionModel,
    prompt: LabelledPrompt,
    config: PromptUnlearning,
    kept: KeptSamples,
    *,
    shown: bool = True,
) -> Tensor:
    """Samples ``(N, C, H, W)`` of a prompt that are not memorised, N at least 0.

    Where they are few, such samples that are drawn with less guidance join them: guidance sharpens
    what a prompt gives around its most frequent picture, and what else the model knows for it shows
    up without. At most twice as many are drawn as there were to label.
    """
    own = prompt.images[~prompt.labelling.labels]
    if config.keep_guidance is None:
        return own
    with guided(model, config.keep_guidance):
        place = (prompt.data.prompt, LESS_GUIDANCE_SEED, 2 * config.images_per_prompt)
        return joined(own, model, prompt, config, kept, *place, shown=shown)


def samples_to_keep(
    model: DiffusionModel,
    prompt: LabelledPrompt,
    caption: str | None,
    config: PromptUnlearning,
    kept: KeptSamples,
    *,
    shown: bool = True,
) -> Tensor:
    """Samples ``(N, C, H, W)`` to keep of a prompt, N at least 1.

    Where its own are too few, as many as are missing are taken of those of its modified prompt,
    ``caption``, that are not memorised, if there is one.

    Raises:
        ValueError: If there are none.
    """
    found = own_samples_to_keep(model, prompt, config, kept, shown=shown)
    if caption is not None and len(found) < config.min_keep:
        place = (caption, MODIFIED_SEED, config.images_per_prompt)
        more = joined(found, model, prompt, config, kept, *place, shown=shown)
        found = more[: config.min_keep]
    if not len(found):
        also = "" if caption is None else ", and so are those of its modified prompt"
        raise ValueError(
            f"all samples of prompt {prompt.name} are memorised{also}, so there is nothing to "
            f"keep: {ADVICE}"
        )
    return found


def joined(
    found: Tensor,
    model: DiffusionModel,
    prompt: LabelledPrompt,
    config: PromptUnlearning,
    kept: KeptSamples,
    caption: str,
    seed: int,
    most: int,
    *,
    shown: bool,
) -> Tensor:
    """What is found, and samples of a caption that are not memorised, until there are enough.

    Args:
        found: ``(N, C, H, W)``, N at least 0.
        model: The model before unlearning, in eval mode.
        prompt: Whose labels judge the samples.
        config: How many are enough, and how samples are drawn.
        kept: Where drawn samples are kept.
        caption: What the model is asked for.
        seed: Names their noise, together with the round.
        most: How many are drawn at most.
        shown: Whether to draw progress.
    """
    parts, size = [found], min(2 * config.min_keep, config.images_per_prompt)
    for number in range(most // size):
        if sum(map(len, parts)) >= config.min_keep:
            break
        with progress_bar(f"drawing what to keep of {prompt.name}", size, shown=shown) as advance:
            place = (size, seed, number)
            samples = draw_once(kept, model, config, [caption], *place, progress=advance)
        parts.append(samples[~predict(prompt.labelling, samples)])
    return torch.cat(parts)
