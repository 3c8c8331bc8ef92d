"""The phrases that Whisper makes up: one list for all who ask."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from whisper_live.backchannel import is_backchannel
from whisper_live.hallucinations import PHRASES, is_known_hallucination
from whisper_live.words import plain_words

phrases = st.sampled_from(sorted(PHRASES))


@given(phrases, st.sampled_from(["{}", " {}.", "{}!", "♪ {} ♪", "...{}..."]), st.booleans())
def test_case_and_punctuation_do_not_matter(phrase: str, written: str, shouted: bool) -> None:
    text = written.format(phrase)
    assert is_known_hallucination(text.upper() if shouted else text)


@given(phrases)
def test_it_asks_for_no_floor_either(phrase: str) -> None:
    assert is_backchannel(phrase)
    assert " ".join(plain_words(phrase)) == phrase


@pytest.mark.parametrize(
    "text", ["", "...", "Thank you, that is enough.", "So what?", "Stop.", "Thank you two"]
)
def test_other_words_are_none(text: str) -> None:
    assert not is_known_hallucination(text)
