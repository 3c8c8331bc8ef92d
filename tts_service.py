"""Process 3: reply text in, speech out on the speech port.

Everything about sessions lives in the event loop; only the voice runs in threads (`Synthesis`).
Each session has its `Speeches`, at most one audio connection, and one task that sends.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import json
import logging
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from fusion import tls
from fusion.board import Phase, Service
from fusion.channels import Inbox, Outbox
from fusion.errors import ConfigurationError
from fusion.http import Door, query
from fusion.messages import (
    ClauseSpoken,
    Commit,
    Interruption,
    Message,
    ReplyEnded,
    ReplyFailed,
    ReplyText,
    SessionEnded,
    SessionStarted,
    SpeechEnded,
    SpeechStarted,
    Withdrawal,
)
from fusion.receiving import received
from fusion.selection import VOICES, choose, survey
from fusion.service import child_process
from fusion.settings import Settings
from fusion.supervisor import Links
from voices.base import OUTPUT_RATE, Voice
from voices.speech import Speech, Speeches, SpokenClause
from voices.synthesis import Synthesis

logger = logging.getLogger(__name__)

_HEARTBEAT = 0.5

# An audio connection may come before its session; it waits this long for it.
_WAIT_FOR_KEY = 2.0
_WAIT_FOR_SESSION = 10.0

_CHUNK = OUTPUT_RATE // 10

# A client whose connection takes no data for this long is gone.
_SEND_TIMEOUT = 10.0


@dataclass(eq=False)
class Client:
    """A session as the voice knows it. `keyed` is whether its connection named its key."""

    started: SessionStarted
    speeches: Speeches = field(default_factory=Speeches)
    connection: ServerConnection | None = None
    keyed: bool = False
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    sender: asyncio.Task[None] | None = None

    @property
    def session(self) -> str:
        return self.started.session


class SpeechServer:
    """Sessions, their connections and their sound. `report` tells the transcription server."""

    def __init__(self, voice: Voice, settings: Settings, report: Callable[[Message], None]) -> None:
        self._settings = settings
        self._report = report
        self._clients: dict[str, Client] = {}
        self._arrival = asyncio.Condition()
        self._synthesis = Synthesis(voice, self._next_clause, self._sound_made, self._voice_failed)

    # -- messages from the other processes -----------------------------------------------------

    async def handle(self, message: Message) -> None:
        """Take one message from the transcription server or the language model."""
        if isinstance(message, SessionStarted):
            await self._start(message)
            return
        client = self._clients.get(message.session)
        if client is None:
            return
        if isinstance(message, SessionEnded):
            await self._end(client)
        elif isinstance(message, Interruption):
            await self._silence(client, message.turn)
        elif isinstance(message, ReplyText | ReplyEnded | ReplyFailed | Commit | Withdrawal):
            self._follow(client, message)
            client.changed.set()
            self._synthesis.wake()

    def _follow(
        self, client: Client, message: ReplyText | ReplyEnded | ReplyFailed | Commit | Withdrawal
    ) -> None:
        speeches = client.speeches
        if isinstance(message, Withdrawal):
            speeches.withdraw(message.turn, message.revision)
        elif isinstance(message, Commit):
            speeches.commit(message.turn, message.revision)
        else:
            speech = speeches.get(message.turn, message.revision)
            if speech is None:
                return
            if isinstance(message, ReplyText):
                speech.feed(message.text)
            else:
                speech.complete()

    async def _start(self, message: SessionStarted) -> None:
        if message.session in self._clients:
            return
        client = Client(message)
        client.sender = asyncio.create_task(self._send_speeches(client))
        self._clients[message.session] = client
        async with self._arrival:
            self._arrival.notify_all()

    async def _end(self, client: Client) -> None:
        del self._clients[client.session]
        client.speeches.clear()
        if client.sender is not None:
            client.sender.cancel()
        connection, client.connection = client.connection, None
        if connection is not None:
            await connection.close(1000, "the session ended")

    async def end_all(self) -> None:
        """The transcription server was restarted: none of its sessions lives on."""
        for client in list(self._clients.values()):
            await self._end(client)

    async def _silence(self, client: Client, turn: int) -> None:
        """Stop speaking at once: whatever of this turn was not sent never will be."""
        speech = client.speeches.end(turn)
        client.speeches.runs_dry_at = 0.0
        client.changed.set()
        said = speech.said if speech is not None else ""
        spoken = said if client.connection is not None else None
        self._report(SpeechEnded(client.session, turn, spoken, time.monotonic()))
        if client.connection is not None and client.keyed:
            await self._tell(client.connection, {"event": "flush", "turn": turn})
            end = {"event": "reply_end", "turn": turn, "spoken": said, "interrupted": True}
            await self._tell(client.connection, end)

    # -- the voice -----------------------------------------------------------------------------

    def _next_clause(self) -> tuple[Speech, SpokenClause, str, str] | None:
        """What some client needs soonest. Nothing is spoken for a session that nobody hears."""
        now = time.monotonic()
        wanted = [
            (*needed, client)
            for client in self._clients.values()
            if client.connection is not None
            and (needed := client.speeches.next_to_make(now, bounded=client.keyed)) is not None
        ]
        if not wanted:
            return None
        _, speech, clause, client = min(wanted, key=lambda one: one[0])
        return speech, clause, client.started.voice, client.started.language

    def _sound_made(self, speech: Speech) -> None:
        for client in self._clients.values():
            if client.speeches.current is speech:
                client.changed.set()

    def _voice_failed(self, speech: Speech, error: Exception) -> None:
        """The rest of this reply stays silent; its text was sent, and the next may be spoken."""
        logger.error("the voice failed: %s", error)
        for clause in speech.clauses:
            clause.started = clause.finished = True
        self._sound_made(speech)

    # -- sending -------------------------------------------------------------------------------

    async def _send_speeches(self, client: Client) -> None:
        while True:
            await client.changed.wait()
            client.changed.clear()
            while (speech := client.speeches.current) is not None:
                if not await self._send(client, speech):
                    break

    async def _send(self, client: Client, speech: Speech) -> bool:
        """Send what is ready of a speech, at the pace at which it is heard.

        False when there is nothing to do until something changes.
        """
        connection = client.connection
        if connection is None:
            if not speech.text_complete and not speech.seconds_sent:
                return False
            self._finish(client, speech, speech.said or None)
            return True
        send = self._send_streamed if client.keyed else self._send_whole
        try:
            return await asyncio.wait_for(send(client, speech, connection), _SEND_TIMEOUT)
        except (ConnectionClosed, asyncio.TimeoutError):
            self._unbind(client, connection)
            await connection.close()
            return True

    async def _send_streamed(
        self, client: Client, speech: Speech, connection: ServerConnection
    ) -> bool:
        """One step: the next chunk, once it is due, or the end of the reply."""
        clause = speech.next_to_send
        if clause is None or not clause.chunks:
            if not speech.over:
                return False
            end = {"event": "reply_end", "turn": speech.turn, "spoken": speech.said}
            self._finish(client, speech, speech.said)
            await self._tell(connection, {**end, "interrupted": False})
            return True
        early = client.speeches.runs_dry_at - self._settings.sound_ahead - time.monotonic()
        if early > 0:
            client.changed.clear()
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(client.changed.wait(), min(early, _SEND_TIMEOUT / 2))
            return True
        await self._send_chunk(client, speech, clause, connection)
        return True

    async def _send_chunk(
        self, client: Client, speech: Speech, clause: SpokenClause, connection: ServerConnection
    ) -> None:
        first = not speech.seconds_sent
        if not clause.sent:
            if first:
                await self._tell(connection, {"event": "reply_start", "turn": speech.turn})
            at = round(speech.seconds_sent, 3)
            event = {"event": "clause", "turn": speech.turn, "text": clause.text, "at": at}
            await self._tell(connection, event)
            self._report(ClauseSpoken(client.session, speech.turn, clause.text))
        if speech.cancelled:
            return
        chunk = clause.take(_CHUNK)
        await connection.send(chunk.tobytes())
        self._sent(client, speech, len(chunk))
        if first:
            self._report_start(client, speech, clause)

    async def _send_whole(
        self, client: Client, speech: Speech, connection: ServerConnection
    ) -> bool:
        """For clients of the original: the whole reply as one message and no text."""
        if not speech.text_complete or not all(clause.finished for clause in speech.clauses):
            return False
        spoken = [clause for clause in speech.clauses if clause.chunks]
        for clause in spoken:
            self._report(ClauseSpoken(client.session, speech.turn, clause.text))
        sound = [clause.take(clause.samples) for clause in spoken for _ in list(clause.chunks)]
        if sound:
            whole = np.concatenate(sound)
            await connection.send(whole.tobytes())
            self._sent(client, speech, len(whole))
            self._report_start(client, speech, spoken[0])
        self._finish(client, speech, speech.said)
        return True

    def _sent(self, client: Client, speech: Speech, samples: int) -> None:
        seconds = samples / OUTPUT_RATE
        speech.seconds_sent += seconds
        client.speeches.runs_dry_at = max(client.speeches.runs_dry_at, time.monotonic()) + seconds
        self._synthesis.wake()

    def _report_start(self, client: Client, speech: Speech, clause: SpokenClause) -> None:
        now = time.monotonic()
        made_at = clause.made_at or now
        self._report(SpeechStarted(client.session, speech.turn, made_at, now))

    def _finish(self, client: Client, speech: Speech, spoken: str | None) -> None:
        client.speeches.end(speech.turn)
        until = max(client.speeches.runs_dry_at, time.monotonic())
        self._report(SpeechEnded(client.session, speech.turn, spoken, until))

    async def _tell(self, connection: ServerConnection, fields: dict[str, object]) -> None:
        with contextlib.suppress(ConnectionClosed):
            await connection.send(json.dumps(fields))

    # -- connections ---------------------------------------------------------------------------

    async def welcome(self, connection: ServerConnection, door: Door) -> None:
        """Serve one audio connection until it closes."""
        if not door.knows(query(connection, "token")):
            await connection.close(1008, "the token is missing or wrong")
            return
        key = query(connection, "key")
        if key is not None:
            client = await self._await_client(lambda one: _has_key(one, key), _WAIT_FOR_KEY)
            refusal = "no session has this key; it is in SERVER_READY"
        else:
            address = door.address(connection)
            client = await self._await_client(
                lambda one: one.connection is None and one.started.address == address,
                _WAIT_FOR_SESSION,
            )
            refusal = "no session without audio at this address; connect to port 6006 first"
        if client is None:
            await connection.close(1008, refusal)
            return
        await self._bind(client, connection, keyed=key is not None)
        try:
            with contextlib.suppress(ConnectionClosed):
                async for _ in connection:
                    pass  # nothing that a client says here has a meaning
        finally:
            self._unbind(client, connection)

    async def _await_client(self, fits: Callable[[Client], bool], timeout: float) -> Client | None:
        """The oldest session that fits, waiting a little for one to come."""

        def oldest() -> Client | None:
            return next((client for client in self._clients.values() if fits(client)), None)

        async def arrival() -> Client | None:
            async with self._arrival:
                await self._arrival.wait_for(lambda: oldest() is not None)
                return oldest()

        try:
            return await asyncio.wait_for(arrival(), timeout)
        except asyncio.TimeoutError:
            return None

    async def _bind(self, client: Client, connection: ServerConnection, *, keyed: bool) -> None:
        before, client.connection = client.connection, connection
        client.keyed = keyed
        client.changed.set()
        self._synthesis.wake()
        if before is not None:
            await before.close(1001, "another connection took this one's place")

    def _unbind(self, client: Client, connection: ServerConnection) -> None:
        if client.connection is connection:
            client.connection = None
            client.changed.set()


def _has_key(client: Client, key: str) -> bool:
    return secrets.compare_digest(client.started.audio_key.encode(), key.encode())


async def _serve(settings: Settings, links: Links, stop: threading.Event) -> None:
    board = links.board
    inbox = Inbox(links.audio_queue, links.authkey)
    transcription = Outbox(links.llm_queue, links.authkey)
    door = Door(settings, board.not_ready)
    ready: asyncio.Future[SpeechServer] = asyncio.get_running_loop().create_future()

    async def on_connection(connection: ServerConnection) -> None:
        server = await asyncio.shield(ready)
        await server.welcome(connection, door)

    try:
        port = await serve(
            on_connection,
            settings.host,
            settings.speech_port,
            ssl=tls.ssl_context(settings),
            process_request=door.answer,
            compression=None,
            max_size=4096,
        )
    except OSError as error:
        raise ConfigurationError(
            f"Port {settings.speech_port} for speech cannot be opened ({error.strerror}); "
            "stop the program that uses it or choose another with --speech_port."
        ) from error
    async with port:
        board.report(Service.VOICE, Phase.LOADING)
        voice = await asyncio.to_thread(load, settings)
        server = SpeechServer(voice, settings, transcription.put)
        ready.set_result(server)
        board.report(Service.VOICE, Phase.READY)
        logger.info(
            "ready: %s; listening for audio clients on port %d", voice.name, settings.speech_port
        )
        generation = board.generation(Service.TRANSCRIPTION)
        async for message in received(inbox, stop, lambda: board.beat(Service.VOICE)):
            if board.generation(Service.TRANSCRIPTION) != generation:
                generation = board.generation(Service.TRANSCRIPTION)
                await server.end_all()
            if message is not None:
                await server.handle(message)
    voice.close()
    transcription.close()
    inbox.close()


def run(settings: Settings, links: Links) -> None:
    """The body of the process: load the voice, then serve until asked to stop."""
    with child_process(Service.VOICE, links) as stop:
        asyncio.run(_serve(settings, links, stop))


def load(settings: Settings) -> Voice:
    """The voice that fits the settings and the machine, loaded and warm."""
    pick = choose(settings, survey(settings)).voice
    logger.info("voice: %s", pick)
    voice: Voice = importlib.import_module(VOICES[pick.library]).load(settings)
    voice.warm_up()
    return voice
