"""A request to a server that another thread can end at any moment."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Mapping
from typing import Any

logger = logging.getLogger(__name__)


class AbortableConnection:
    """The socket of one request, which another thread may shut.

    Closing a socket does not wake a thread that reads from it; shutting it does. httpx tells of
    the socket through its `trace` extension. Until it is connected there is none, so a
    cancellation can last as long as the connecting does (at most `CONNECT_TIMEOUT`).
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._shut = False

    def trace(self, event: str, info: Mapping[str, Any]) -> None:
        """httpx calls this at each step of a request."""
        if event in ("connection.connect_tcp.complete", "connection.start_tls.complete"):
            with self._lock:
                self._socket = info["return_value"].get_extra_info("socket")
                if self._shut:
                    self._shut_socket()

    def shut(self) -> None:
        with self._lock:
            self._shut = True
            self._shut_socket()

    def _shut_socket(self) -> None:
        if self._socket is None:
            return
        try:
            # The plain socket's method also for TLS, whose own would wait for the other side.
            socket.socket.shutdown(self._socket, socket.SHUT_RDWR)
        except OSError:
            logger.debug("The connection was closed already")
