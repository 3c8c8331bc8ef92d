"""An inbox for an event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable

from fusion.channels import Inbox
from fusion.messages import Message

_CHECK_INTERVAL = 0.25  # seconds between looks at whether to end


async def received(
    inbox: Inbox, stop: threading.Event, beat: Callable[[], None]
) -> AsyncIterator[Message | None]:
    """The messages of an inbox, one after another, until `stop` is set.

    Yields None when nothing came for a while, so that the loop can look around. `beat` is called
    each time.
    """
    while not stop.is_set():
        message = await asyncio.to_thread(inbox.get, _CHECK_INTERVAL)
        beat()
        yield message
