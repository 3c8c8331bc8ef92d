"""Notices work that hangs, and ends its process.

A call into a native library that never returns holds its thread for good: nothing but the end of
the process ends it, and a restarted one answers again within seconds. So every model call is made
within `watched`, which says how long such a call may go without progress.

Only time in which this process ran counts: a machine that slept, or a process that was stopped and
continued, hangs no more than before.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from fusion import tasks

logger = logging.getLogger(__name__)

T = TypeVar("T")

LOADING_PATIENCE = 600.0
"""Seconds; compiling a voice for a GPU, the longest that tells no progress, takes three minutes."""

TICK = 0.25
"""Seconds between two looks; a longer gap between them counts as two of these."""


class Call:
    """One call under way. `progress` may be called from any thread."""

    def __init__(self, what: str, patience: float) -> None:
        self.what = what
        self.patience = patience
        self.waited = 0.0
        """Seconds without progress."""

    def progress(self) -> None:
        """Say that it goes on: its time begins anew."""
        self.waited = 0.0


class Watchdog:
    """The calls under way in this process. Safe from any thread.

    `end` is called with a sentence once a call is overdue.
    """

    def __init__(self, end: Callable[[str], None]) -> None:
        self._end = end
        self._lock = threading.Lock()
        self._calls: set[Call] = set()
        self._thread: threading.Thread | None = None

    @contextlib.contextmanager
    def watched(self, what: str, patience: float) -> Iterator[Call]:
        """Make a call within the block; it may go `patience` seconds without progress."""
        call = Call(what, patience)
        with self._lock:
            self._calls.add(call)
            if self._thread is None:
                self._thread = tasks.thread("watchdog", self._run)
                self._thread.start()
        try:
            yield call
        finally:
            with self._lock:
                self._calls.discard(call)

    def progress(self) -> None:
        """Say that the process goes on, as a download does that calls may wait for."""
        with self._lock:
            for call in self._calls:
                call.progress()

    def look(self, elapsed: float) -> str | None:
        """Let `elapsed` seconds pass for all calls; a sentence about one that is overdue."""
        with self._lock:
            for call in self._calls:
                call.waited += elapsed
            late = [call for call in self._calls if call.waited > call.patience]
        if not late:
            return None
        worst = max(late, key=lambda call: call.waited - call.patience)
        return f"{worst.what} hangs: no progress for {worst.patience:.0f} s"

    def _run(self) -> None:
        before = time.monotonic()
        while True:
            time.sleep(TICK)
            now = time.monotonic()
            sentence = self.look(min(now - before, 2 * TICK))
            before = now
            if sentence is not None:
                self._end(sentence)
                return


def _end_process(sentence: str) -> None:
    logger.critical("%s; this process is ended", sentence)
    logging.shutdown()
    os._exit(1)


_WATCHDOG = Watchdog(_end_process)

watched = _WATCHDOG.watched
"""`Watchdog.watched` of this process: a call that is overdue ends it with exit code 1."""

progress = _WATCHDOG.progress
"""`Watchdog.progress` of this process."""


async def load(what: str, work: Callable[[], T]) -> T:
    """Load a model in a thread of its own: `LOADING_PATIENCE` without progress is a hang."""

    def watched_work() -> T:
        with watched(f"loading the {what}", LOADING_PATIENCE):
            return work()

    return await tasks.in_thread("load", watched_work)
