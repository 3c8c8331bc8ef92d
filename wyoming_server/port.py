"""Wyoming's port: who gets in, and what each connection asks for. In the page server's process.

The protocol has no authentication, so the port is off unless it is asked for, and on this machine
alone unless that is asked for too. What holds for other clients holds for its own: each request is
a session on ports 6006 and 8888, in the name of the address that it came from.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace

from starlette.applications import Starlette
from wyoming.asr import Transcribe, Transcript
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.error import Error
from wyoming.event import Event, async_write_event
from wyoming.info import Describe
from wyoming.ping import Ping, Pong
from wyoming.tts import (
    Synthesize,
    SynthesizeChunk,
    SynthesizeStart,
    SynthesizeStop,
    SynthesizeStopped,
)

from fusion import tasks
from fusion.errors import FusionError, ProtocolError
from fusion.languages import language_code
from fusion.links import Links
from fusion.selection import model_name
from fusion.serving.hosts import loopback_host
from fusion.serving.limits import Connections, Peer
from fusion.serving.ports import LimitedListener, open_listeners
from fusion.serving.tls import loopback_context
from fusion.serving.tokens import Tokens
from fusion.settings import Settings
from whisper_live.client.conversation import Server, ServerFullError
from wyoming_server.events import LARGEST_LINE, read_event, text_of
from wyoming_server.info import Offer
from wyoming_server.microphone import Microphone, Samples
from wyoming_server.requests import look_around, speak, transcribe

logger = logging.getLogger(__name__)

_MOST = 32  # connections; each has two more to our own ports
_IDLE = 60.0  # seconds without an event of the client's
_LINGER = 1.0  # seconds that a client may take to go after an error
_UNREAD = 10.0  # seconds that a client may leave what it is sent unread
_LOOK_INTERVAL = 0.5
_MOST_HOTWORDS = 1000  # characters


class WyomingPort:
    """Serves from `serving` on. Everything happens in one event loop."""

    def __init__(self, settings: Settings, links: Links) -> None:
        self._settings = settings
        self._links = links
        limits = Connections.of_port(settings, descriptors=3)
        self._connections = replace(limits, most=min(limits.most, _MOST))
        self._server = Server(
            loopback_host(settings.host),
            settings.transcription_port,
            settings.speech_port,
            context=loopback_context(settings),
        )
        self._tokens = Tokens(settings)
        self._offer: Offer | None = None

    @contextlib.asynccontextmanager
    async def serving(self, _: Starlette) -> AsyncIterator[None]:
        """Listen while the context lasts. Raises ConfigurationError where the port is taken."""
        servers = [
            await asyncio.start_server(
                self._connected,
                sock=LimitedListener(listener, self._connections),
                limit=LARGEST_LINE,
            )
            for listener in open_listeners(self._settings, "wyoming")
        ]
        looking = tasks.start(self._look_around(), "wyoming-offer")
        try:
            yield
        finally:
            looking.cancel()
            for server in servers:
                server.close()

    async def _look_around(self) -> None:
        """Learn what the pipeline can, once it can anything: `describe` has to be quick."""
        choice = self._links.choice
        names = [
            model_name(pick, self._settings) or pick.library
            for pick in (choice.transcription, choice.voice)
        ]
        while self._offer is None:
            if self._links.status.not_ready() is None:
                try:
                    self._offer = await look_around(self._server_for(""), *names)
                except FusionError as error:
                    logger.info("not known yet what Wyoming can offer: %s", error)
            await asyncio.sleep(_LOOK_INTERVAL)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        address, _ = _peer(writer)
        connection = _Connection(self, self._server_for(address), reader, writer)
        try:
            await asyncio.wait_for(connection.run(), self._settings.max_connection_time)
        except (ConnectionError, asyncio.TimeoutError):
            logger.debug("a Wyoming client at %s is gone, or took too long", address)
        finally:
            writer.close()

    def _server_for(self, address: str) -> Server:
        """Our own ports, for a client at an address, with a token that counts now."""
        return replace(self._server, token=self._tokens.any(), forwarded_for=address)

    def admit(self, writer: asyncio.StreamWriter) -> None:
        """Count a connection whose client has said something. Raises FusionError if it is one too
        many."""
        peer = _peer(writer)
        refused = self._connections.establish(peer, peer[0], time.monotonic())
        if refused is not None:
            raise FusionError(refused.sentence.strip())

    def offer(self) -> Offer:
        """What can be understood and said. Raises FusionError while that is not known."""
        reason = self._links.status.not_ready()
        if reason is not None or self._offer is None:
            raise FusionError(f"Not ready yet: {reason or 'asking what is there'}.")
        return self._offer

    @property
    def handshake_timeout(self) -> float:
        """Seconds that a client may take to say something."""
        return self._settings.handshake_timeout

    @property
    def reply_timeout(self) -> float:
        return self._settings.reply_timeout


class _Connection:
    """One client: its requests are done one after the other."""

    def __init__(
        self,
        port: WyomingPort,
        server: Server,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self._port = port
        self._server = server
        self._reader = reader
        self._writer = writer
        self._language: str | None = None
        self._hotwords = ""

    async def run(self) -> None:
        """Until the client goes. What goes wrong is told, and ends the connection."""
        try:
            event = await self._next(self._port.handshake_timeout)
            if event is not None:
                self._port.admit(self._writer)
            while event is not None:
                await self._handle(event)
                event = await self._next()
        except ServerFullError as error:
            await self._say_why(error, "server-full")
        except ProtocolError as error:
            await self._say_why(error, "invalid-event")
        except FusionError as error:
            await self._say_why(error, "failed")

    async def _say_why(self, error: FusionError, code: str) -> None:
        """The last event. What the client still sends is read, or a reset would overtake it."""
        await self._send(Error(str(error), code).event())
        self._writer.write_eof()
        with self._cut_off_after(_LINGER):
            while await self._reader.read(LARGEST_LINE):
                pass

    async def _next(self, patience: float = _IDLE) -> Event | None:
        with self._cut_off_after(patience):
            return await read_event(self._reader)

    async def _send(self, event: Event) -> None:
        with self._cut_off_after(_UNREAD):
            await async_write_event(event, self._writer)

    @contextlib.contextmanager
    def _cut_off_after(self, seconds: float) -> Iterator[None]:
        """Cut the connection if this takes longer.

        Before Python 3.12 `asyncio.wait_for` loses a cancellation that comes as it ends.
        """
        timer = asyncio.get_running_loop().call_later(seconds, self._writer.transport.abort)
        try:
            yield
        finally:
            timer.cancel()

    async def _handle(self, event: Event) -> None:
        """Do what an event asks for; one that is not known here is left alone."""
        if Describe.is_type(event.type):
            await self._send(self._port.offer().info().event())
        elif Ping.is_type(event.type):
            await self._send(Pong(text=event.data.get("text")).event())
        elif Transcribe.is_type(event.type):
            self._expect(event)
        elif AudioStart.is_type(event.type) or AudioChunk.is_type(event.type):
            await self._transcribe(event)
        elif Synthesize.is_type(event.type):
            await self._speak(event, _once(text_of(event)))
        elif SynthesizeStart.is_type(event.type):
            await self._speak(event, self._texts())
            await self._send(SynthesizeStopped().event())

    # -- transcription -------------------------------------------------------------------------

    def _expect(self, event: Event) -> None:
        """What is said next: its language, and words to expect."""
        language = event.data.get("language")
        self._language = text_of(event, "language") if language else None
        words = [
            word
            for name in ("transcript_names", "transcript_terms")
            for word in (event.data.get(name) or ())
        ]
        if not all(isinstance(word, str) for word in words):
            raise ProtocolError("transcript_names and transcript_terms are lists of texts.")
        self._hotwords = ", ".join(words)[:_MOST_HOTWORDS]

    async def _transcribe(self, first: Event) -> None:
        text = await transcribe(
            self._server,
            self._sounds(first),
            language=self._language,
            hotwords=self._hotwords,
            timeout=self._port.reply_timeout,
        )
        await self._send(Transcript(text=text, language=self._language).event())

    async def _sounds(self, first: Event) -> AsyncIterator[Samples]:
        microphone = Microphone(first)
        event: Event | None = first
        while event is not None and not AudioStop.is_type(event.type):
            if AudioChunk.is_type(event.type):
                yield microphone.take(event.payload or b"")
            event = await self._next()
        if event is None:
            raise ConnectionResetError("the client went in the middle of its sound")
        yield microphone.take(b"", last=True)

    # -- voice ---------------------------------------------------------------------------------

    async def _speak(self, event: Event, texts: AsyncIterator[str]) -> None:
        offer = self._port.offer()
        if event.data.get("text_format") not in (None, "text"):
            raise ProtocolError("Only plain text is spoken: text_format is text.")
        wanted = event.data.get("voice")
        wanted = wanted if isinstance(wanted, dict) else {}
        language, voice = str(wanted.get("language") or ""), str(wanted.get("name") or "")
        await speak(
            self._server,
            texts,
            self._send,
            voice=voice or offer.speaker_of(language),
            language=language_code(language, offer.languages) if language else None,
        )

    async def _texts(self) -> AsyncIterator[str]:
        """The text of a streamed request. The whole of it comes as well, for older servers."""
        while (event := await self._next()) is not None:
            if SynthesizeChunk.is_type(event.type):
                yield text_of(event)
            elif SynthesizeStop.is_type(event.type):
                return
        raise ConnectionResetError("the client went in the middle of its text")


def _peer(writer: asyncio.StreamWriter) -> Peer:
    """Whose connection it is; nobody's where it is gone already."""
    address = writer.get_extra_info("peername") or ("", 0)
    return str(address[0]), int(address[1])


async def _once(text: str) -> AsyncIterator[str]:
    yield text
