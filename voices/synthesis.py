"""Runs a voice in worker threads and hands its sound back to the event loop, at 24 kHz."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import soxr
from numpy.typing import NDArray

from fusion import metrics, tasks
from fusion.audio import SPEECH_RATE
from fusion.errors import ModelError
from fusion.watchdog import watched
from voices.base import Voice
from voices.crash_record import CrashRecord
from voices.speech import Speech, SpokenClause

logger = logging.getLogger(__name__)

# Seconds that a voice may be silent in the middle of a clause: Kokoro, the slowest, takes eight.
_PATIENCE = 40.0


class Synthesis:
    """As many clauses at once as the voice can speak; what is spoken next is asked each time.

    `choose` returns the next clause to speak with its speech, speaker and language, or None.
    `changed` is called in the event loop whenever sound was added or a clause is finished;
    `failed` when the voice raised a ModelError. Any other error is one of the event loop.
    `record` knows the clauses that end a process.
    """

    def __init__(
        self,
        voice: Voice,
        choose: Callable[[], tuple[Speech, SpokenClause, str, str] | None],
        changed: Callable[[Speech], None],
        failed: Callable[[Speech, ModelError], None],
        record: CrashRecord,
    ) -> None:
        self._voice = voice
        self._choose = choose
        self._changed = changed
        self._failed = failed
        self._record = record
        self._loop = asyncio.get_running_loop()
        self._pool = ThreadPoolExecutor(voice.max_concurrent, thread_name_prefix="voice")
        self._running: set[asyncio.Future[None]] = set()

    def wake(self) -> None:
        """Something may have to be spoken: start as much as there is room for."""
        while len(self._running) < self._voice.max_concurrent:
            chosen = self._choose()
            if chosen is None:
                return
            speech, clause, speaker, language = chosen
            clause.started = True
            work = self._loop.run_in_executor(
                self._pool, self._speak, speech, clause, speaker, language
            )
            self._running.add(work)
            work.add_done_callback(partial(self._done, speech))

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _done(self, speech: Speech, work: asyncio.Future[None]) -> None:
        self._running.discard(work)
        if work.cancelled():
            return
        try:
            work.result()
        except ModelError as error:
            self._failed(speech, error)
        self.wake()

    def _speak(self, speech: Speech, clause: SpokenClause, speaker: str, language: str) -> None:
        """In a worker thread: speak one clause, unless it has ended two processes."""
        if not self._record.begin(clause.words):
            logger.error("a clause is left out: the voice's process died of it twice")
            metrics.DROPS.labels("clause that kills the voice").inc()
            clause.fatal = True
            self._hand_over(speech, clause, np.zeros(0, np.float32), finished=True)
            return
        try:
            self._synthesize(speech, clause, speaker, language)
        except ModelError:
            self._record.end(clause.words)
            raise
        self._record.end(clause.words)

    def _synthesize(
        self, speech: Speech, clause: SpokenClause, speaker: str, language: str
    ) -> None:
        """Speak one clause, resampled piece by piece."""
        stream = soxr.ResampleStream(self._voice.sample_rate, SPEECH_RATE, 1, dtype="float32")
        began, made = time.monotonic(), 0
        with watched("the voice", _PATIENCE) as call:
            for sound in self._voice.synthesize(
                clause.words,
                language=language,
                speaker=speaker,
                cancelled=lambda: speech.cancelled or clause.broken,
            ):
                call.progress()
                made += len(sound)
                self._hand_over(speech, clause, stream.resample_chunk(sound))
        rest = stream.resample_chunk(np.zeros(0, np.float32), last=True)
        ended, seconds = time.monotonic(), made / self._voice.sample_rate
        metrics.called("synthesis", ended - began, seconds)
        speech.trace.spoken(speech.clauses.index(clause) + 1, began, ended, seconds)
        self._hand_over(speech, clause, rest, finished=True)

    def _hand_over(
        self,
        speech: Speech,
        clause: SpokenClause,
        sound: NDArray[np.float32],
        finished: bool = False,
    ) -> None:
        now = time.monotonic()

        def deliver() -> None:
            if len(sound) and not clause.broken:
                clause.add(np.ascontiguousarray(sound, dtype="<f4"), now)
            clause.finished = clause.finished or finished
            self._changed(speech)

        tasks.call_in(self._loop, deliver)
