"""What a service waits for in its event loop: a neighbour, then one message after another."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable

from fusion.channels import Inbox
from fusion.messages import Message
from fusion.status import Phase, Service, ServiceStatus

_CHECK_INTERVAL = 0.25  # seconds between looks at whether to end
_POLL_INTERVAL = 0.05  # between looks at whether a neighbour is ready


async def neighbour_is_ready(
    neighbour: Service, status: ServiceStatus, stop: threading.Event, beat: Callable[[], None]
) -> bool:
    """Wait until a service is ready; False when this one has to end before."""
    while status.phase(neighbour) != Phase.READY:
        if stop.is_set():
            return False
        beat()
        await asyncio.sleep(_POLL_INTERVAL)
    return not stop.is_set()


async def pipeline_is_ready(status: ServiceStatus) -> None:
    """Wait until the whole pipeline can answer."""
    while status.not_ready() is not None:  # noqa: ASYNC110 - shared memory wakes nobody
        await asyncio.sleep(_POLL_INTERVAL)


async def received(
    inbox: Inbox, stop: threading.Event, beat: Callable[[], None]
) -> AsyncIterator[Message | None]:
    """The messages of an inbox, one after another, until `stop` is set.

    Yields None when nothing came for a while, so that the loop can look around. `beat` is called
    each time.
    """
    while not stop.is_set():
        message = await inbox.get(_CHECK_INTERVAL)
        beat()
        yield message
