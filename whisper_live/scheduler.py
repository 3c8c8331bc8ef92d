"""Which transcription runs next when several people speak.

Two lanes, a thread each. The first takes only what somebody waits for: the end of an utterance, a
possible interruption. The second takes live transcripts, and only while the first has nothing to
do, so that a final transcript is never held up by somebody's partial one.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass

from fusion.errors import ModelError
from whisper_live.events import Transcribe, Urgency
from whisper_live.transcribers.base import NOTHING_HEARD, Transcriber, TranscriptionRequest

logger = logging.getLogger(__name__)

# Threads wake to look whether they are still wanted.
_WAIT = 1.0


@dataclass(eq=False)
class Job:
    """One request of one session."""

    session: str
    event: Transcribe
    request: TranscriptionRequest


class Scheduler:
    """Runs transcriptions in their order of urgency.

    `done(job, text)` and `dropped(job)` are called from worker threads: the text of a job, or that
    a live one gave way.
    """

    def __init__(
        self,
        transcriber: Transcriber,
        done: Callable[[Job, str], None],
        dropped: Callable[[Job], None],
    ) -> None:
        self._transcriber = transcriber
        self._done = done
        self._dropped = dropped
        self._changed = threading.Condition()
        self._waiting: list[Job] = []
        self._awaited_running = 0
        self._closed = False
        self._threads = [
            threading.Thread(target=self._work, args=(lane,), name=f"transcribe-{lane.name}")
            for lane in Urgency
        ]
        for thread in self._threads:
            thread.daemon = True
            thread.start()

    def submit(self, job: Job) -> None:
        """Queue a job. A session's newer revision or live transcript replaces its older one."""
        with self._changed:
            for older in [known for known in self._waiting if _replaces(job, known)]:
                self._waiting.remove(older)
                if older.event.urgency == Urgency.LIVE:
                    self._dropped(older)
            self._waiting.append(job)
            self._changed.notify_all()

    def forget(self, session: str) -> None:
        """The session is over: its jobs do not matter any more."""
        with self._changed:
            self._waiting = [job for job in self._waiting if job.session != session]

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(_WAIT)

    def _work(self, lane: Urgency) -> None:
        while (batch := self._take(lane)) is not None:
            try:
                transcripts = self._transcriber.transcribe([job.request for job in batch])
                texts = [transcript.text for transcript in transcripts]
            except ModelError as error:
                logger.error("a transcription failed: %s", error)
                texts = [NOTHING_HEARD.text] * len(batch)
            if lane == Urgency.AWAITED:
                with self._changed:
                    self._awaited_running -= 1
                    self._changed.notify_all()
            for job, text in zip(batch, texts, strict=True):
                self._done(job, text)

    def _take(self, lane: Urgency) -> list[Job] | None:
        """The lane's next jobs, as many as the transcriber takes at once; None at the end."""
        with self._changed:
            while not self._closed:
                batch = [job for job in self._waiting if job.event.urgency == lane]
                free = lane == Urgency.AWAITED or not self._awaited_work()
                if batch and free:
                    batch = batch[: self._transcriber.max_batch]
                    for job in batch:
                        self._waiting.remove(job)
                    if lane == Urgency.AWAITED:
                        self._awaited_running += 1
                    return batch
                self._changed.wait(_WAIT)
            return None

    def _awaited_work(self) -> bool:
        waiting = any(job.event.urgency == Urgency.AWAITED for job in self._waiting)
        return waiting or self._awaited_running > 0


def _replaces(newer: Job, older: Job) -> bool:
    """Whether the older job is out of date: a piece never is, nor what belongs to another turn."""
    same = newer.session == older.session and newer.event.turn == older.event.turn
    return same and older.event.piece is None and newer.event.piece is None
