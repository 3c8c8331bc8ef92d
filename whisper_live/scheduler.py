"""Which transcription runs next when several people speak.

Two threads. The first takes what somebody waits for: the end of an utterance, then what may be an
interruption, then a longer look at a doubtful text. The second takes live transcripts while the
first has nothing to do, and the end of an utterance that comes while the first is at something less
urgent: a final transcript is never held up by somebody's partial one. A transcriber that runs one
call at a time would hold it up all the same, so a live transcript is given up while the first
thread has something to do.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from fusion import metrics, tasks
from fusion.audio import SAMPLE_RATE
from fusion.errors import ModelError
from fusion.watchdog import watched
from whisper_live.events import Priority, Transcribe
from whisper_live.transcribers.base import (
    NOTHING_HEARD,
    Transcriber,
    Transcript,
    TranscriptionRequest,
)

logger = logging.getLogger(__name__)

# Threads wake to look whether they are still wanted.
_WAIT = 1.0

# Seconds that a transcription may take beside those of its audio: a hundred times what it does.
_PATIENCE = 30.0


@dataclass(eq=False)
class Job:
    """One request of one session, or a longer look that may correct its answer."""

    session: str
    event: Transcribe
    request: TranscriptionRequest
    corrects: bool = False
    submitted_at: float = field(default_factory=time.monotonic)

    @property
    def priority(self) -> Priority:
        return Priority.CORRECTION if self.corrects else self.event.priority

    def longer(self) -> Job:
        """The same again, with all the time that it takes."""
        request = replace(self.request, quick=False)
        return replace(self, request=request, corrects=True, submitted_at=time.monotonic())


class Scheduler:
    """Runs transcriptions in their order of priority.

    `done(job, transcript, provisional)` and `dropped(job)` are called from worker threads: what was
    said (None if the transcriber failed), or that a live one gave way. A provisional transcript
    comes once more, after a longer look at the same audio.
    """

    def __init__(
        self,
        transcriber: Transcriber,
        done: Callable[[Job, Transcript | None, bool], None],
        dropped: Callable[[Job], None],
    ) -> None:
        self._transcriber = transcriber
        self._done = done
        self._dropped = dropped
        self._changed = threading.Condition()
        self._waiting: list[Job] = []
        self._meter = metrics.QueueMeter("transcriptions")
        self._first_runs: Priority | None = None
        self._closed = False
        self._threads = [
            tasks.thread(f"transcribe-{number}", self._work, first)
            for number, first in enumerate((True, False), start=1)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, job: Job) -> None:
        """Queue a job. A session's newer revision or live transcript replaces its older one."""
        with self._changed:
            for older in [known for known in self._waiting if _replaces(job, known)]:
                self._waiting.remove(older)
                metrics.DROPS.labels("newer transcription").inc()
                if older.event.revision is None:
                    self._dropped(older)
            self._waiting.append(job)
            self._meter.holds(len(self._waiting))
            self._changed.notify_all()

    def forget(self, session: str) -> None:
        """The session is over: its jobs do not matter any more."""
        with self._changed:
            self._waiting = [job for job in self._waiting if job.session != session]
            self._meter.holds(len(self._waiting))

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(_WAIT)

    def _work(self, first: bool) -> None:
        while (batch := self._take(first)) is not None:
            given_up = _GivenUp(self, batch[0].priority)
            results: Sequence[Transcript | None]
            seconds = sum(len(job.request.audio) for job in batch) / SAMPLE_RATE
            try:
                with (
                    watched("the transcriber", _PATIENCE + seconds),
                    metrics.model_call("transcription", seconds),
                ):
                    results = self._transcriber.transcribe([job.request for job in batch], given_up)
            except ModelError as error:
                logger.error("a transcription failed: %s", error)
                results = [None] * len(batch)
            if first:
                with self._changed:
                    self._first_runs = None
                    self._changed.notify_all()
            for job, result in zip(batch, results, strict=True):
                if result is NOTHING_HEARD and given_up.said:
                    metrics.DROPS.labels("live transcript gave way").inc()
                    self._dropped(job)
                else:
                    self._deliver(job, result)

    def _deliver(self, job: Job, result: Transcript | None) -> None:
        """Hand over what was said; a job that a longer look may correct is submitted again."""
        again = result is not None and result.doubtful and job.event.revision is not None
        self._done(job, result, again)
        if again:
            self.submit(job.longer())

    def _take(self, first: bool) -> list[Job] | None:
        """A thread's next jobs, as many as the transcriber takes at once; None at the end."""
        with self._changed:
            while not self._closed:
                priority = self._next_for_first() if first else self._next_for_second()
                if priority is not None:
                    batch = [job for job in self._waiting if job.priority == priority]
                    batch = batch[: self._transcriber.max_batch]
                    for job in batch:
                        self._waiting.remove(job)
                        self._meter.left(job.submitted_at)
                    self._meter.holds(len(self._waiting))
                    if first:
                        self._first_runs = priority
                    return batch
                self._changed.wait(_WAIT)
            return None

    def _next_for_first(self) -> Priority | None:
        return min((u for u in self._urgencies() if u != Priority.LIVE), default=None)

    def _next_for_second(self) -> Priority | None:
        waiting = self._urgencies()
        if self._first_runs in (Priority.OVERLAPPING, Priority.CORRECTION):
            return Priority.AWAITED if Priority.AWAITED in waiting else None
        return Priority.LIVE if self._first_runs is None and waiting == {Priority.LIVE} else None

    def first_is_busy(self) -> bool:
        """Whether somebody waits for what runs now."""
        return self._first_runs is not None

    def _urgencies(self) -> set[Priority]:
        return {job.priority for job in self._waiting}


class _GivenUp:
    """Asked by the transcriber: whether a live transcript gives way. Remembers that it said so."""

    def __init__(self, scheduler: Scheduler, priority: Priority) -> None:
        self._scheduler = scheduler
        self._live = priority == Priority.LIVE
        self.said = False

    def __call__(self) -> bool:
        self.said = self.said or (self._live and self._scheduler.first_is_busy())
        return self.said


def _replaces(newer: Job, older: Job) -> bool:
    """Whether the older job is out of date; a segment never is, nor what another turn needs."""
    same = newer.session == older.session and newer.event.turn == older.event.turn
    segments = older.event.segment or newer.event.segment
    return same and segments is None and not newer.corrects
