"""Which transcription goes first, with a transcriber that answers when the test says so."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pytest

from fusion.errors import ModelError
from whisper_live.events import Priority, Revision, Transcribe
from whisper_live.scheduler import Job, Scheduler
from whisper_live.transcribers.base import NOTHING_HEARD, Transcript, TranscriptionRequest
from whisper_live.utterance import Segment

TIMEOUT = 5.0


class Gated:
    """Transcribes requests (named by the length of their audio) once the test lets the first go."""

    name = "gated"
    languages = frozenset({"en"})

    def __init__(self, max_batch: int = 1) -> None:
        self.max_batch = max_batch
        self.running: list[int] = []
        self.batches: list[list[int]] = []
        self.changed = threading.Condition()
        self.gates: dict[int, threading.Event] = {}

    def gate(self, number: int) -> threading.Event:
        with self.changed:
            return self.gates.setdefault(number, threading.Event())

    def warm_up(self) -> None:
        pass

    def close(self) -> None:
        pass

    def prepare(self, language: str | None) -> None:
        pass

    def transcribe(
        self,
        requests: Sequence[TranscriptionRequest],
        cancelled: Callable[[], bool] = lambda: False,
    ) -> list[Transcript]:
        self.cancelled = cancelled
        numbers = [len(request.audio) for request in requests]
        number = numbers[0]
        with self.changed:
            self.running += numbers
            self.batches.append(numbers)
            self.changed.notify_all()
        assert self.gate(number).wait(TIMEOUT)
        if number == 13:
            raise ModelError("broken on purpose")
        if cancelled():
            return [NOTHING_HEARD] * len(requests)
        return [
            Transcript(str(len(each.audio)), "en", doubtful=each.quick and len(each.audio) > 100)
            for each in requests
        ]


class World:
    """A scheduler, its transcriber, and what came of the jobs."""

    def __init__(self, max_batch: int = 1) -> None:
        self.transcriber = Gated(max_batch)
        self.results: list[tuple[str, str | None]] = []
        self.provisional: list[bool] = []
        self.dropped: list[Job] = []
        self.changed = threading.Condition()
        self.scheduler = Scheduler(self.transcriber, self._done, self.dropped.append)

    def _done(self, job: Job, transcript: Transcript | None, provisional: bool) -> None:
        with self.changed:
            self.provisional += [provisional]
            self.results.append((job.session, transcript.text if transcript else None))
            self.changed.notify_all()

    def submit(
        self,
        number: int,
        priority: Priority,
        session: str = "",
        turn: int = 1,
        *,
        quick: bool = False,
    ) -> Job:
        audio = np.zeros(number, np.float32)
        revision = Revision(turn, 1, 0.0, 0) if priority == Priority.AWAITED else None
        event = Transcribe(turn, audio, priority, revision=revision)
        job = Job(session or str(number), event, TranscriptionRequest(audio, quick=quick))
        self.scheduler.submit(job)
        return job

    def let(self, number: int) -> None:
        self.transcriber.gate(number).set()

    def runs(self, *numbers: int) -> bool:
        with self.transcriber.changed:
            return self.transcriber.changed.wait_for(
                lambda: self.transcriber.running == list(numbers), TIMEOUT
            )

    def came(self, count: int) -> list[str | None]:
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.results) >= count, TIMEOUT)
            return [text for _, text in self.results]


@pytest.fixture
def max_batch() -> int:
    return 1


@pytest.fixture
def world(max_batch: int) -> Iterator[World]:
    world = World(max_batch)
    yield world
    for gate in world.transcriber.gates.values():
        gate.set()
    world.scheduler.close()


def test_live_transcripts_wait_for_what_is_awaited(world: World) -> None:
    world.submit(1, Priority.AWAITED)
    assert world.runs(1)
    world.submit(2, Priority.LIVE)
    world.submit(3, Priority.AWAITED)
    world.let(1)
    assert world.runs(1, 3)
    world.let(3)
    assert world.runs(1, 3, 2)
    world.let(2)
    assert world.came(3) == ["1", "3", "2"]


def test_an_end_goes_before_a_possible_interruption(world: World) -> None:
    world.submit(1, Priority.AWAITED)
    assert world.runs(1)
    world.submit(2, Priority.OVERLAPPING)
    world.submit(3, Priority.AWAITED)
    world.let(1)
    assert world.runs(1, 3)


def test_an_end_does_not_wait_for_a_possible_interruption(world: World) -> None:
    world.submit(1, Priority.OVERLAPPING)
    assert world.runs(1)
    world.submit(2, Priority.AWAITED)
    assert world.runs(1, 2)
    world.let(2)
    assert world.came(1) == ["2"]


def test_an_end_does_not_wait_for_a_live_transcript(world: World) -> None:
    world.submit(1, Priority.LIVE)
    assert world.runs(1)
    world.submit(2, Priority.AWAITED)
    assert world.runs(1, 2)


def test_a_live_transcript_is_given_up_for_an_end_and_reported(world: World) -> None:
    live = world.submit(1, Priority.LIVE)
    assert world.runs(1)
    given_up = world.transcriber.cancelled
    assert not given_up()
    world.submit(2, Priority.AWAITED)
    assert world.runs(1, 2)
    assert given_up()
    assert not world.transcriber.cancelled(), "an end is never given up"
    world.let(1)
    world.submit(3, Priority.LIVE)
    world.let(2)
    assert world.runs(1, 2, 3)
    assert world.dropped == [live]
    world.let(3)
    assert world.came(2) == ["2", "3"]


@pytest.mark.parametrize("priority", [Priority.LIVE, Priority.OVERLAPPING])
def test_a_live_transcript_that_gives_way_is_reported(world: World, priority: Priority) -> None:
    world.submit(1, Priority.AWAITED, session="other")
    assert world.runs(1)
    waiting = world.submit(2, priority, session="one")
    world.submit(3, Priority.AWAITED, session="one")
    assert world.dropped == [waiting]
    world.let(1)
    assert world.runs(1, 3)


def test_a_piece_gives_way_to_nothing(world: World) -> None:
    world.submit(1, Priority.AWAITED, session="other")
    assert world.runs(1)
    audio = np.zeros(2, np.float32)
    event = Transcribe(1, audio, Priority.AWAITED, segment=Segment(0, 1))
    world.scheduler.submit(Job("one", event, TranscriptionRequest(audio)))
    world.submit(3, Priority.AWAITED, session="one")
    for number in (1, 2, 3):
        world.let(number)
    assert world.came(3) == ["1", "2", "3"]


def test_a_session_that_is_over_is_forgotten(world: World) -> None:
    world.submit(1, Priority.AWAITED, session="other")
    assert world.runs(1)
    world.submit(2, Priority.AWAITED, session="one")
    world.submit(3, Priority.AWAITED, session="other", turn=2)
    world.scheduler.forget("one")
    world.let(1)
    assert world.runs(1, 3)


@pytest.mark.parametrize("max_batch", [3])
def test_sessions_share_a_batch_of_one_urgency(world: World) -> None:
    world.submit(1, Priority.AWAITED)
    assert world.runs(1)
    world.submit(2, Priority.LIVE)
    for number in (3, 4, 5, 6):
        world.submit(number, Priority.AWAITED)
    world.submit(7, Priority.OVERLAPPING)
    for number in (1, 3, 6, 7, 2):
        world.let(number)
    assert world.came(7) == ["1", "3", "4", "5", "6", "7", "2"]
    assert world.transcriber.batches == [[1], [3, 4, 5], [6], [7], [2]]
    assert all(session == text for session, text in world.results)


@pytest.mark.parametrize("max_batch", [2])
def test_a_batch_that_fails_has_failed_for_each(world: World) -> None:
    world.submit(1, Priority.AWAITED)
    assert world.runs(1)
    world.submit(13, Priority.AWAITED)
    world.submit(2, Priority.AWAITED)
    for number in (1, 13):
        world.let(number)
    assert world.came(3) == ["1", None, None]


def test_a_failure_has_no_text(world: World) -> None:
    world.submit(13, Priority.AWAITED)
    world.let(13)
    world.submit(2, Priority.AWAITED)
    world.let(2)
    assert world.came(2) == [None, "2"]


def test_a_doubtful_revision_is_looked_at_again_when_nothing_else_waits(world: World) -> None:
    first = world.submit(101, Priority.AWAITED, quick=True)
    assert world.runs(101)
    world.submit(1, Priority.AWAITED)
    world.let(1)
    world.let(101)
    assert world.came(3) == ["101", "1", "101"]
    assert world.provisional == [True, False, False]
    assert first.request.quick


def test_an_end_that_comes_in_a_longer_look_does_not_wait_for_it(world: World) -> None:
    audio = np.zeros(101, np.float32)
    again = Transcribe(1, audio, Priority.AWAITED, Revision(1, 1, 0.0, 0))
    world.scheduler.submit(Job("x", again, TranscriptionRequest(audio), corrects=True))
    assert world.runs(101)
    world.submit(1, Priority.AWAITED)
    assert world.runs(101, 1)
    world.let(1)
    assert world.came(1) == ["1"]


def test_a_longer_look_does_not_replace_what_was_asked_later(world: World) -> None:
    world.submit(101, Priority.AWAITED, session="one", quick=True)
    assert world.runs(101)
    world.submit(2, Priority.AWAITED, session="one")
    world.let(2)
    world.let(101)
    assert "2" in world.came(3)
