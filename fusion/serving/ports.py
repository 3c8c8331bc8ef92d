"""Sockets that listen within limits, and a WebSocket port that opens before its model is loaded."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any

from websockets.asyncio.server import ServerConnection, serve

from fusion.errors import ConfigurationError
from fusion.serving import tls
from fusion.serving.access import AccessPolicy, select_subprotocol
from fusion.serving.limits import BACKLOG, Connections, Peer
from fusion.settings import Settings

PURPOSES = {
    "transcription": "transcription",
    "speech": "speech",
    "web": "the web page",
    "wyoming": "Wyoming",
}
"""What the ports are for, by the first word of their settings."""

# A client whose audio waits for its turn still has to get its keepalive through: what lies between
# it and us must be little, as a pong comes behind all of it.
QUEUED_MESSAGES = 4
_RECEIVE_BUFFER = 1 << 17

# What the system holds for a client that does not read: grown as Linux likes to, it hides half a
# minute of sound from what waits for the client, a relay before all.
_SEND_BUFFER = 1 << 17

ConnectionHandler = Callable[[ServerConnection, AccessPolicy], Awaitable[None]]


def listen(host: str, port: int) -> list[socket.socket]:
    """Return listening sockets, one for each address of a host; "::" takes IPv4 clients as well.

    An empty host means every IPv4 address. Raises OSError.
    """
    found = socket.getaddrinfo(
        host or "0.0.0.0", port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    listeners: list[socket.socket] = []
    with contextlib.ExitStack() as unless_all_are_open:
        for family, _, _, _, address in dict.fromkeys(found):
            both = family == socket.AF_INET6 and address[0] == "::"
            listener = socket.create_server(
                (str(address[0]), port),
                family=family,
                backlog=BACKLOG,
                dualstack_ipv6=both and socket.has_dualstack_ipv6(),
            )
            unless_all_are_open.enter_context(listener)
            # Connections inherit it. asyncio sets it itself for sockets that it makes, but not for
            # given ones, and small messages then wait up to 40 ms for those before them to be
            # acknowledged.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            listeners.append(listener)
        unless_all_are_open.pop_all()
    return listeners


class LimitedListener(socket.socket):
    """A listening socket that closes waiting connections to make room for newer ones.

    It counts a connection from `accept` on, before any TLS handshake, until it is closed.
    """

    def __init__(self, listener: socket.socket, connections: Connections) -> None:
        super().__init__(listener.family, listener.type, listener.proto, listener.detach())
        self._connections = connections
        self._accepted: dict[Peer, _Accepted] = {}

    def accept(self) -> tuple[socket.socket, Any]:
        connection, address = super().accept()
        peer: Peer = (str(address[0]), int(address[1]))
        accepted = _Accepted(connection, partial(self._forget, peer))
        self._accepted[peer] = accepted
        too_many = self._connections.opened(peer)
        if too_many in self._accepted:
            with contextlib.suppress(OSError):  # it is gone already
                self._accepted[too_many].shutdown(socket.SHUT_RDWR)  # the event loop closes it
        return accepted, address

    def _forget(self, peer: Peer) -> None:
        self._accepted.pop(peer, None)
        self._connections.closed(peer)


class _Accepted(socket.socket):
    """A client's socket that tells when it is closed."""

    def __init__(self, accepted: socket.socket, on_close: Callable[[], None]) -> None:
        super().__init__(accepted.family, accepted.type, accepted.proto, accepted.detach())
        self._on_close = on_close

    def close(self) -> None:
        super().close()
        self._on_close()


def open_listeners(settings: Settings, purpose: str) -> list[socket.socket]:
    """Listen on the port of that purpose, one of `PURPOSES`. Raises ConfigurationError."""
    setting = f"{purpose}_port"
    number: int = getattr(settings, setting)
    host_setting = "wyoming_host" if purpose == "wyoming" else "host"
    host: str = getattr(settings, host_setting)
    try:
        return listen(host, number)
    except OSError as error:
        if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
            sentence = (
                f"--{host_setting} {host} is no address of this machine ({error.strerror}): name "
                "one that it has, or leave it out to listen on all."
            )
        else:
            reason = os.strerror(error.errno or 0)  # its own text names the address as well
            sentence = (
                f"Port {number} for {PURPOSES[purpose]} cannot be opened ({reason}): stop "
                f"the program that uses it or choose another with --{setting}."
            )
        raise ConfigurationError(sentence) from error


@contextlib.asynccontextmanager
async def open_port(
    settings: Settings, purpose: str, *, access: AccessPolicy, max_size: int
) -> AsyncIterator[asyncio.Future[ConnectionHandler]]:
    """Listen on the `purpose` port ("transcription" or "speech") for messages of `max_size` bytes.

    Clients wait until the future that this yields has what serves them. What that raises ends its
    connection with close code 1011. Raises ConfigurationError when the port cannot be opened.
    """
    handler: asyncio.Future[ConnectionHandler] = asyncio.get_running_loop().create_future()

    async def on_connection(connection: ServerConnection) -> None:
        serve_client = await asyncio.shield(handler)
        await serve_client(connection, access)

    timeout = settings.handshake_timeout
    context = tls.ssl_context(settings)
    servers = [
        await serve(
            on_connection,
            sock=LimitedListener(listener, access.connections),
            backlog=BACKLOG,
            ssl=context,
            ssl_handshake_timeout=timeout if context else None,
            open_timeout=timeout,
            process_request=access.process_request,
            select_subprotocol=select_subprotocol,
            compression=None,
            max_size=max_size,
            max_queue=QUEUED_MESSAGES,
        )
        for listener in open_listeners(settings, purpose)
    ]
    yield handler  # an error of the body comes out at once, and ends the process with its sockets
    for server in servers:
        server.close()
    for server in servers:
        await server.wait_closed()
