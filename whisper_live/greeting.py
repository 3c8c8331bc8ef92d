"""A connection of the transcription port before it has a session: let in, or turned away."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Collection

from websockets.asyncio.server import ServerConnection

from fusion import metrics
from fusion.errors import ProtocolError, TokenError
from fusion.logs import without_quotes
from fusion.serving.access import AccessPolicy, Caller
from fusion.settings import Settings
from whisper_live.handshake import Hello, parse_hello

logger = logging.getLogger(__name__)


async def greet(
    connection: ServerConnection,
    access: AccessPolicy,
    languages: Collection[str],
    settings: Settings,
) -> tuple[Hello, Caller]:
    """Wait for the handshake; what it says, and who says it.

    Raises ProtocolError where it is none or does not come, TokenError without a token.
    """
    timeout = settings.handshake_timeout
    try:
        message = await asyncio.wait_for(connection.recv(), timeout)
    except asyncio.TimeoutError:
        raise ProtocolError(
            f'No handshake came within {timeout:g} s; send {{"uid": "me"}} first.'
        ) from None
    hello = parse_hello(message, languages)
    caller = access.identify(connection, hello.token)
    if caller is None:
        raise TokenError('The "token" is missing or wrong; ask whoever runs this server.')
    return hello, caller


async def turn_away(
    socket: ServerConnection, uid: str, reason: str | float, code: int, closing: str
) -> None:
    """End a connection that gets no session: an error's sentence, or the minutes to wait."""
    wait = isinstance(reason, float)
    sentence = closing if wait else without_quotes(str(reason))
    metrics.REFUSALS.labels(closing).inc()
    logger.warning("a client is turned away: %s", sentence)
    fields = {"uid": uid, "status": "WAIT" if wait else "ERROR", "message": reason}
    await socket.send(json.dumps(fields))
    await socket.close(code, closing)
