"""A client that behaves as the original WhisperFusion's page does.

It opens both sockets at once, names no key, sends float32 chunks of 4096 samples, and knows only
the messages of that time.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

CHUNK = 4096
RATE = 16_000


@dataclass
class OriginalClient:
    """What the page got, in order. `sounds` holds the binary messages of the audio socket."""

    socket: ClientConnection
    audio: ClientConnection
    uid: str = field(default_factory=lambda: str(uuid.uuid4()))
    messages: list[dict[str, Any]] = field(default_factory=list)
    sounds: list[bytes | str] = field(default_factory=list)
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    @property
    def replies(self) -> list[str]:
        return ["".join(m["llm_output"]) for m in self.messages if "llm_output" in m]

    @property
    def questions(self) -> list[str]:
        """Transcripts at the moments when the page was told that an utterance is over."""
        return [
            " ".join(segment["text"].strip() for segment in message["segments"])
            for message in self.messages
            if "segments" in message and message["eos"]
        ]

    async def speak(self, samples: NDArray[np.float32], silence: float = 3.0) -> None:
        """Send samples in real time, and then some seconds of silence."""
        samples = np.concatenate([samples, np.zeros(int(silence * RATE), np.float32)])
        for first in range(0, len(samples), CHUNK):
            await self.socket.send(samples[first : first + CHUNK].astype("<f4").tobytes())
            await asyncio.sleep(CHUNK / RATE)

    async def until_heard(self, sounds: int, timeout: float = 60.0) -> None:
        """Wait until so many replies came as sound."""
        async with self.changed:
            await asyncio.wait_for(
                self.changed.wait_for(lambda: len(self.sounds) >= sounds), timeout
            )

    async def read(self) -> None:
        """Follow both sockets until they are closed."""
        await asyncio.gather(self._read_messages(), self._read_sounds())

    async def _read_messages(self) -> None:
        with contextlib.suppress(ConnectionClosed):
            async for message in self.socket:
                async with self.changed:
                    self.messages.append(json.loads(message))
                    self.changed.notify_all()

    async def _read_sounds(self) -> None:
        with contextlib.suppress(ConnectionClosed):
            async for message in self.audio:
                async with self.changed:
                    self.sounds.append(message)
                    self.changed.notify_all()


@contextlib.asynccontextmanager
async def original_client(
    transcription: str, speech: str, headers: dict[str, str]
) -> AsyncIterator[OriginalClient]:
    """An original client at these two addresses, ready to speak."""
    socket, audio = await asyncio.gather(
        connect(transcription, additional_headers=headers, proxy=None),
        connect(speech, additional_headers=headers, proxy=None, max_size=None),
    )
    async with socket, audio:
        client = OriginalClient(socket, audio)
        hello = {"uid": client.uid, "multilingual": False, "language": "en", "task": "transcribe"}
        await socket.send(json.dumps(hello))
        reader = asyncio.create_task(client.read())
        async with client.changed:
            await asyncio.wait_for(client.changed.wait_for(lambda: client.messages), 60)
        assert client.messages[0]["message"] == "SERVER_READY", client.messages
        yield client
        reader.cancel()
