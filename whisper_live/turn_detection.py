"""Asks the turn detector for all sessions, in threads of its own.

A question holds seconds of audio, and speech with many short pauses asks faster than the detector
answers. So a session has one question at most: a newer one takes the place of the one that waits,
which nobody wants answered any more, and what a session asked goes with it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from fusion import metrics, tasks
from fusion.errors import ModelError
from whisper_live.events import PredictTurn

logger = logging.getLogger(__name__)

# Seconds after which the thread looks whether it is still wanted.
_WAIT = 1.0


class TurnDetector(Protocol):
    """What is asked: the probability, 0 to 1, that each person is done.

    It is asked in `workers` threads, for at most `max_batch` people at once.
    """

    max_batch: int
    workers: int

    def probabilities(self, audios: Sequence[NDArray[np.float32]]) -> list[float]: ...


class TurnDetection:
    """The sessions' questions. Safe to call from several threads.

    `answered(session, question, probability)` is called in one of the threads, and not for a
    question that failed: its turn ends as if it were unsure. Any error but a ModelError ends the
    process.
    """

    def __init__(
        self, detector: TurnDetector, answered: Callable[[str, PredictTurn, float], None]
    ) -> None:
        self._detector = detector
        self._answered = answered
        self._changed = threading.Condition()
        self._waiting: dict[str, tuple[PredictTurn, float]] = {}  # who asked first comes first
        self._meter = metrics.QueueMeter("turn detections")
        self._closed = False
        for _ in range(detector.workers):
            tasks.thread("turn-detector", self._work).start()

    def ask(self, session: str, question: PredictTurn) -> None:
        """Queue a question, in the place of one of this session that waits."""
        with self._changed:
            if session in self._waiting:
                metrics.DROPS.labels("newer turn detection").inc()
            asked_at = self._waiting.get(session, (None, time.monotonic()))[1]
            self._waiting[session] = question, asked_at
            self._count()
            self._changed.notify_all()

    def forget(self, session: str) -> None:
        """The session is over."""
        with self._changed:
            self._waiting.pop(session, None)
            self._count()

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._waiting.clear()
            self._changed.notify_all()

    def _count(self) -> None:
        self._meter.holds(len(self._waiting))

    def _take(self) -> list[tuple[str, PredictTurn]]:
        """The next questions; none at the end."""
        with self._changed:
            while not self._closed:
                if self._waiting:
                    return [self._next() for _ in range(self._share())]
                self._changed.wait(_WAIT)
            return []

    def _share(self) -> int:
        """How many one thread takes of what waits, so that the others have their part."""
        share = -(-len(self._waiting) // self._detector.workers)
        return min(share, self._detector.max_batch)

    def _next(self) -> tuple[str, PredictTurn]:
        session = next(iter(self._waiting))
        question, asked_at = self._waiting.pop(session)
        self._meter.left(asked_at)
        self._count()
        return session, question

    def _work(self) -> None:
        while taken := self._take():
            try:
                found = self._detector.probabilities([question.audio for _, question in taken])
            except ModelError as error:
                logger.error("%s", error)
            else:
                for (session, question), probability in zip(taken, found, strict=True):
                    self._answered(session, question, probability)
                    del question
            del taken  # audio that nobody needs while nothing is asked
