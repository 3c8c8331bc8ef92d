"""One conversation over both sockets, as a library: see `whisper_live.client`."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

import numpy as np
from numpy.typing import NDArray
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, ConnectionClosedError, InvalidHandshake

from fusion.audio import SAMPLE_RATE, SPEECH_RATE
from fusion.errors import FusionError

CHUNK = 512  # samples in a message; 32 ms
END_OF_AUDIO = "END_OF_AUDIO"

_CONNECT_TIMEOUT = 10.0
_RECONNECT_INTERVAL = 0.25  # of the speech socket, while its process is restarted
_CLOSE_TIMEOUT = 5.0
_ABNORMAL, _REFUSED = 1006, 1008  # close codes of RFC 6455: no farewell; a rule was broken
_LARGEST_MESSAGE = 1 << 26

Samples = NDArray[np.float32]


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

    async def open(self, port: int, **query: str) -> ClientConnection:
        """A WebSocket to one of its ports. Raises FusionError when nobody answers."""
        query |= {"token": self.token} if self.token else {}
        scheme = "wss" if self.certificate else "ws"
        address = f"{scheme}://{self.host}:{port}/" + (f"?{urlencode(query)}" if query else "")
        tls = ssl.create_default_context(cafile=self.certificate) if self.certificate else None
        try:
            return await connect(
                address,
                ssl=tls,
                compression=None,
                max_size=_LARGEST_MESSAGE,
                open_timeout=_CONNECT_TIMEOUT,
                proxy=None,
            )
        except (OSError, InvalidHandshake) as error:  # asyncio's timeout is an OSError since 3.11
            raise FusionError(
                f"No WhisperFusion answers at {self.host}:{port} ({error}); is it running?"
            ) from error
        except asyncio.TimeoutError as error:
            raise FusionError(f"{self.host}:{port} does not answer.") from error


# -- events: `at` is when one came (`time.monotonic()`); `turn` is None if the server did not say


@dataclass(frozen=True)
class Segment:
    """A piece of a transcript; seconds since the first sample."""

    start: float
    end: float
    text: str
    completed: bool


@dataclass(frozen=True)
class Transcript:
    """The transcript of the current turn changed; `final` once, when it is committed."""

    at: float
    turn: int | None
    segments: tuple[Segment, ...]
    final: bool
    latency: float

    @property
    def text(self) -> str:
        return " ".join(segment.text.strip() for segment in self.segments)


@dataclass(frozen=True)
class ReplyText:
    """All of the reply's text so far; `final` once."""

    at: float
    turn: int | None
    text: str
    final: bool
    interrupted: bool


@dataclass(frozen=True, eq=False)
class Sound:
    """A piece of the reply's sound, float32 at 24 kHz."""

    at: float
    turn: int | None
    samples: Samples


@dataclass(frozen=True)
class Notice:
    """Any event that the protocol names, from either socket: `flush`, `timeline`, …"""

    at: float
    name: str
    turn: int | None
    fields: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Failure:
    """The server reports an error; with a turn, it is what this turn ends in."""

    at: float
    turn: int | None
    message: str


@dataclass(frozen=True)
class Closed:
    """The conversation is over. The last event."""

    at: float
    code: int
    reason: str


Event = Transcript | ReplyText | Sound | Notice | Failure | Closed


