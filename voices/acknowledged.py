"""How much of its sound a client has taken, by pings that go out behind it.

A WebSocket library answers a ping in its place among the messages: the answer says that all before
it was read. Until it comes, sound may lie in buffers of the system, where nobody hears it.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from voices.speech import Speech


class Pinged(Protocol):
    """What is needed of a connection."""

    async def ping(self) -> Awaitable[float]: ...


class Acknowledgements:
    """One connection's answers. At most one ping is under way, so a slow network gets few.

    `due` is when the sound before that ping will have been played (monotonic seconds), None while
    none is under way. `changed` is called when an answer came.
    """

    def __init__(self, connection: Pinged, changed: Callable[[], None]) -> None:
        self._connection = connection
        self._changed = changed
        self._closed = False
        self.due: float | None = None

    async def ask(self, speech: Speech, due: float) -> None:
        """Ask whether the client has taken what was sent of a speech; does not wait for it.

        Raises ConnectionClosed.
        """
        if self.due is not None:
            return
        self.due = due
        seconds = speech.seconds_sent
        pong = await self._connection.ping()
        assert isinstance(pong, asyncio.Future)  # as websockets documents
        pong.add_done_callback(partial(self._answered, speech, seconds))

    def close(self) -> None:
        """The connection hears the session no longer: its answers count for nothing."""
        self._closed = True

    def _answered(self, speech: Speech, seconds: float, pong: asyncio.Future[float]) -> None:
        if pong.cancelled() or pong.exception() is not None or self._closed:
            return  # the connection is gone
        self.due = None
        speech.seconds_taken = max(speech.seconds_taken, seconds)
        self._changed()


@dataclass(frozen=True)
class Played:
    """How many seconds of a reply's sound a client has played, by its own account."""

    turn: int
    seconds: float


def parse_played(message: str | bytes) -> Played | None:
    """A client's report, or None for anything else that it may say."""
    try:
        fields = json.loads(message)
    except (ValueError, RecursionError):
        return None
    if not isinstance(fields, dict) or fields.get("event") != "played":
        return None
    turn, seconds = fields.get("turn"), fields.get("seconds")
    if not isinstance(turn, int) or not isinstance(seconds, int | float):
        return None
    return Played(turn, float(seconds)) if 0 <= seconds < math.inf else None
