"""Incremental detokenising: the pieces add up to the text and hold no half character."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from language_models.detokenize import REPLACEMENT, Detokenizer

TEXT = st.text(st.characters(exclude_categories=("Cs",), exclude_characters=REPLACEMENT))

CORPUS = ["The old house by the sea is quiet.", "Grüße aus Köln, 你好，世界 👋🏽 नमस्ते", "so so so"]


def streamed(decode: Callable[[Sequence[int]], str], ids: list[int], cuts: list[int]) -> list[str]:
    detokenizer = Detokenizer(decode)
    bounds = sorted({0, len(ids), *(cut for cut in cuts if cut < len(ids))})
    pieces = [detokenizer.push(ids[start:end]) for start, end in pairwise(bounds)]
    return [*pieces, detokenizer.finish()]


@given(TEXT, st.lists(st.integers(0, 200)))
def test_a_token_may_be_a_single_byte(text: str, cuts: list[int]) -> None:
    def decode(ids: Sequence[int]) -> str:
        return bytes(ids).decode(errors="replace")

    pieces = streamed(decode, list(text.encode()), cuts)
    assert "".join(pieces) == text
    assert not any(REPLACEMENT in piece for piece in pieces)


@given(st.lists(st.text("abc", min_size=1), max_size=12), st.lists(st.integers(0, 12)))
def test_a_leading_space_that_decoding_drops_is_kept(words: list[str], cuts: list[int]) -> None:
    """As SentencePiece: every word has its space, and the first of a decoding loses it."""
    vocabulary = [f" {word}" for word in words]

    def decode(ids: Sequence[int]) -> str:
        return "".join(vocabulary[i] for i in ids).removeprefix(" ")

    assert "".join(streamed(decode, list(range(len(words))), cuts)) == " ".join(words)


def byte_level() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def sentencepiece() -> Tokenizer:
    """As Llama's: a space is a mark of the word, a rare character its bytes."""
    pieces = ["<unk>", "▁", *(f"<0x{byte:02X}>" for byte in range(256)), *"Theouseabyqit.so,"]
    vocabulary = {piece: i for i, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer = Tokenizer(models.BPE(vocabulary, [], byte_fallback=True, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(split=False)
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    return tokenizer


@pytest.mark.parametrize("tokenizer", [byte_level(), sentencepiece()], ids=["phi-2", "Phi-3"])
@given(text=st.one_of(TEXT, st.sampled_from(CORPUS)), cuts=st.lists(st.integers(0, 200)))
def test_real_tokenizers(tokenizer: Tokenizer, text: str, cuts: list[int]) -> None:
    ids = tokenizer.encode(text).ids
    whole = tokenizer.decode(ids)
    pieces = streamed(tokenizer.decode, ids, cuts)
    assert "".join(pieces) == whole
    assert not any(REPLACEMENT in piece for piece in pieces)


def test_each_character_comes_as_soon_as_it_is_whole() -> None:
    detokenizer = Detokenizer(lambda ids: bytes(ids).decode(errors="replace"))
    pieces = [detokenizer.push([byte]) for byte in "aé👋".encode()]
    assert pieces == ["a", "", "é", "", "", "", "👋"]


def test_a_long_reply_decodes_only_its_end() -> None:
    longest = 0

    def decode(ids: Sequence[int]) -> str:
        nonlocal longest
        longest = max(longest, len(ids))
        return bytes(ids).decode(errors="replace")

    detokenizer = Detokenizer(decode)
    for byte in b"a long reply" * 50:
        detokenizer.push([byte])
    assert longest <= 3
