"""What a text-to-image model draws by heart for some prompts: the pictures of a request."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dataunlearn.data import ArrayImages, ImageSet
from dataunlearn.data.pixels import to_uint8
from dataunlearn.metrics.pixel_distance import pixel_distances
from dataunlearn.models import DiffusionModel
from dataunlearn.models.latents import TextSpace
from dataunlearn.prompts.config import PromptUnlearning
from dataunlearn.prompts.prompt_file import read_prompt_file
from dataunlearn.prompts.samples import LabelledPrompt, label_prompts
from dataunlearn.requests.schema import LedgerError
from dataunlearn.runtime.progress import Say


def memorised_pictures(
    model: DiffusionModel, prompts: Path, samples: int, *, say: Say, shown: bool = True
) -> ImageSet:
    """One picture for each prompt that the model has memorised one for, captioned with it.

    Of a prompt whose training picture is named in the file it is that picture; of others the sample
    that is nearest to all memorised ones.

    Args:
        model: A text-to-image model, in eval mode.
        prompts: A file of prompts.
        samples: Samples drawn and labelled for each.
        say: Where lines for a person go.
        shown: Whether to draw progress.

    Raises:
        ValueError: If the model takes no prompts, the file cannot be read, or none of them is
            memorised.
    """
    if not isinstance(model.space, TextSpace):
        raise ValueError(f"{model.source} takes no prompts: name its pictures with --images")
    read_prompt_file(prompts, say)
    with tempfile.TemporaryDirectory() as place:
        config = PromptUnlearning(
            model=model.source, prompts=prompts, out=Path(place), images_per_prompt=samples
        )
        found = label_prompts(model, config, lambda _: None, shown=shown)
    known = [prompt for prompt in found if prompt.labelling.labels.any()]
    for prompt in found:
        say(f"{prompt.name}: {prompt.labelling.share:.0%} of {samples} samples memorised")
    if not known:
        raise LedgerError(
            f"the model has memorised no picture for the prompts in {prompts}: there is nothing "
            "to remove (--samples_per_prompt looks at more samples)"
        )
    pictures = torch.stack([picture_of(prompt) for prompt in known])
    pixels = np.ascontiguousarray(np.moveaxis(to_uint8(pictures), 3, 1))
    captions = [prompt.data.prompt for prompt in known]
    return ArrayImages(pixels, source=str(prompts), captions=captions)


def picture_of(prompt: LabelledPrompt) -> Tensor:
    """The picture ``(C, H, W)`` that a prompt has memorised."""
    if prompt.original is not None:
        return prompt.original
    memorised = prompt.images[prompt.labelling.labels]
    return memorised[int(pixel_distances(memorised, memorised).sum(1).argmin())]
