"""A WebSocket port that takes clients in before the model behind it is loaded."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

from websockets.asyncio.server import ServerConnection, serve

from fusion.errors import ConfigurationError
from fusion.serving import tls
from fusion.serving.access import AccessPolicy
from fusion.settings import Settings

ConnectionHandler = Callable[[ServerConnection, AccessPolicy], Awaitable[None]]


@contextlib.asynccontextmanager
async def open_port(
    settings: Settings, purpose: str, *, access: AccessPolicy, max_size: int
) -> AsyncIterator[asyncio.Future[ConnectionHandler]]:
    """Listen on the `purpose` port ("transcription" or "speech") for messages of `max_size` bytes.

    Clients wait until the future that this yields has what serves them. What that raises ends its
    connection with close code 1011. Raises ConfigurationError when the port cannot be opened.
    """
    setting = f"{purpose}_port"
    number: int = getattr(settings, setting)
    handler: asyncio.Future[ConnectionHandler] = asyncio.get_running_loop().create_future()

    async def on_connection(connection: ServerConnection) -> None:
        serve_client = await asyncio.shield(handler)
        await serve_client(connection, access)

    try:
        port = await serve(
            on_connection,
            settings.host,
            number,
            ssl=tls.ssl_context(settings),
            process_request=access.process_request,
            compression=None,
            max_size=max_size,
        )
    except OSError as error:
        raise ConfigurationError(
            f"Port {number} for {purpose} cannot be opened ({error.strerror}); "
            f"stop the program that uses it or choose another with --{setting}."
        ) from error
    yield handler  # an error of the body comes out at once, and ends the process with its sockets
    port.close()
    await port.wait_closed()
