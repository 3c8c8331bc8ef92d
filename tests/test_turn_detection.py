"""Whose turn the detector looks at next, and that little waits for it."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from fusion.errors import ModelError
from whisper_live.events import PredictTurn, Revision
from whisper_live.turn_detection import TurnDetection


@dataclass
class Slow:
    """A detector that answers, with the first sample, when it is told to."""

    may_answer: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    asked: queue.Queue[float] = field(default_factory=queue.Queue)

    max_batch: int = 1
    workers: int = 1

    def probabilities(self, audios: Sequence[NDArray[np.float32]]) -> list[float]:
        for audio in audios:
            self.asked.put(float(audio[0]))
        assert self.may_answer.acquire(timeout=10)
        if audios[0][0] < 0:
            raise ModelError("It failed.")
        return [float(audio[0]) for audio in audios]


def question(number: float) -> PredictTurn:
    revision = Revision(1, 1, end_of_speech=0.0, end=0)
    return PredictTurn(revision, np.full(4, number, np.float32))


Answers = queue.Queue[tuple[str, float]]


@pytest.fixture
def slow() -> Slow:
    return Slow()


@pytest.fixture
def answers() -> Answers:
    return queue.Queue()


@pytest.fixture
def detection(slow: Slow, answers: Answers) -> Iterator[TurnDetection]:
    result = TurnDetection(slow, lambda session, _, value: answers.put((session, value)))
    yield result
    result.close()
    slow.may_answer.release(100)


def test_a_newer_question_takes_the_place_of_an_older_one(
    slow: Slow, answers: Answers, detection: TurnDetection
) -> None:
    detection.ask("a", question(0.125))
    assert slow.asked.get(timeout=5) == 0.125  # under way
    for number in (0.25, 0.375, 0.5):
        detection.ask("a", question(number))
    detection.ask("b", question(0.75))
    slow.may_answer.release(5)
    assert [answers.get(timeout=5) for _ in range(3)] == [("a", 0.125), ("a", 0.5), ("b", 0.75)]
    assert answers.empty()


def test_who_asks_often_keeps_nobody_waiting(
    slow: Slow, answers: Answers, detection: TurnDetection
) -> None:
    detection.ask("a", question(0.125))
    slow.asked.get(timeout=5)
    for session in ("a", "b", "a", "c", "a"):
        detection.ask(session, question(0.5))
    slow.may_answer.release(9)
    assert [answers.get(timeout=5)[0] for _ in range(4)] == ["a", "a", "b", "c"]


def test_what_a_session_asked_goes_with_it(
    slow: Slow, answers: Answers, detection: TurnDetection
) -> None:
    detection.ask("a", question(0.125))
    slow.asked.get(timeout=5)
    detection.ask("b", question(0.25))
    detection.ask("c", question(0.5))
    detection.forget("b")
    slow.may_answer.release(9)
    assert [answers.get(timeout=5) for _ in range(2)] == [("a", 0.125), ("c", 0.5)]
    assert answers.empty()


def test_a_question_that_fails_is_not_answered_and_the_next_is(
    slow: Slow, answers: Answers, detection: TurnDetection
) -> None:
    slow.may_answer.release(9)
    detection.ask("a", question(-1.0))
    detection.ask("b", question(0.5))
    assert answers.get(timeout=5) == ("b", 0.5)


def test_a_gpu_judges_all_that_wait_at_once(answers: Answers) -> None:
    slow = Slow(max_batch=3)
    detection = TurnDetection(slow, lambda session, _, value: answers.put((session, value)))
    detection.ask("z", question(0.5))
    assert slow.asked.get(timeout=5) == 0.5  # under way
    for session, number in zip("abcd", (0.125, 0.25, 0.375, 0.625), strict=True):
        detection.ask(session, question(number))
    slow.may_answer.release()
    assert answers.get(timeout=5) == ("z", 0.5)
    assert [slow.asked.get(timeout=5) for _ in range(3)] == [0.125, 0.25, 0.375]
    assert slow.asked.empty()
    slow.may_answer.release(2)
    found = [answers.get(timeout=5) for _ in range(4)]
    assert found == [("a", 0.125), ("b", 0.25), ("c", 0.375), ("d", 0.625)]
    detection.close()


def test_as_many_are_judged_at_a_time_as_there_are_threads(answers: Answers) -> None:
    slow = Slow(workers=2)
    detection = TurnDetection(slow, lambda session, _, value: answers.put((session, value)))
    detection.ask("a", question(0.125))
    detection.ask("b", question(0.25))
    assert {slow.asked.get(timeout=5) for _ in range(2)} == {0.125, 0.25}
    slow.may_answer.release(2)
    assert {answers.get(timeout=5)[0] for _ in range(2)} == {"a", "b"}
    detection.close()


def test_threads_share_what_waits(answers: Answers) -> None:
    slow = Slow(workers=2, max_batch=8)
    detection = TurnDetection(slow, lambda session, _, value: answers.put((session, value)))
    for session in "yz":
        detection.ask(session, question(0.5))
        slow.asked.get(timeout=5)
    for session in "abcd":
        detection.ask(session, question(0.125))
    slow.may_answer.release(1)
    for _ in range(2):
        slow.asked.get(timeout=5)
    assert slow.asked.empty(), "the other thread has its part"
    slow.may_answer.release(9)
    assert len([answers.get(timeout=5) for _ in range(6)]) == 6
    detection.close()


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=40))
def test_at_most_one_question_of_a_session_waits(steps: list[tuple[str, bool]]) -> None:
    slow: Slow = Slow()
    detection = TurnDetection(slow, lambda *_: None)
    try:
        detection.ask("z", question(0.5))
        slow.asked.get(timeout=5)
        waiting = set()
        for session, asks in steps:
            if asks:
                detection.ask(session, question(0.5))
                waiting.add(session)
            else:
                detection.forget(session)
                waiting.discard(session)
        slow.may_answer.release(50)
        for _ in waiting:
            slow.asked.get(timeout=5)
        assert slow.asked.empty()
    finally:
        detection.close()
        slow.may_answer.release(50)
