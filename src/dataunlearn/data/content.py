"""What a set of pictures holds, whatever folder it lies in."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import torch

from dataunlearn.data.base import ImageSet
from dataunlearn.data.prompt import EmbeddedPrompt, Prompt


def describe_images(images: ImageSet) -> dict[str, Any]:
    """What a set of pictures is, as JSON values.

    Returns:
        ``first``, the first one's name; ``count``; ``sha256`` over all pixels in the set's order;
        and ``conditions``, that over labels and captions, or None without any.
    """
    labels = images.labels(torch.arange(len(images)))
    captions = [_in_words(images.caption(index)) for index in range(len(images))]
    said = [None if labels is None else labels.tolist(), captions]
    has_any = labels is not None or any(text is not None for text in captions)
    return {
        "first": images.name(0),
        "count": len(images),
        "sha256": hashlib.sha256("".join(images.digests()).encode()).hexdigest(),
        "conditions": hashlib.sha256(json.dumps(said).encode()).hexdigest() if has_any else None,
    }


def _in_words(prompt: Prompt | None) -> str | None:
    if not isinstance(prompt, EmbeddedPrompt):
        return prompt
    content = prompt.embedding.detach().float().cpu().contiguous().numpy().tobytes()
    return f"{prompt.name} {prompt.text} {hashlib.sha256(content).hexdigest()}"
