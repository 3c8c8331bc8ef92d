"""How the round trip of written sentences judges what came back."""

from __future__ import annotations

from collections import Counter

import pytest

from benchmarks.spoken_text import Sentence, canonical, missing_facts, sentences


def test_there_are_two_hundred_sentences_with_facts_of_many_kinds() -> None:
    found = list(sentences())
    assert len(found) == 200
    assert len({sentence.written for sentence in found}) == 200
    kinds = Counter(sentence.kind for sentence in found)
    assert len(kinds) >= 15
    assert min(kinds.values()) >= 6
    assert all(fact for sentence in found for fact in sentence.facts)


@pytest.mark.parametrize(
    ("transcript", "other"),
    [
        ("$90,000", "ninety thousand dollars"),
        ("$1.5 million", "1.5 million dollars"),
        ("$19.99", "nineteen dollars and ninety-nine cents"),
        ("20°C", "20 degrees Celsius"),
        ("5%", "five percent"),
        ("60 mph", "60 miles per hour"),
        ("3-5 minutes", "three to five minutes"),
        ("8-3=5", "8 to 3 equals 5"),
        ("8 minus 3 equals 5", "eight minus three equals five"),
        ("one half", "½"),
        ("three quarters", "3/4"),
        ("0.5", "zero point five"),
        ("12 km", "twelve kilometers"),
        ("10:30 a.m.", "10.30 AM"),
        ("Doctor Brown", "Dr. Brown"),
        ("10²", "ten squared"),
    ],
)
def test_the_same_aloud_is_the_same(transcript: str, other: str) -> None:
    assert canonical(transcript) == canonical(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("5 liters", "0.5 liters"),
        ("8 to 3 equals 5", "8 minus 3 equals 5"),
        ("210", "2 to the power of 10"),
        ("90 dollars", "90 thousand dollars"),
        ("5 kilometers", "5 kilograms"),
        ("20 dollars or month", "20 dollars per month"),
    ],
)
def test_what_is_not_the_same_is_not(one: str, other: str) -> None:
    assert canonical(one) != canonical(other)


def test_a_fact_that_does_not_come_back_is_named() -> None:
    sentence = Sentence("x", "…", (("5 kilometer",), ("#555123",), ("2 pm", "14")))
    assert missing_facts(sentence, "It is five kilometers at 2 p.m., call 555-123.") == ()
    assert missing_facts(sentence, "It is 15 kilometers at 14, call 555-124.") == (
        "5 kilometer",
        "#555123",
    )
