"""What is kept of a prompt: its samples that are not memorised, and where they are few, others."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dataunlearn.data.prompt import Prompt
from dataunlearn.models import DiffusionModel
from dataunlearn.models.base import guided
from dataunlearn.prompts.config import PromptUnlearning
from dataunlearn.prompts.labels import predict
from dataunlearn.prompts.sample_cache import SampleCache, draw_once
from dataunlearn.prompts.samples import LabelledPrompt
from dataunlearn.runtime.progress import progress_bar
from dataunlearn.runtime.streams import LESS_GUIDANCE_STREAM, MODIFIED_STREAM

ADVICE = (
    "give another modified prompt for it, draw more samples, leave it out, "
    "or do not give --optimise never"
)


@dataclass(frozen=True, eq=False)
class KeepSide:
    """Finds what to keep of prompts.

    Attributes:
        model: The model before unlearning, in eval mode.
        config: How many pictures are enough, and how samples are drawn.
        cache: Where drawn samples are kept, so that a second look costs nothing.
        shown: Whether to draw progress.
    """

    model: DiffusionModel
    config: PromptUnlearning
    cache: SampleCache
    shown: bool = True

    def own(self, prompt: LabelledPrompt) -> Tensor:
        """Samples ``(N, C, H, W)`` of a prompt that are not memorised, N at least 0.

        Where they are few, such samples that are drawn with less guidance join them: guidance
        sharpens what a prompt gives around its most frequent picture, and what else the model knows
        for it shows up without. At most twice as many are drawn as there were to label.
        """
        own = prompt.images[~prompt.labelling.labels]
        if self.config.keep_guidance is None:
            return own
        with guided(self.model, self.config.keep_guidance):
            most = 2 * self.config.images_per_prompt
            return self._joined(own, prompt, prompt.data.prompt, LESS_GUIDANCE_STREAM, most)

    def of(self, prompt: LabelledPrompt, modified: Prompt | None) -> Tensor:
        """Samples ``(N, C, H, W)`` to keep of a prompt, N at least 1.

        Where its own are too few, as many as are missing are taken of those of its modified prompt,
        ``modified``, that are not memorised, if there is one.

        Raises:
            ValueError: If there are none.
        """
        found, enough = self.own(prompt), self.config.min_keep
        if modified is not None and len(found) < enough:
            most = self.config.images_per_prompt
            found = self._joined(found, prompt, modified, MODIFIED_STREAM, most)[:enough]
        if not len(found):
            also = "" if modified is None else ", and so are those of its modified prompt"
            raise ValueError(
                f"all samples of prompt {prompt.name} are memorised{also}, so there is nothing to "
                f"keep: {ADVICE}"
            )
        return found

    def _joined(
        self, found: Tensor, prompt: LabelledPrompt, asked: Prompt, seed: int, most: int
    ) -> Tensor:
        """What is found, and of at most so many samples of what is asked those not memorised."""
        config, parts = self.config, [found]
        size = min(2 * config.min_keep, config.images_per_prompt)
        label = f"drawing what to keep of {prompt.name}"
        for number in range(most // size):
            if sum(map(len, parts)) >= config.min_keep:
                break
            with progress_bar(label, size, shown=self.shown) as advance:
                place = (size, seed, number)
                drawn = draw_once(self.cache, self.model, config, [asked], *place, progress=advance)
            parts.append(drawn[~predict(prompt.labelling, drawn)])
        return torch.cat(parts)
