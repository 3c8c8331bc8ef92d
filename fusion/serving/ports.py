"""Sockets that listen, and a WebSocket port that takes clients in before its model is loaded."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable

from websockets.asyncio.server import ServerConnection, serve

from fusion.errors import ConfigurationError
from fusion.serving import tls
from fusion.serving.access import AccessPolicy
from fusion.settings import Settings

PURPOSES = {"transcription": "transcription", "speech": "speech", "web": "the web page"}
"""What the three ports are for, by the first word of their settings."""

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
                backlog=128,
                dualstack_ipv6=both and socket.has_dualstack_ipv6(),
            )
            unless_all_are_open.enter_context(listener)
            # Connections inherit it. asyncio sets it itself for sockets that it makes, but not for
            # given ones, and small messages then wait up to 40 ms for those before them to be
            # acknowledged.
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            listeners.append(listener)
        unless_all_are_open.pop_all()
    return listeners


def open_listeners(settings: Settings, purpose: str) -> list[socket.socket]:
    """Listen on the port of that purpose, one of `PURPOSES`. Raises ConfigurationError."""
    setting = f"{purpose}_port"
    number: int = getattr(settings, setting)
    try:
        return listen(settings.host, number)
    except OSError as error:
        if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
            sentence = (
                f"--host {settings.host} is no address of this machine ({error.strerror}): name "
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

    listeners = open_listeners(settings, purpose)
    servers = [
        await serve(
            on_connection,
            sock=listener,
            ssl=tls.ssl_context(settings),
            process_request=access.process_request,
            compression=None,
            max_size=max_size,
        )
        for listener in listeners
    ]
    yield handler  # an error of the body comes out at once, and ends the process with its sockets
    for server in servers:
        server.close()
    for server in servers:
        await server.wait_closed()
