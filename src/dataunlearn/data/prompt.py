"""What a text-to-image model is asked for: a text, or an embedding with a name."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor


@dataclass(frozen=True)
class EmbeddedPrompt:
    """A prompt that is no text. Two are the same prompt if their names and texts are.

    Attributes:
        name: What it is called, in logs and among captions.
        text: A text whose other encodings (pooled prompt, sizes) go with it.
        embedding: What stands in place of the text's embedding, ``(L, D)``.
    """

    name: str
    text: str
    embedding: Tensor = field(compare=False, repr=False)


Prompt = str | EmbeddedPrompt
