"""Whose words go first when one thread makes all replies: everybody's first clause, then the rest.

A reply that has a head start keeps its voice busy for seconds; a person to whom nothing was
played yet is waiting. So the first pauses until the other has a head start too.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from language_models.generations import HEAD_START

LONGEST_PAUSE = 1.5
"""Seconds. A head start is spoken in two to three, and others' prompts may be long."""


class Pacing:
    """The replies under way and how far each of them is. Safe from any thread."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._made: dict[object, int] = {}
        self._granted: dict[object, int] = {}

    def enter(self, reply: object) -> None:
        """A reply is begun."""
        with self._changed:
            self._made[reply] = 0
            self._granted[reply] = HEAD_START

    def leave(self, reply: object) -> None:
        """It is over."""
        with self._changed:
            del self._made[reply], self._granted[reply]
            self._changed.notify_all()

    def advance(self, reply: object) -> bool:
        """It has one more piece of text; whether it must `pause` now."""
        with self._changed:
            self._made[reply] += 1
            self._changed.notify_all()
            return self._must_pause(reply)

    def pause(self, reply: object, stopped: Callable[[], bool]) -> None:
        """Wait until nobody is behind, at most `LONGEST_PAUSE`, or the reply is stopped.

        Who stops it calls `wake`.
        """
        with self._changed:
            self._changed.wait_for(
                lambda: stopped() or not self._must_pause(reply), timeout=LONGEST_PAUSE
            )
            self._granted[reply] = self._made[reply] + HEAD_START

    def wake(self) -> None:
        """Have whoever pauses look again whether it was stopped."""
        with self._changed:
            self._changed.notify_all()

    def _must_pause(self, reply: object) -> bool:
        if self._made[reply] < self._granted[reply]:
            return False
        return any(made < HEAD_START for other, made in self._made.items() if other is not reply)
