"""uvicorn's HTTP/1.1, for clients that take their time: it has no limit of its own on that."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

REQUEST_TIMEOUT = 60.0
"""Seconds from a request's headers until the client has taken its answer."""


def timed_http(header_timeout: float) -> type[H11Protocol]:
    """Return a protocol that closes a connection whose next headers take longer than this."""

    class TimedHttp(H11Protocol):
        _timer: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._expect_headers()

        def on_response_complete(self) -> None:
            super().on_response_complete()
            if not self.transport.is_closing():
                self._expect_headers()

        def handle_websocket_upgrade(self, event: Any) -> None:
            self._stop_timer()  # the sockets have limits of their own
            super().handle_websocket_upgrade(event)

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop_timer()
            super().connection_lost(exc)

        def _expect_headers(self) -> None:
            self._stop_timer()
            self._timer = self.loop.call_later(header_timeout, self._headers_are_due)

        def _headers_are_due(self) -> None:
            if self.cycle is None or self.cycle.response_complete:
                self.transport.abort()
            else:
                self._timer = self.loop.call_later(REQUEST_TIMEOUT, self.transport.abort)

        def _stop_timer(self) -> None:
            if self._timer is not None:
                self._timer.cancel()

    return TimedHttp
