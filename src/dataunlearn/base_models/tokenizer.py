"""A small CLIP tokenizer trained on captions, for text-to-image models trained from scratch."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import CLIPTokenizer

END_OF_WORD = "</w>"
START_OF_TEXT, END_OF_TEXT = "<|startoftext|>", "<|endoftext|>"
MIN_VOCAB_SIZE = 2 * 256 + 2
MIN_MAX_LENGTH = 3


def train_tokenizer(
    captions: Sequence[str], *, vocab_size: int = 1536, model_max_length: int = 16
) -> CLIPTokenizer:
    """Train a byte-level BPE vocabulary in the form of CLIP's.

    As in CLIP's, the ids begin with the 256 bytes and the 256 bytes that end a word, so that any
    text has tokens. Merges follow, then the start and the end of text, which is also the padding.
    The same captions give the same ids, in any order.

    Args:
        captions: Texts to learn merges from; case does not matter.
        vocab_size: Most entries, at least 514. Captions with fewer repeated pieces give fewer.
        model_max_length: Tokens of a prompt, start and end included; longer ones are truncated
            where ``truncation=True``.

    Returns:
        A tokenizer that ``save_pretrained`` and ``from_pretrained`` carry unchanged.

    Raises:
        ValueError: If no caption holds text, or a size is too small.
    """
    if not any(caption.strip() for caption in captions):
        raise ValueError("no caption holds any text: give at least one that is not blank")
    if vocab_size < MIN_VOCAB_SIZE:
        raise ValueError(
            f"vocab_size must be at least {MIN_VOCAB_SIZE} (bytes and special tokens), "
            f"not {vocab_size}"
        )
    if model_max_length < MIN_MAX_LENGTH:
        raise ValueError(
            f"model_max_length must be at least {MIN_MAX_LENGTH} (start, one token, end), "
            f"not {model_max_length}"
        )
    from transformers import CLIPTokenizer

    trained = _train_bpe(captions, vocab_size - 2)
    vocab: dict[str, int] = trained["vocab"]
    vocab |= {START_OF_TEXT: len(vocab), END_OF_TEXT: len(vocab) + 1}
    merges: Any = [tuple(merge) for merge in trained["merges"]]  # transformers' types want text
    return CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=model_max_length)


def _train_bpe(captions: Sequence[str], vocab_size: int) -> dict[str, Any]:
    """Merges and a vocabulary without special tokens, as the ``model`` of a tokenizer's JSON.

    Left to itself the trainer numbers the bytes that end a word in the order of a hash table, which
    differs from run to run and breaks ties between merges. Handing them over as special tokens
    numbers them beforehand.
    """
    from tokenizers import Tokenizer, pre_tokenizers, trainers
    from tokenizers.models import BPE
    from transformers import CLIPTokenizer

    clip = CLIPTokenizer().backend_tokenizer
    tokenizer = Tokenizer(BPE(continuing_subword_prefix="", end_of_word_suffix=END_OF_WORD))
    tokenizer.normalizer, tokenizer.pre_tokenizer = clip.normalizer, clip.pre_tokenizer
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        show_progress=False,
        special_tokens=[*alphabet, *(symbol + END_OF_WORD for symbol in alphabet)],
        initial_alphabet=alphabet,
        end_of_word_suffix=END_OF_WORD,
    )
    tokenizer.train_from_iterator(captions, trainer)
    model: dict[str, Any] = json.loads(tokenizer.to_str())["model"]
    return model
