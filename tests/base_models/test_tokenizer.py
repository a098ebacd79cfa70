from __future__ import annotations

from pathlib import Path

import pytest
from transformers import CLIPTokenizer

from dataunlearn.base_models.tokenizer import MIN_VOCAB_SIZE, train_tokenizer

COLOURS = ("red", "green", "blue", "light blue")
THINGS = ("circle", "square", "heart", "hat with a red heart", "face", "facing cat")
CAPTIONS = [f"{colour} {thing}" for colour in COLOURS for thing in THINGS]
UNSEEN = ["zyzzyva", "Ünseen wörds", "日本 🍣", "it's 12:30!", "<b>", "\x00\x7f", ""]


@pytest.fixture
def tokenizer() -> CLIPTokenizer:
    return train_tokenizer(CAPTIONS, vocab_size=600, model_max_length=8)


def ids(tokenizer: CLIPTokenizer, texts: list[str]) -> list[list[int]]:
    encoded = tokenizer(texts, padding="max_length", truncation=True)
    return list(encoded.input_ids)


def test_saving_and_loading_change_no_id(tokenizer: CLIPTokenizer, tmp_path: Path) -> None:
    tokenizer.save_pretrained(tmp_path)
    loaded = CLIPTokenizer.from_pretrained(tmp_path)
    assert type(loaded) is CLIPTokenizer
    assert loaded.model_max_length == 8
    assert loaded.get_vocab() == tokenizer.get_vocab()
    assert ids(loaded, CAPTIONS + UNSEEN) == ids(tokenizer, CAPTIONS + UNSEEN)
    special = ("bos_token_id", "eos_token_id", "pad_token_id")
    assert [getattr(loaded, s) for s in special] == [getattr(tokenizer, s) for s in special]


def test_the_layout_is_that_of_clip(tokenizer: CLIPTokenizer) -> None:
    """CLIP numbers bytes, bytes that end a word, merges, start of text, end of text."""
    size = len(tokenizer)
    assert 514 < size <= 600
    assert sorted(tokenizer.get_vocab().values()) == list(range(size))
    tokens = tokenizer.convert_ids_to_tokens(list(range(size)))
    assert all(len(token) == 1 for token in tokens[:256])
    assert tokens[256:512] == [token + "</w>" for token in tokens[:256]]
    assert tokens[-2:] == ["<|startoftext|>", "<|endoftext|>"]
    assert tokenizer.bos_token_id == size - 2
    assert tokenizer.eos_token_id == tokenizer.pad_token_id == size - 1


def test_a_common_word_is_one_token(tokenizer: CLIPTokenizer) -> None:
    assert tokenizer.tokenize("Red   HEART") == ["red</w>", "heart</w>"]


def test_any_text_has_tokens_and_comes_back(tokenizer: CLIPTokenizer) -> None:
    """No text falls back on the unknown token, which is the end of text."""
    for text in UNSEEN:
        found = tokenizer(text, add_special_tokens=False).input_ids
        assert tokenizer.eos_token_id not in found
        assert bool(found) == bool(text.strip())
    words = "zyzzyva ünseen wörds 日本 🍣"
    assert tokenizer.decode(tokenizer(words, add_special_tokens=False).input_ids) == words


def test_every_caption_fits_or_is_truncated(tokenizer: CLIPTokenizer) -> None:
    captions = [*CAPTIONS, "a very long caption " * 9]
    plain = tokenizer(captions, verbose=False).input_ids
    for text_ids, whole in zip(ids(tokenizer, captions), plain, strict=True):
        assert len(text_ids) == 8
        assert text_ids[0] == tokenizer.bos_token_id
        assert text_ids[-1] == tokenizer.eos_token_id
        kept = min(len(whole), 8) - 1
        assert text_ids[:kept] == whole[:kept]
        assert set(text_ids[kept:]) == {tokenizer.eos_token_id}


def test_the_vocabulary_depends_on_the_captions_alone(tokenizer: CLIPTokenizer) -> None:
    """Each training has hash tables in another order; the order of captions does not matter."""
    for captions in [CAPTIONS] * 5 + [CAPTIONS[::-1]]:
        again = train_tokenizer(captions, vocab_size=600, model_max_length=8)
        assert again.get_vocab() == tokenizer.get_vocab()
        assert ids(again, CAPTIONS + UNSEEN) == ids(tokenizer, CAPTIONS + UNSEEN)


@pytest.mark.parametrize("vocab_size", [MIN_VOCAB_SIZE, MIN_VOCAB_SIZE + 7])
def test_the_vocabulary_stays_within_its_size(vocab_size: int) -> None:
    assert len(train_tokenizer(CAPTIONS, vocab_size=vocab_size)) == vocab_size


@pytest.mark.parametrize(
    ("captions", "options", "message"),
    [
        ([], {}, "no caption holds any text"),
        (["", "  "], {}, "no caption holds any text"),
        (CAPTIONS, {"vocab_size": MIN_VOCAB_SIZE - 1}, "vocab_size must be at least 514"),
        (CAPTIONS, {"model_max_length": 2}, "model_max_length must be at least 3"),
    ],
)
def test_unusable_settings_are_an_error(
    captions: list[str], options: dict[str, int], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        train_tokenizer(captions, **options)
