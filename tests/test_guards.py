"""The guards against words that nobody said."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.recordings import load
from tests.sounds import SOUNDS
from whisper_live.transcribers import guards
from whisper_live.transcribers.base import NOTHING_HEARD, Transcript


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


def said(text: str, no_speech: float = 0.05, confidence: float = -0.2) -> Transcript:
    return Transcript(text, "en", confidence, no_speech)


NOISE = {name: sound(2.0, 0) for name, sound in SOUNDS.items()}
SHORT = {name: load(name) for name in ("bye", "thank_you_dropped", "stop")}


@pytest.mark.parametrize("noise", NOISE)
@pytest.mark.parametrize(
    ("text", "no_speech", "confidence"),
    [
        (" Thank you.", 0.4, -0.2),
        (" Thanks for watching!", 0.05, -0.9),
        ("Bye. Bye. Bye.", 0.05, -0.1),
        (" ...", 0.0, 0.0),
        ("♪", 0.0, 0.0),
        ("Subtitles by the Amara.org community", 0.3, -0.3),
        ("How old is it?", 0.9, -1.4),
        ("so " * 40, 0.05, -0.1),
        ("Yeah.", 0.78, -0.96),
        ("Ahh... " * 30, 0.46, -0.1),
    ],
)
def test_what_is_made_up_over_noise_was_not_said(
    noise: str, text: str, no_speech: float, confidence: float
) -> None:
    assert guards.believed(said(text, no_speech, confidence), NOISE[noise]) is NOTHING_HEARD


@pytest.mark.parametrize("gain", [1.0, 0.1])
@pytest.mark.parametrize("name", SHORT)
@pytest.mark.parametrize("text", ["Bye.", "Thank you.", "You", "Thanks for watching!"])
def test_a_short_word_that_the_detector_clearly_hears_was_said(
    text: str, name: str, gain: float
) -> None:
    unsure = said(text, no_speech=0.5, confidence=-0.8)
    assert guards.believed(unsure, SHORT[name] * np.float32(gain)) == unsure


def test_a_word_that_is_hardly_there_proves_nothing() -> None:
    unsure = said("Bye.", no_speech=0.5, confidence=-0.8)
    for audio in (SHORT["bye"] * np.float32(0.01), SHORT["bye"][:2400]):
        assert guards.believed(unsure, audio) is NOTHING_HEARD


@pytest.mark.parametrize("text", ["Thank you.", "How old is it?"])
def test_a_sure_text_needs_no_other_witness(text: str) -> None:
    assert guards.believed(said(text), NOISE["silence"]).text == text


@pytest.mark.parametrize(
    ("name", "text", "once"),
    [
        ("stop", "Stop. Stop.", "Stop."),
        ("ninety_nine_point_five_percent", "99.5% 99.5% 99.5% 99.5% 99.5% 99.5%", "99.5%"),
        ("what_time_is_it", "What time is it? What time is it? What", "What time is it?"),
        ("mix_one_one_half_cups", "Mix" + " 1" * 25, "Mix 1"),
    ],
)
def test_what_nobody_can_have_said_in_the_time_is_said_once(
    name: str, text: str, once: str
) -> None:
    assert guards.believed(said(text), load(name)).text == once


@pytest.mark.parametrize(
    ("audio", "text"),
    [
        (np.concatenate([SHORT["stop"]] * 2), "Stop. Stop."),
        (np.concatenate([SHORT["bye"]] * 4), "no no no no"),
        (load("ninety_nine_point_five_percent"), "55 55 55"),
        (np.concatenate([load("what_time_is_it")] * 2), "What time is it? What time is it?"),
        (SHORT["stop"], "Stop."),
    ],
)
def test_what_somebody_had_the_time_to_say_stays(audio: NDArray[np.float32], text: str) -> None:
    assert guards.believed(said(text), audio).text == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("What time is it? What time is it?", True),
        ("What time is it? What time is it? What", True),
        ("launch Firefox, launch Firefox, launch Firefox", True),
        ("Mix 1 1 1 1 1", True),
        ("How old is the Brooklyn Bridge?", False),
        ("No, no.", False),
        ("Bye bye.", False),
        ("It was the best of times, it was the worst of times.", False),
        ("", False),
    ],
)
def test_a_text_that_repeats_itself_is_noticed(text: str, expected: bool) -> None:
    assert guards.may_be_loop(text) is expected
