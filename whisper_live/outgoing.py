"""Messages on their way to one client, over one connection after another."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

# Messages that wait for a client that does not read; beyond them it is gone.
MOST_UNSENT = 512

# Messages remembered after they were sent: enough for all that one turn says.
_REMEMBERED = 32


@dataclass(frozen=True, eq=False)
class _Message:
    """`growing` is whether a later one holds all that it says: a transcript or reply so far."""

    text: str
    turn: int | None
    growing: bool


class OutgoingMessages:
    """A queue that knows what a lost connection may not have delivered. Not thread-safe."""

    def __init__(self, uid: str) -> None:
        self._uid = uid
        self._waiting: deque[_Message] = deque()
        self._sent: deque[_Message] = deque(maxlen=_REMEMBERED)
        self._changed = asyncio.Event()
        self._emptied = asyncio.Event()
        self._emptied.set()
        self.held = False
        """Whether nobody is there: what a later message will say as well is not kept."""

    def put(self, fields: dict[str, Any], *, first: bool = False) -> bool:
        """Queue a message, or let it come `first`; False when too many wait."""
        message = self._message(fields)
        if self.held and message.growing:
            return True
        if len(self._waiting) >= MOST_UNSENT:
            return False
        if first:
            self._waiting.appendleft(message)
        else:
            self._waiting.append(message)
        self._emptied.clear()
        self._changed.set()
        return True

    async def write(self, send: Callable[[str], Awaitable[None]]) -> None:
        """Send what waits and what comes, until cancelled. Raises what `send` raises."""
        while True:
            while self._waiting:
                message = self._waiting[0]
                await send(message.text)
                self._waiting.popleft()
                if not message.growing:
                    self._sent.append(message)
            self._emptied.set()
            self._changed.clear()
            await self._changed.wait()

    async def all_sent(self) -> None:
        """Wait until nothing waits."""
        await self._emptied.wait()

    def send_again(self) -> None:
        """Send on a new connection what waits, after all that the latest two turns have come to.

        Whether the last connection delivered what it took is not known, the end of a turn that the
        next one interrupted included. Messages that name their turn may come twice: they say the
        same again.
        """
        told = [*self._sent, *self._waiting]
        latest = max((message.turn for message in told if message.turn is not None), default=0)
        again = [message for message in self._sent if message.turn and message.turn >= latest - 1]
        self._waiting = deque([*again, *(each for each in self._waiting if not each.growing)])
        self._sent.clear()
        self._changed.set()

    def _message(self, fields: dict[str, Any]) -> _Message:
        growing = fields.get("eos") is False
        return _Message(json.dumps({"uid": self._uid, **fields}), fields.get("turn"), growing)
