"""A server that does what a test says, to test the client with."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from fusion.serving.tokens import shown_in
from whisper_live.client import Server

Script = Callable[[ServerConnection], Awaitable[None]]


async def until_closed(connection: ServerConnection) -> None:
    await connection.wait_closed()


@dataclass
class ScriptedServer:
    """`conversation` runs once the client was told that the server is ready; `speech` for each
    audio connection. What clients sent is kept."""

    conversation: Script = until_closed
    speech: Script = until_closed
    greeting: str = '{"uid": "u", "message": "SERVER_READY", "backend": "x", "audio_key": "a key"}'
    hello: dict[str, Any] = field(default_factory=dict)
    speech_paths: list[str] = field(default_factory=list)
    speech_tokens: list[str] = field(default_factory=list)
    address: Server = field(default_factory=Server)

    async def _transcription(self, connection: ServerConnection) -> None:
        self.hello = json.loads(await connection.recv())
        if self.greeting:
            await connection.send(self.greeting)
        with contextlib.suppress(ConnectionClosed):
            await self.conversation(connection)

    async def _speech(self, connection: ServerConnection) -> None:
        assert connection.request is not None
        self.speech_paths.append(connection.request.path)
        self.speech_tokens += shown_in(connection.request.headers, "")
        with contextlib.suppress(ConnectionClosed):
            await self.speech(connection)


@contextlib.asynccontextmanager
async def scripted(**script: Any) -> AsyncIterator[ScriptedServer]:
    """The server, on free ports of this machine."""
    server = ScriptedServer(**script)
    async with (
        serve(server._transcription, "127.0.0.1", 0) as transcription,
        serve(server._speech, "127.0.0.1", 0) as speech,
    ):
        ports = [next(iter(each.sockets)).getsockname()[1] for each in (transcription, speech)]
        server.address = Server("127.0.0.1", *ports)
        yield server


async def say(connection: ServerConnection, **fields: object) -> None:
    """Send a JSON message."""
    await connection.send(json.dumps({"uid": "u", **fields}))


async def pause() -> None:
    """Long enough for what was sent to arrive before what is sent next."""
    await asyncio.sleep(0.05)
