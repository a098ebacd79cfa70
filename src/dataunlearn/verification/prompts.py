"""Does a text-to-image model draw the images for prompts like their own?"""

from __future__ import annotations

from typing import Any

import torch

from dataunlearn.attacks.variations import variations
from dataunlearn.data.prompt import EmbeddedPrompt, Prompt
from dataunlearn.metrics.pace import Cost
from dataunlearn.metrics.pixel_distance import are_copies
from dataunlearn.models.latents import TextSpace
from dataunlearn.models.sampling import Drawing, generate
from dataunlearn.runtime.progress import progress_bar
from dataunlearn.verification.led import MOST_IMAGES, LedCheck, Tried
from dataunlearn.verification.subject import Subject

# Samples of each image, which take its prompts in turn.
SAMPLES = 48


class PromptCheck(LedCheck):
    """Draws samples for variations of each image's prompt, and counts copies."""

    name = "prompts"
    question = "Does the model draw it for prompts like its own?"
    made_for_it = "samples for prompts like its own"
    lead = "a prompt"

    def lacks(self, subject: Subject) -> str | None:
        """Prompts, captions, and something to compare with."""
        if not isinstance(subject.model.space, TextSpace):
            return "the model takes no prompts"
        if not subject.job.prompts:
            return "the images have no captions"
        return super().lacks(subject)

    def cost(self, subject: Subject) -> Cost:
        """Samples, of both models or for both kinds of pictures."""
        images = 2 * min(subject.num_images, MOST_IMAGES)
        return Cost(images * SAMPLES * subject.settings.sampling_steps)

    def copies_for(self, subject: Subject, tried: Tried) -> dict[str, Any]:
        """Among samples for its prompt and variations of it, which take turns."""
        model, images = tried.model, tried.images
        settings, copies, by_prompt = subject.settings, [], []
        label = f"prompts like those of {tried.who}"
        with progress_bar(label, len(images) * SAMPLES, shown=subject.shown) as advance:
            for row in range(len(images)):
                asked = prompts_like(images.caption(row) or "")
                drawing = Drawing(
                    seed=settings.seed,
                    num_steps=settings.sampling_steps,
                    batch_size=settings.batch_size,
                    prompts=asked,
                    progress=advance,
                )
                image = images.batch(torch.tensor([row]))
                found = are_copies(generate(model, SAMPLES, drawing), image, tried.threshold)
                copies.append(int(found.sum()))
                by_prompt.append(
                    {
                        name_of(prompt): int(found[at :: len(asked)].sum())
                        for at, prompt in enumerate(asked)
                    }
                )
        numbers = {"copies": copies, "samples": SAMPLES, "threshold": tried.threshold}
        return numbers | {"by_prompt": by_prompt}


def prompts_like(own: Prompt) -> list[Prompt]:
    """A prompt, and variations of its text."""
    text = own.text if isinstance(own, EmbeddedPrompt) else own
    return [own, *variations(text)]


def name_of(prompt: Prompt) -> str:
    """What a prompt is called."""
    return prompt.name if isinstance(prompt, EmbeddedPrompt) else prompt
