"""One client on the transcription port: its socket, its audio's way to frames, its session."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import math
import secrets
from dataclasses import dataclass, field, replace

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from fusion.messages import SessionStarted
from fusion.settings import Settings
from whisper_live.handshake import Hello
from whisper_live.incoming_audio import IncomingAudio
from whisper_live.session import Session, SessionPolicy
from whisper_live.vad import VoiceActivityDetector

logger = logging.getLogger(__name__)

# Messages that wait for a client that does not read; beyond them it is gone.
_MOST_UNSENT = 512

_COMPLAINT_INTERVAL = 1.0


@dataclass(eq=False)
class TranscriptionConnection:
    """A connection with its session. `caught_up` is set whenever the session has made progress."""

    socket: ServerConnection
    hello: Hello
    session: Session
    started: SessionStarted
    detector: VoiceActivityDetector
    audio: IncomingAudio
    caught_up: asyncio.Event = field(default_factory=asyncio.Event)
    closing: asyncio.Task[None] | None = None
    complained_at: dict[type, float] = field(default_factory=dict)
    _unsent: asyncio.Queue[str] = field(default_factory=lambda: asyncio.Queue(_MOST_UNSENT))

    @classmethod
    def begin(
        cls, socket: ServerConnection, hello: Hello, address: str, settings: Settings
    ) -> TranscriptionConnection:
        """Make a session for a client at `address` that said hello."""
        policy = SessionPolicy.from_settings(settings, stream=hello.stream, reply=hello.reply)
        session = Session(secrets.token_hex(8), policy, hello.history)
        started = SessionStarted(
            session=session.identity,
            audio_key=secrets.token_urlsafe(18),
            address=address,
            language=hello.language or "en",
            system_prompt=hello.system_prompt,
            voice=hello.voice,
            history=hello.history,
        )
        audio = IncomingAudio(hello.audio_format, hello.sample_rate)
        return cls(socket, hello, session, started, VoiceActivityDetector(), audio)

    @property
    def identity(self) -> str:
        return self.session.identity

    def introduction(self) -> SessionStarted:
        """What the language model and the voice have to know, with the conversation up to now."""
        return replace(self.started, history=self.session.history())

    def tell(self, fields: dict[str, object]) -> None:
        """Queue a JSON message; a client that does not read is disconnected."""
        try:
            self._unsent.put_nowait(json.dumps({"uid": self.hello.uid, **fields}))
        except asyncio.QueueFull:
            logger.warning("%s does not read its messages and is disconnected", self.hello.uid)
            self.socket.transport.abort()

    async def write(self) -> None:
        """Send what is queued, until cancelled or until the client is gone."""
        with contextlib.suppress(ConnectionClosed):
            while True:
                message = await self._unsent.get()
                await self.socket.send(message)
                self._unsent.task_done()

    async def close_when_sent(self, reason: str) -> None:
        """Close once the client has what is queued, or does not take it for a second."""
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._unsent.join(), 1.0)
        await self.socket.close(1000, reason)

    def complain(self, message: str | bytes, sentence: str, now: float) -> None:
        """Tell what is wrong with a message; once a second is enough for a stream of its kind."""
        kind = type(message)
        if now - self.complained_at.get(kind, -math.inf) >= _COMPLAINT_INTERVAL:
            self.complained_at[kind] = now
            self.tell({"status": "ERROR", "message": sentence})
