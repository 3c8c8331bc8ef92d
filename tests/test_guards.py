"""The guards against words that nobody said."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from whisper_live.transcribers import guards


def test_an_empty_text_has_no_ratio() -> None:
    assert guards.compression_ratio("") == 0.0
    assert not guards.is_repetitive("")


def test_speech_is_not_repetitive() -> None:
    said = (
        "So, I went to the market this morning and bought three apples, a loaf of bread and some "
        "cheese, then it began to rain and I had to wait under a tree for half an hour."
    )
    assert 1.0 < guards.compression_ratio(said) < guards.COMPRESSION_LIMIT
    assert not guards.is_repetitive(said)
    assert not guards.is_repetitive("No, no, no.")


@pytest.mark.parametrize("loop", ["I don't know. ", "ご視聴ありがとう", "ha"])
def test_a_loop_is_repetitive(loop: str) -> None:
    assert guards.is_repetitive(loop * 40)


@given(st.floats(0, 60), st.floats(0, 60))
def test_longer_audio_never_gets_fewer_tokens(one: float, other: float) -> None:
    short, long = sorted((one, other))
    assert 0 < guards.max_tokens(short) <= guards.max_tokens(long) <= guards.LONGEST_TEXT


def test_the_cap_is_far_below_a_window_for_a_short_utterance() -> None:
    assert guards.max_tokens(1.0) == 31
    assert guards.max_tokens(30.0) == guards.LONGEST_TEXT
    assert guards.max_tokens(-1.0) == guards.SPARE_TOKENS


@pytest.mark.parametrize(
    ("no_speech", "confidence", "silence"),
    [(0.9, -1.5, True), (0.9, -0.3, False), (0.1, -1.5, False), (0.6, -1.0, False)],
)
def test_silence_takes_both_signs(no_speech: float, confidence: float, silence: bool) -> None:
    assert guards.is_silence(no_speech, confidence) is silence


@pytest.mark.parametrize(
    ("text", "no_speech", "confidence", "hallucination"),
    [
        (" Thank you.", 0.4, -0.2, True),
        (" Thanks for watching!", 0.0, -0.9, True),
        (" Thank you.", 0.01, -0.2, False),
        (" ...", 0.0, 0.0, True),
        (" How old is it?", 0.5, -0.9, False),
    ],
)
def test_a_phantom_is_a_known_phrase_that_the_model_doubts(
    text: str, no_speech: float, confidence: float, hallucination: bool
) -> None:
    assert guards.is_hallucination(text, no_speech, confidence) is hallucination


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("What time is it? What time is it?", True),
        ("What time is it? What time is it? What", True),
        ("launch Firefox, launch Firefox, launch Firefox", True),
        ("How old is the Brooklyn Bridge?", False),
        ("No, no.", False),
        ("Bye bye.", False),
        ("It was the best of times, it was the worst of times.", False),
        ("", False),
    ],
)
def test_a_sentence_written_twice_is_noticed(text: str, expected: bool) -> None:
    assert guards.is_said_again(text) is expected


@pytest.mark.parametrize(
    ("text", "seconds", "once"),
    [
        ("What time is it? What time is it? What time is it? What", 1.4, "What time is it?"),
        ("Go on. Go on.", 0.3, "Go on."),
        ("Go on. Go on.", 1.0, None),
        ("What time is it?", 0.1, None),
        ("", 0.0, None),
    ],
)
def test_nobody_says_a_sentence_faster_than_it_can_be_said(
    text: str, seconds: float, once: str | None
) -> None:
    assert guards.said_once(text, seconds) == once
