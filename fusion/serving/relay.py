"""Relays a WebSocket of the web port to one of the two WebSocket ports of this machine.

Both directions keep their backpressure: a message is read only when the one before it was handed
on. Whichever side closes first, the other gets its close code and reason.
"""

from __future__ import annotations

import contextlib
import logging
import re
import time
from collections.abc import Awaitable, Callable

from starlette.responses import PlainTextResponse
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI
from websockets.typing import Subprotocol

from fusion import tasks
from fusion.serving.hosts import loopback_host
from fusion.serving.limits import Connections
from fusion.serving.ports import QUEUED_MESSAGES
from fusion.serving.tls import Loopback
from fusion.settings import Settings

logger = logging.getLogger(__name__)

# RFC 6455, 7.4.1: these describe a close that came without a code and may not be sent.
UNSENDABLE = (1005, 1006, 1015)
GOING_AWAY, TOO_BIG, BAD_GATEWAY = 1001, 1009, 1014
_HOST = re.compile(r"(\[[0-9a-fA-F:.]+\]|[\w.-]+)(:\d{1,5})?", re.ASCII)
KEPT_HEADERS = ("origin", "user-agent", "cookie", "authorization")


class Relay:
    """Makes the endpoints."""

    def __init__(self, settings: Settings, loopback: Loopback, connections: Connections) -> None:
        self._connections = connections
        self._settings = settings
        self._loopback = loopback
        self._host = loopback_host(settings.host)

    def to(self, port: int) -> Callable[[WebSocket], Awaitable[None]]:
        """A Starlette endpoint that relays to this port."""

        async def endpoint(client: WebSocket) -> None:
            # The port itself looks at where the client is, which it knows from X-Forwarded-For.
            peer = (client.client.host, client.client.port) if client.client else ("", 0)
            if refused := self._connections.establish(peer, None, time.monotonic()):
                await _deny(client, refused.status, refused.sentence)
                return
            if not _HOST.fullmatch(client.headers.get("host", "localhost")):
                await _deny(client, 400, "the Host header is no host and port")
                return
            try:
                server = await self._connect(client, port)
            except InvalidStatus as refusal:
                body = (refusal.response.body or b"").decode("utf-8", "replace")
                await _deny(client, refusal.response.status_code, body)
                return
            except InvalidURI:  # its text holds the query, and with it keys and tokens
                await _deny(client, 400, "the Host header is no host and port")
                return
            except (OSError, TimeoutError, InvalidHandshake) as error:
                logger.info("Nothing answers on port %d: %s", port, error)
                await _deny(client, 503, "this part of the server is still starting")
                return
            async with server:
                await client.accept(server.subprotocol)
                await _relay(client, server, self._settings.max_message_bytes)

        return endpoint

    async def _connect(self, client: WebSocket, port: int) -> ClientConnection:
        context = self._loopback.context
        scheme = "wss" if context else "ws"
        # The address in the URI becomes the Host header: the port's check of the page's Origin
        # compares it with the host that the browser sees, as behind any other proxy.
        host = client.headers.get("host", f"{self._host}:{port}")
        query = f"?{client.url.query}" if client.url.query else ""
        headers = [(name, client.headers[name]) for name in KEPT_HEADERS if name in client.headers]
        headers.append(("X-Forwarded-For", forwarded_for(client)))
        return await connect(
            f"{scheme}://{host}/{query}",
            host=self._host,
            port=port,
            ssl=context,
            additional_headers=headers,
            subprotocols=[Subprotocol(name) for name in client.scope.get("subprotocols", [])]
            or None,
            user_agent_header=None,
            compression=None,
            proxy=None,
            max_size=None,  # an old client gets a whole reply as one message
            max_queue=QUEUED_MESSAGES,
            open_timeout=self._settings.handshake_timeout,
        )


def forwarded_for(client: WebSocket) -> str:
    """As any proxy does: what the client said of those before it, and its own address."""
    address = client.client.host if client.client else "unknown"
    before = client.headers.get("x-forwarded-for")
    return f"{before}, {address}" if before else address


async def _relay(client: WebSocket, server: ClientConnection, largest: int) -> None:
    """Hand messages on both ways until one side closes, or sends more bytes than `largest`."""
    upward = tasks.start(_to_server(client, server, largest), "relay")
    try:
        await _to_client(client, server)
    finally:
        upward.cancel()


async def _to_server(client: WebSocket, server: ClientConnection, largest: int) -> None:
    """Ends when either side has closed. It closes the server's side, which ends the other way."""
    code, reason = GOING_AWAY, ""
    try:
        while True:
            message = await client.receive()
            if message["type"] == "websocket.disconnect":
                code, reason = message.get("code", code), message.get("reason") or ""
                return
            data = message.get("bytes")
            data = message["text"].encode() if data is None else data
            if len(data) > largest:
                code, reason = TOO_BIG, f"at most {largest} bytes a message"
                return
            await server.send(data, text=message.get("bytes") is None)
    except ConnectionClosed:
        return
    finally:
        await server.close(_sendable(code, GOING_AWAY), reason)


async def _to_client(client: WebSocket, server: ClientConnection) -> None:
    """Ends when the server's side is closed, after its last message was handed on."""
    try:
        async for message in server:
            if isinstance(message, str):
                await client.send_text(message)
            else:
                await client.send_bytes(message)
    except WebSocketDisconnect:
        return
    except ConnectionClosed:
        logger.debug("The server's side ended without a closing handshake.")
    if client.client_state is WebSocketState.CONNECTED:
        code = _sendable(server.close_code, BAD_GATEWAY)
        with contextlib.suppress(WebSocketDisconnect, RuntimeError):
            await client.close(code, server.close_reason)


def _sendable(code: int | None, otherwise: int) -> int:
    return otherwise if code is None or code in UNSENDABLE else code


async def _deny(client: WebSocket, status: int, sentence: str) -> None:
    """Refuse the handshake over HTTP, as the port itself would."""
    await client.send_denial_response(PlainTextResponse(sentence, status))
