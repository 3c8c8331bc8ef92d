"""Words that the decoder repeats, and those that people do."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from whisper_live.transcribers.repetition import find_repetition, is_too_fast, spoken_length

spoken = st.sampled_from(["stop", "go", "on", "the", "tea", "is", "55", "99.5%", "what"])
words = st.lists(spoken, max_size=6)


@pytest.mark.parametrize(
    ("text", "once", "phrase", "times"),
    [
        ("Stop. Stop.", "Stop.", 1, 2),
        ("99.5% 99.5% 99.5% 99.5% 99.5% 99.5%", "99.5%", 1, 6),
        ("Mix 1 1 1 1 1 1 1", "Mix 1", 1, 7),
        ("no no no no", "no", 1, 4),
        ("What time is it? What time is it?", "What time is it?", 4, 2),
        ("What time is it? What time is it? What ti", "What time is it?", 4, 2),
        ("launch Firefox, launch Firefox, launch Firefox", "launch Firefox,", 2, 3),
        ("So I said: go on. Go on. Go", "So I said: go on.", 2, 2),
        ("ご視聴ありがとうご視聴ありがとう", "ご視聴ありがとう", 8, 2),
        ("すみません。すみません。すみ", "すみません。", 5, 2),
    ],
)
def test_an_end_that_is_said_again_is_found(text: str, once: str, phrase: int, times: int) -> None:
    found = find_repetition(text)
    assert found is not None
    assert (found.once, found.words, found.times) == (once, phrase, times)


@pytest.mark.parametrize(
    "text",
    [
        *("", "...", "Stop.", "How old is the Brooklyn Bridge?", "the Thereafter"),
        "It was the best of times, it was the worst of times.",
        "No, no, that is wrong.",
    ],
)
def test_other_texts_end_in_no_repetition(text: str) -> None:
    assert find_repetition(text) is None


@given(words, st.lists(st.sampled_from(["tea", "is", "55", "what"]), min_size=1), st.integers(2, 5))
def test_a_loop_after_any_beginning_is_found(
    beginning: list[str], phrase: list[str], times: int
) -> None:
    said = [*beginning, *phrase]
    found = find_repetition(" ".join([*beginning, *phrase * times]))
    assert found is not None
    assert found.times >= times
    assert said[: len(found.once.split())] == found.once.split()


@given(words)
def test_what_is_left_is_a_beginning_of_the_text(said: list[str]) -> None:
    text = " ".join(said + said[-1:])
    found = find_repetition(text)
    if found is not None:
        assert text.startswith(found.once)
        assert 0 < len(found.once) < len(text)


@pytest.mark.parametrize(
    ("text", "letters"),
    [("", 0), ("Stop.", 4), ("55", 8), ("99.5%", 19), ("$20", 15), ("すみ", 4), ("Größe", 5)],
)
def test_numbers_and_signs_are_as_long_as_they_are_said(text: str, letters: int) -> None:
    assert spoken_length(text) == letters


@pytest.mark.parametrize(
    ("text", "seconds", "too_fast"),
    [
        ("Stop. Stop.", 0.35, True),
        ("Stop. Stop.", 0.7, False),
        ("99.5% 99.5%", 1.6, True),
        ("no no no no", 0.8, False),
        ("55 55 55", 1.9, False),
        ("Would you please turn on the living room lamp?", 1.95, False),
        ("anything", 0.0, True),
        ("", 0.0, False),
    ],
)
def test_nobody_speaks_faster_than_people_do(text: str, seconds: float, too_fast: bool) -> None:
    assert is_too_fast(text, seconds) is too_fast


@given(words, st.floats(0, 30), st.floats(0, 30))
def test_more_time_is_never_too_little(said: list[str], one: float, other: float) -> None:
    short, long = sorted((one, other))
    assert is_too_fast(" ".join(said), short) or not is_too_fast(" ".join(said), long)
