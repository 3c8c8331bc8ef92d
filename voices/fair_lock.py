"""Threads that share what only one of them may use at a time, and pass it on often."""

from __future__ import annotations

import threading
from collections import deque
from types import TracebackType

from fusion.errors import ModelError

# Compiling a model, the longest that anyone holds it, takes a minute or two.
_TIMEOUT = 300.0


class FairLock:
    """A lock that is taken in the order in which it was asked for, so that nobody starves.

    (`threading.Lock` gives no such promise: whoever releases it and asks again mostly has it.)
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._queue: deque[object] = deque()
        """Who has the turn, and then who waits for it."""

    def __enter__(self) -> None:
        """Wait for the turn. Raises ModelError when it does not come within five minutes."""
        with self._changed:
            me = object()
            self._queue.append(me)
            if not self._changed.wait_for(lambda: self._queue[0] is me, _TIMEOUT):
                self._queue.remove(me)
                raise ModelError("The GPU is stuck in somebody else's work; restart the server.")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with self._changed:
            self._queue.popleft()
            self._changed.notify_all()

    def pass_on(self) -> None:
        """Let those who wait go first, each until it passes on; for who has the turn."""
        with self._changed:
            nobody_waits = len(self._queue) == 1
        if not nobody_waits:
            self.__exit__(None, None, None)
            self.__enter__()
