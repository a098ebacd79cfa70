"""Prompts like an image's own: what else could somebody type who wants it back?"""

from __future__ import annotations

MOST_WORDS_DROPPED = 8


def variations(prompt: str) -> list[str]:
    """Other prompts that say nearly the same, without repeats and without the prompt itself.

    In capitals, with words before it, twice, without its second half, from back to front, with
    letters of its longest word changed round, and without each of its words.
    """
    words = prompt.split()
    half = words[: (len(words) + 1) // 2]
    longest = max(range(len(words)), key=lambda i: len(words[i]), default=0)
    slip = [_slipped(word) if i == longest else word for i, word in enumerate(words)]
    found = [
        *(prompt.lower(), prompt.upper(), prompt.title()),
        *(f"a picture of {prompt}", f"{prompt}, in the same style", f"{prompt} {prompt}"),
        *(" ".join(half), " ".join(reversed(words)), " ".join(slip)),
        *(
            " ".join(word for i, word in enumerate(words) if i != dropped)
            for dropped in range(min(len(words), MOST_WORDS_DROPPED))
        ),
    ]
    different = dict.fromkeys(text for text in found if text.strip())
    return [text for text in different if text != prompt]


def _slipped(word: str) -> str:
    """A word with two letters in its middle changed round, as by a slip of the pen."""
    middle = len(word) // 2
    if len(word) < 4:
        return word
    return word[: middle - 1] + word[middle] + word[middle - 1] + word[middle + 1 :]
