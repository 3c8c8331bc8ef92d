"""One conversation over both sockets, as a library: see `whisper_live.client`."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from urllib.parse import quote, urlencode

import numpy as np
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, ConnectionClosedError, InvalidHandshake
from websockets.typing import Subprotocol

from fusion.audio import SAMPLE_RATE, SPEECH_RATE
from fusion.errors import FusionError
from fusion.serving.tokens import SUBPROTOCOL, TOKEN_PROTOCOL
from whisper_live.client.events import (
    Closed,
    Event,
    Failure,
    Notice,
    Samples,
    Sound,
    parsed,
)
from whisper_live.client.memory import Memory

CHUNK = 512  # samples in a message; 32 ms
END_OF_AUDIO = "END_OF_AUDIO"

_CONNECT_TIMEOUT = 10.0
_RECONNECT_INTERVAL = 0.25  # of the speech socket, while its process is restarted
_CLOSE_TIMEOUT = 5.0
_RESUME_TIMEOUT = 120.0  # as long as a slow machine takes to load its models again
# Close codes of RFC 6455: no last_word; a rule was broken; what a network, a proxy or a server that
# is restarted may close with.
_ABNORMAL, _REFUSED = 1006, 1008
_LOST = (_ABNORMAL, 1001, 1011, 1012, 1014)
_LARGEST_MESSAGE = 1 << 26
_LOST_ANSWER = "The connection was lost before this was answered."


class ServerFullError(FusionError):
    """The server has no room; `minutes` is how long it may take."""

    def __init__(self, minutes: float) -> None:
        super().__init__(f"The server is full; try again in about {minutes:.0f} minutes.")
        self.minutes = minutes


@dataclass(frozen=True)
class Server:
    """Where a server is. With a certificate file, it is spoken to over TLS and must show that."""

    host: str = "localhost"
    port: int = 6006
    speech_port: int = 8888
    token: str = ""
    certificate: str = ""
    context: ssl.SSLContext | None = None
    """For TLS in place of one made from the certificate."""
    forwarded_for: str = ""
    """Whom a proxy speaks for: sent as X-Forwarded-For."""

    async def open(self, port: int, **query: str) -> ClientConnection:
        """A WebSocket to one of its ports. Raises FusionError when nobody answers."""
        # As subprotocols and not in the address, which proxies write down.
        protocols = [SUBPROTOCOL, TOKEN_PROTOCOL + quote(self.token, safe="")]
        scheme = "wss" if self.certificate or self.context else "ws"
        address = f"{scheme}://{self.host}:{port}/" + (f"?{urlencode(query)}" if query else "")
        tls = self.context
        if self.certificate:
            tls = ssl.create_default_context(cafile=self.certificate)
        try:
            return await connect(
                address,
                ssl=tls,
                additional_headers=(
                    {"X-Forwarded-For": self.forwarded_for} if self.forwarded_for else None
                ),
                compression=None,
                max_size=_LARGEST_MESSAGE,
                subprotocols=[*map(Subprotocol, protocols)] if self.token else None,
                open_timeout=_CONNECT_TIMEOUT,
                proxy=None,
            )
        except (OSError, InvalidHandshake) as error:  # asyncio's timeout is an OSError since 3.11
            raise FusionError(
                f"No WhisperFusion answers at {self.host}:{port} ({error}); is it running?"
            ) from error
        except asyncio.TimeoutError as error:
            raise FusionError(f"{self.host}:{port} does not answer.") from error


class Conversation:
    """One session on a server. Made by `talk`.

    Where a connection is lost it comes back by itself within two minutes: to the same session if
    the server still has it, else to a new one with the same history, whose turns count from 1
    again. The event SERVER_READY says which.
    """

    def __init__(
        self,
        server: Server,
        transcription: ClientConnection,
        ready: Notice,
        handshake: Mapping[str, object],
    ) -> None:
        self.ready = ready
        self._server = server
        self._transcription = transcription
        self._handshake = handshake
        self._memory = Memory(handshake.get("history"))
        self._audio_key = self._shown_key = str(ready.fields.get("audio_key"))
        self._speech: asyncio.Task[None] | None = None
        self._over = False
        self._speech_turn: int | None = None
        self._received = 0  # samples of that turn's reply
        self._events: asyncio.Queue[Event] = asyncio.Queue()

    async def send(self, samples: Samples) -> None:
        """Send float32 samples at 16 kHz; they are lost while the connection is.

        Raises websockets' ConnectionClosed when the conversation is over.
        """
        try:
            await self._transcription.send(samples.astype("<f4", copy=False).tobytes())
        except ConnectionClosed:
            if not self._may_come_back:
                raise

    async def stream(self, samples: Samples, *, real_time: bool = True) -> float:
        """Send samples as a microphone would, each chunk when it is over; or as fast as they go.

        Returns when the first sample was "spoken", by `time.monotonic()`.
        """
        started = time.monotonic()
        for first in range(0, len(samples), CHUNK):
            chunk = samples[first : first + CHUNK]
            if real_time:
                due = started + (first + len(chunk)) / SAMPLE_RATE
                await asyncio.sleep(max(0.0, due - time.monotonic()))
            await self.send(chunk)
        return started

    async def end_of_audio(self) -> None:
        """Say that no more audio comes: the turn ends, the reply is made, the server hangs up."""
        await self._deliver(END_OF_AUDIO)

    async def command(self, name: str, **fields: object) -> None:
        """Send `end_turn`, `interrupt`, `say` with a `text`, or another of docs/protocol.md."""
        await self._deliver(json.dumps({"command": name, **fields}))

    async def events(self) -> AsyncIterator[Event]:
        """Everything that comes, in order of arrival; ends with `Closed`."""
        while True:
            event = await self._events.get()
            yield event
            if isinstance(event, Closed):
                return

    @contextlib.asynccontextmanager
    async def connected(self, *, with_speech: bool) -> AsyncIterator[None]:
        """Read both sockets while the context lasts. `talk` does this."""
        if with_speech:
            self._speech = asyncio.create_task(self._read_speech(await self._open_speech()))
        reader = asyncio.create_task(self._read_transcription())
        try:
            yield
        finally:
            readers = [reader, self._speech] if self._speech else [reader]
            for each in readers:
                each.cancel()
            await asyncio.gather(*readers, return_exceptions=True)
            await self._transcription.close()

    async def _open_speech(self) -> ClientConnection:
        query = {"key": self._audio_key}
        self._shown_key = self._audio_key
        if self._speech_turn is not None:  # the connection broke within this reply: go on there
            seconds = self._received / SPEECH_RATE
            query |= {"turn": str(self._speech_turn), "received": f"{seconds:.4f}"}
        return await self._server.open(self._server.speech_port, **query)

    @property
    def _may_come_back(self) -> bool:
        """Whether the connection is there, or was lost in a way that another may make up for."""
        lost = self._transcription.close_code in (None, *_LOST)
        return lost and not self._over and "resume_key" in self.ready.fields

    async def _deliver(self, message: str) -> None:
        """Send now, or on the connection that comes next. Raises ConnectionClosed if none does."""
        while True:
            try:
                await self._transcription.send(message)
                return
            except ConnectionClosed:
                if not self._may_come_back:
                    raise
                await asyncio.sleep(_RECONNECT_INTERVAL)

    async def _read_transcription(self) -> None:
        while True:
            with contextlib.suppress(ConnectionClosed):
                async for message in self._transcription:
                    event = parsed(message, time.monotonic())
                    if isinstance(event, Notice) and event.name == "audio_key":
                        self._audio_key = str(event.fields["audio_key"])
                    elif self._memory.take(event):
                        self._events.put_nowait(event)
            if not await self._come_back():
                break
        self._over = True
        for turn in self._memory.waiting:
            self._events.put_nowait(Failure(time.monotonic(), turn, _LOST_ANSWER))
        if self._speech is not None:  # the last sound may still be on its way
            await asyncio.wait([self._speech], timeout=_CLOSE_TIMEOUT)
        code = self._transcription.close_code or _ABNORMAL
        closed = Closed(time.monotonic(), code, self._transcription.close_reason or "")
        self._events.put_nowait(closed)

    async def _come_back(self) -> bool:
        """Open another connection in place of a lost one; False where that is not to be had."""
        deadline = time.monotonic() + _RESUME_TIMEOUT
        while self._may_come_back and time.monotonic() < deadline:
            await asyncio.sleep(_RECONNECT_INTERVAL)
            resume = {"resume": self.ready.fields["resume_key"], "history": self._memory.history}
            fields = {**self._handshake, **resume}
            with contextlib.suppress(FusionError, ConnectionClosed):
                connection = await self._server.open(self._server.port)
                try:
                    ready = await _greet(connection, fields, deadline - time.monotonic())
                    await self._go_on(connection, ready)
                except (FusionError, ConnectionClosed):
                    await connection.close()
                    raise
                return True
        return False

    async def _go_on(self, connection: ClientConnection, ready: Notice) -> None:
        """Go on over a new connection. Raises ConnectionClosed, as if it had never been."""
        resumed = bool(ready.fields.get("resumed"))
        if not resumed:
            for turn in self._memory.new_session():
                self._events.put_nowait(Failure(ready.at, turn, _LOST_ANSWER))
            question = self._memory.unanswered if self._handshake.get("reply", True) else ""
            if question:  # before anything else: the server that was to answer it is gone
                await connection.send(json.dumps({"command": "say", "text": question}))
        self._transcription, self.ready = connection, ready
        self._audio_key = str(ready.fields.get("audio_key"))
        self._events.put_nowait(ready)
        if not resumed and self._speech is not None:
            self._speech.cancel()
            self._speech_turn = None
            self._speech = asyncio.create_task(self._read_speech(None))

    async def _read_speech(self, connection: ClientConnection | None) -> None:
        """Follow the speech socket, and open it again when its process was restarted."""
        while True:
            if connection is None:
                with contextlib.suppress(FusionError):
                    connection = await self._open_speech()
            if connection is not None:
                try:
                    async for message in connection:
                        self._events.put_nowait(self._heard(message, time.monotonic()))
                    return
                except ConnectionClosedError as error:
                    close = error.rcvd
                    newest = self._shown_key == self._audio_key
                    if close is not None and close.code == _REFUSED and newest:
                        sentence = f"There is no sound: {close.reason}."
                        self._events.put_nowait(Failure(time.monotonic(), None, sentence))
                        return
                finally:
                    await connection.close()
                connection = None
            await asyncio.sleep(_RECONNECT_INTERVAL)

    def _heard(self, message: str | bytes, at: float) -> Event:
        if isinstance(message, bytes):
            sound = Sound(at, self._speech_turn, np.frombuffer(message, "<f4"))
            self._received += len(sound.samples)
            return sound
        event = parsed(message, at)
        if isinstance(event, Notice) and event.name == "reply_start":
            self._speech_turn = event.turn
            self._received = round(event.fields.get("at", 0.0) * SPEECH_RATE)
        elif isinstance(event, Notice) and event.name in ("reply_end", "flush"):
            self._speech_turn = None
        return event


@contextlib.asynccontextmanager
async def talk(
    server: Server, *, ready_timeout: float = 120.0, reply: bool = True, **handshake: object
) -> AsyncIterator[Conversation]:
    """A conversation, once the server is ready for it. `handshake` are fields of docs/protocol.md.

    Raises ServerFullError, or FusionError with what the server or the network says.
    """
    connection = await server.open(server.port)
    async with connection:
        fields = {
            "uid": str(uuid.uuid4()),
            "language": "en",
            "task": "transcribe",
            "multilingual": False,
            "stream": True,
            "reply": reply,
            **({"token": server.token} if server.token else {}),
            **handshake,
        }
        ready = await _greet(connection, fields, ready_timeout)
        conversation = Conversation(server, connection, ready, fields)
        async with conversation.connected(with_speech=reply):
            yield conversation


async def _greet(
    connection: ClientConnection, fields: Mapping[str, object], timeout: float
) -> Notice:
    try:
        await connection.send(json.dumps(fields))
        answer = await asyncio.wait_for(connection.recv(), timeout)
    except ConnectionClosed as error:
        raise FusionError(f"The server hung up: {error}.") from error
    except asyncio.TimeoutError as error:
        raise FusionError(f"The server was not ready within {timeout:.0f} s.") from error
    event = parsed(answer, time.monotonic())
    if isinstance(event, Failure):
        raise FusionError(event.message)
    if isinstance(event, Notice) and event.name == "WAIT":
        raise ServerFullError(float(event.fields["message"]))
    if not isinstance(event, Notice) or event.name != "SERVER_READY":
        raise FusionError(f"Expected SERVER_READY, not {answer!r}; is this a WhisperFusion server?")
    return event


class Playback:
    """What a person hears who plays the sound without gaps and obeys `flush`. Pure."""

    def __init__(self) -> None:
        self._pieces: list[tuple[float, Samples]] = []
        self.until = 0.0

    def take(self, event: Event) -> None:
        """Follow the conversation; what is neither sound nor flush is ignored."""
        if isinstance(event, Sound):
            begins = max(event.at, self.until)
            self._pieces.append((begins, event.samples))
            self.until = begins + len(event.samples) / SPEECH_RATE
        elif isinstance(event, Notice) and event.name == "flush":
            self.until = min(self.until, event.at)
            left = ((t, s[: max(0, round((event.at - t) * SPEECH_RATE))]) for t, s in self._pieces)
            self._pieces = [(begins, samples) for begins, samples in left if len(samples)]

    def between(self, begin: float, end: float) -> Samples:
        """What plays between two moments (`time.monotonic()`), silence included."""
        playing = np.zeros(round((end - begin) * SPEECH_RATE), np.float32)
        for at, piece in reversed(self._pieces):
            first = round((at - begin) * SPEECH_RATE)
            if first + len(piece) <= 0:
                break
            part = piece[max(0, -first) : max(0, len(playing) - first)]
            playing[max(0, first) : max(0, first) + len(part)] = part
        return playing

    @property
    def samples(self) -> Samples:
        """All that was or will be played, without the silence between replies."""
        return np.concatenate([np.zeros(0, np.float32), *(samples for _, samples in self._pieces)])
