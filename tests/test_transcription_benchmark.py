"""The word error rate that `benchmarks/transcription.py` reports."""

from __future__ import annotations

import pytest

from benchmarks.transcription import Comparison, in_summary, spoken_words, word_errors


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ("Go forward ten meters.", ["go", "forward", "ten", "meters"]),
        ("Go forward 10 meters!", ["go", "forward", "ten", "meters"]),
        ("a 20-ounce latte", ["a", "twenty", "ounce", "latte"]),
        ("42", ["forty", "two"]),
        ("It's Dad’s 100", ["it's", "dad's", "100"]),
        ("", []),
    ],
)
def test_numbers_case_and_punctuation_are_evened_out(written: str, words: list[str]) -> None:
    assert spoken_words(written) == words


@pytest.mark.parametrize(
    ("said", "transcript", "errors"),
    [
        ("a b c", "a b c", 0),
        ("a b c", "a x c", 1),
        ("a b c", "a c", 1),
        ("a b c", "a b b c", 1),
        ("a b c", "", 3),
        ("", "a b", 2),
        ("a b c d", "b c d e", 2),
    ],
)
def test_errors_are_the_fewest_changes(said: str, transcript: str, errors: int) -> None:
    assert word_errors(said.split(), transcript.split()) == errors


def test_two_ways_to_transcribe_are_told_apart() -> None:
    clips = [
        Comparison("a", 10, 2, 1, first=0.1, last=0.1, whole_seconds=0.4),
        Comparison("b", 5, 0, 3, first=0.2, last=0.6, whole_seconds=0.5),
        Comparison("c", 0, 0, 0, first=0.3, last=0.3, whole_seconds=0.6),
    ]
    summary = in_summary(clips)
    assert (summary["errors"], summary["whole_errors"], summary["words"]) == (2, 4, 15)
    assert (summary["clips_with_errors"], summary["whole_clips_with_errors"]) == (1, 2)
    assert (summary["cpu_first_median"], summary["cpu_last_median"]) == (0.2, 0.3)