class Conversation:
    """One session on a server. Made by `talk`."""

    def __init__(self, server: Server, transcription: ClientConnection, ready: Notice) -> None:
        self.ready = ready
        self._server = server
        self._transcription = transcription
        self._speech_turn: int | None = None
        self._received = 0  # samples of that turn's reply
        self._events: asyncio.Queue[Event] = asyncio.Queue()

    async def send(self, samples: Samples) -> None:
        """Send float32 samples at 16 kHz. Raises websockets' ConnectionClosed."""
        await self._transcription.send(samples.astype("<f4", copy=False).tobytes())

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
        await self._transcription.send(END_OF_AUDIO)

    async def command(self, name: str, **fields: str) -> None:
        """Send `end_turn`, `interrupt`, or `say` with a `text`."""
        await self._transcription.send(json.dumps({"command": name, **fields}))

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
        readers = []
        if with_speech:
            readers.append(asyncio.create_task(self._read_speech(await self._open_speech())))
        readers.append(asyncio.create_task(self._read_transcription(list(readers))))
        try:
            yield
        finally:
            for reader in readers:
                reader.cancel()
            await asyncio.gather(*readers, return_exceptions=True)

    async def _open_speech(self) -> ClientConnection:
        query = {"key": str(self.ready.fields["audio_key"])}
        if self._speech_turn is not None:  # the connection broke within this reply: go on there
            seconds = self._received / SPEECH_RATE
            query |= {"turn": str(self._speech_turn), "received": f"{seconds:.4f}"}
        return await self._server.open(self._server.speech_port, **query)

    async def _read_transcription(self, speech: list[asyncio.Task[None]]) -> None:
        with contextlib.suppress(ConnectionClosed):
            async for message in self._transcription:
                self._events.put_nowait(_parsed(message, time.monotonic()))
        if speech:  # the last sound may still be on its way
            await asyncio.wait(speech, timeout=_CLOSE_TIMEOUT)
        code = self._transcription.close_code or _ABNORMAL
        closed = Closed(time.monotonic(), code, self._transcription.close_reason or "")
        self._events.put_nowait(closed)

    async def _read_speech(self, connection: ClientConnection) -> None:
        """Follow the speech socket, and open it again when its process was restarted."""
        while True:
            try:
                async for message in connection:
                    self._events.put_nowait(self._heard(message, time.monotonic()))
                return
            except ConnectionClosedError as error:
                if error.rcvd is not None and error.rcvd.code == _REFUSED:
                    sentence = f"There is no sound: {error.rcvd.reason}."
                    self._events.put_nowait(Failure(time.monotonic(), None, sentence))
                    return
            finally:
                await connection.close()
            await asyncio.sleep(_RECONNECT_INTERVAL)
            with contextlib.suppress(FusionError):
                connection = await self._open_speech()

    def _heard(self, message: str | bytes, at: float) -> Event:
        if isinstance(message, bytes):
            sound = Sound(at, self._speech_turn, np.frombuffer(message, "<f4"))
            self._received += len(sound.samples)
            return sound
        event = _parsed(message, at)
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
        conversation = Conversation(server, connection, ready)
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
    event = _parsed(answer, time.monotonic())
    if isinstance(event, Failure):
        raise FusionError(event.message)
    if isinstance(event, Notice) and event.name == "WAIT":
        raise ServerFullError(float(event.fields["message"]))
    if not isinstance(event, Notice) or event.name != "SERVER_READY":
        raise FusionError(f"Expected SERVER_READY, not {answer!r}; is this a WhisperFusion server?")
    return event


def _parsed(message: str | bytes, at: float) -> Event:
    """What a text message of either socket means."""
    fields: dict[str, Any] = json.loads(message)
    turn = fields.get("turn")
    if "segments" in fields:
        segments = tuple(
            Segment(float(s["start"]), float(s["end"]), s["text"], bool(s["completed"]))
            for s in fields["segments"]
        )
        return Transcript(at, turn, segments, fields["eos"], fields["latency"])
    if "llm_output" in fields:
        text = "".join(fields["llm_output"])
        return ReplyText(at, turn, text, fields["eos"], fields.get("interrupted", False))
    if fields.get("status") == "ERROR":
        return Failure(at, turn, fields["message"])
    name = fields.get("event") or fields.get("status") or fields.get("message")
    return Notice(at, str(name), turn, fields)


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
            heard = ((t, s[: max(0, round((event.at - t) * SPEECH_RATE))]) for t, s in self._pieces)
            self._pieces = [(begins, samples) for begins, samples in heard if len(samples)]

    def between(self, begin: float, end: float) -> Samples:
        """What is heard between two moments (`time.monotonic()`), silence included."""
        heard = np.zeros(round((end - begin) * SPEECH_RATE), np.float32)
        for at, piece in reversed(self._pieces):
            first = round((at - begin) * SPEECH_RATE)
            if first + len(piece) <= 0:
                break
            part = piece[max(0, -first) : max(0, len(heard) - first)]
            heard[max(0, first) : max(0, first) + len(part)] = part
        return heard

    @property
    def samples(self) -> Samples:
        """All that was or will be heard, without the silence between replies."""
        return np.concatenate([np.zeros(0, np.float32), *(samples for _, samples in self._pieces)])
