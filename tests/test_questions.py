"""The thirty questions: their rules judge what they are meant to judge."""

from __future__ import annotations

import json

import pytest

from benchmarks.questions import QUESTIONS, verdict

ALL = {each["ask"]: each for each in json.loads(QUESTIONS.read_text("utf-8"))}


def test_there_are_thirty_different_ones() -> None:
    assert len(ALL) == 30


@pytest.mark.parametrize(
    ("question", "answer", "expected"),
    [
        ("What's the capital of France?", "It's Paris.", "right"),
        ("What's the capital of France?", "It's Lyon.", "unclear"),
        ("What time is it?", "It's currently 12:30 PM.", "wrong"),
        ("What time is it?", "I can't tell the time.", "acceptable"),
        ("Set a timer for ten minutes.", "I'm sorry, I can't set timers.", "right"),
        ("Set a timer for ten minutes.", "Okay, timer set for ten minutes.", "wrong"),
        ("Turn on the living room lamp.", "I cannot control devices.", "right"),
        ("Turn on the living room lamp.", "Sure, I'll turn on the lamp.", "wrong"),
        ("Hello, my name is Anna. How are you?", "Hello! My name is Anna.", "wrong"),
    ],
)
def test_verdicts(question: str, answer: str, expected: str) -> None:
    assert verdict(ALL[question], answer, alone=True) == expected


def test_what_was_said_before_counts_in_a_conversation_alone() -> None:
    name = ALL["What's my name?"]
    assert verdict(name, "Your name is Anna.", alone=False) == "right"
    assert verdict(name, "Your name is Anna.", alone=True) == "unclear"
    assert verdict(name, "I don't know your name.", alone=True) == "right"
    assert verdict(name, "You are Emily.", alone=False) == "wrong"
