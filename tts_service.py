"""Process 3: reply text in, speech out on the speech port.

Everything about sessions lives in the event loop; only the voice runs in threads (`Synthesis`).
Each session has its `Speeches`, at most one audio connection, and one task that sends.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from fusion.board import Phase, Service
from fusion.channels import Inbox, Outbox
from fusion.errors import ModelError
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
from fusion.ports import open_port
from fusion.receiving import received
from fusion.selection import VOICES, choose, module, survey
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

# Bytes of a message from an audio client, which has nothing to say.
_MOST_HEARD = 4096

UNSPOKEN = "The voice failed, so this reply is not spoken to its end."

# A client whose connection takes no data for this long is gone.
_SEND_TIMEOUT = 10.0


@dataclass(eq=False)
class Client:
    """A session as the voice knows it, with the connection that hears it.

    `keyed` is whether a connection named its key: an old client's connection is never given such a
    session. `news` is what the connection must be told before any more sound goes out.
    """

    started: SessionStarted
    speeches: Speeches = field(default_factory=Speeches)
    connection: ServerConnection | None = None
    keyed: bool = False
    released: asyncio.Event = field(default_factory=asyncio.Event)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    news: deque[dict[str, object]] = field(default_factory=deque)
    sender: asyncio.Task[None] | None = None

    @property
    def session(self) -> str:
        return self.started.session

    def bind(self, connection: ServerConnection, *, keyed: bool) -> asyncio.Event:
        """Be heard by this connection from now on; the event is set once it no longer is."""
        self.release()
        self.connection, self.keyed = connection, keyed
        self.released = asyncio.Event()
        self.changed.set()
        return self.released

    def release(self) -> None:
        """Be heard by nobody."""
        self.connection = None
        self.news.clear()
        self.released.set()
        self.changed.set()


class SpeechServer:
    """Sessions, their connections and their sound. `report` tells the transcription server."""

    def __init__(self, voice: Voice, settings: Settings, report: Callable[[Message], None]) -> None:
        self._settings = settings
        self._speakers = voice.speakers
        self._report = report
        self._clients: dict[str, Client] = {}
        self._arrival = asyncio.get_running_loop().create_future()
        self._lost: Exception | None = None
        self._synthesis = Synthesis(voice, self._next_clause, self._sound_made, self._voice_failed)

    # -- messages from the other processes -----------------------------------------------------

    def handle(self, message: Message) -> None:
        """Take one message from the transcription server or the language model."""
        if isinstance(message, SessionStarted):
            self._start(message)
            return
        client = self._clients.get(message.session)
        if client is None:
            return
        if isinstance(message, SessionEnded):
            self._end(client)
        elif isinstance(message, Interruption):
            self._silence(client, message.turn)
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

    def _start(self, message: SessionStarted) -> None:
        if message.session in self._clients:
            return
        client = Client(message)
        client.sender = asyncio.create_task(self._send_speeches(client))
        self._clients[message.session] = client
        self._arrival.set_result(None)
        self._arrival = asyncio.get_running_loop().create_future()

    def _end(self, client: Client) -> None:
        del self._clients[client.session]
        client.speeches.clear()
        client.release()
        if client.sender is not None:
            client.sender.cancel()

    def end_all(self) -> None:
        """The transcription server was restarted: none of its sessions lives on."""
        for client in list(self._clients.values()):
            self._end(client)

    def close(self) -> None:
        """Stop speaking and let the voice go."""
        self.end_all()
        self._synthesis.close()

    def _silence(self, client: Client, turn: int) -> None:
        """Stop speaking at once: whatever of this turn was not sent never will be."""
        speech = client.speeches.end(turn)
        client.speeches.runs_dry_at = 0.0
        said = speech.said if speech is not None else ""
        spoken = said if client.connection is not None else None
        self._report(SpeechEnded(client.session, turn, spoken, time.monotonic()))
        if client.connection is not None and client.keyed:
            client.news.append({"event": "flush", "turn": turn})
            if speech is not None:
                client.news.append(_reply_end(speech, interrupted=True))
        client.changed.set()

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
        if isinstance(error, ModelError):
            logger.error("the voice failed: %s", error)
        else:
            self._lost = error
        speech.fail()
        self._sound_made(speech)

    def check(self) -> None:
        """Raise what the voice raised and nobody expected: only a new process can be trusted."""
        if self._lost is not None:
            raise self._lost

    # -- sending -------------------------------------------------------------------------------

    async def _send_speeches(self, client: Client) -> None:
        while True:
            await client.changed.wait()
            client.changed.clear()
            while await self._send_next(client):
                pass

    async def _send_next(self, client: Client) -> bool:
        """Send the next of what is ready, at the pace at which it is heard.

        False when there is nothing to do until something changes.
        """
        connection = client.connection
        speech = client.speeches.current
        if connection is None:
            return self._pass_over(client, speech)
        try:
            return await asyncio.wait_for(self._send_to(connection, client, speech), _SEND_TIMEOUT)
        except (ConnectionClosed, asyncio.TimeoutError):
            if client.connection is connection:
                client.release()
            connection.transport.abort()
            return True

    def _pass_over(self, client: Client, speech: Speech | None) -> bool:
        """Nobody hears: a reply is over once its text is complete, or where the sound broke off."""
        if speech is None or not (speech.text_complete or speech.seconds_sent):
            return False
        self._finish(client, speech, speech.said or None)
        return True

    async def _send_to(
        self, connection: ServerConnection, client: Client, speech: Speech | None
    ) -> bool:
        if client.news:
            await connection.send(json.dumps(client.news.popleft()))
            return True
        if speech is None:
            return False
        if client.keyed:
            return await self._send_streamed(client, speech, connection)
        return await self._send_whole(client, speech, connection)

    async def _send_streamed(
        self, client: Client, speech: Speech, connection: ServerConnection
    ) -> bool:
        """One step: the next chunk, once it is due, or the end of the reply."""
        clause = speech.next_to_send
        if clause is None or not clause.chunks:
            if not speech.over:
                return False
            self._finish(client, speech, speech.said)
            if speech.failed:
                client.news.append(_failure(speech))
            client.news.append(_reply_end(speech, interrupted=False))
            return True
        early = client.speeches.runs_dry_at - self._settings.sound_ahead - time.monotonic()
        if early > 0:
            client.changed.clear()
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(client.changed.wait(), min(early, _SEND_TIMEOUT / 2))
        elif not clause.announced:
            self._announce(client, speech, clause)
        else:
            await self._send_chunk(client, speech, clause, connection)
        return True

    def _announce(self, client: Client, speech: Speech, clause: SpokenClause) -> None:
        """Say what the sound that comes next is."""
        clause.announced = True
        if not speech.seconds_sent:
            client.news.append({"event": "reply_start", "turn": speech.turn})
        at = round(speech.seconds_sent, 3)
        client.news.append({"event": "clause", "turn": speech.turn, "text": clause.text, "at": at})

    async def _send_chunk(
        self, client: Client, speech: Speech, clause: SpokenClause, connection: ServerConnection
    ) -> None:
        first = not speech.seconds_sent
        if not clause.sent:
            self._report(ClauseSpoken(client.session, speech.turn, clause.text))
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

    # -- connections ---------------------------------------------------------------------------

    async def welcome(self, connection: ServerConnection, door: Door) -> None:
        """Serve one audio connection until it closes."""
        if not door.knows(query(connection, "token")):
            await connection.close(1008, "the token is missing or wrong")
            return
        gone = asyncio.create_task(_ignore(connection))
        try:
            key = query(connection, "key")
            if key is None:
                await self._serve_address(connection, door.address(connection), gone)
            else:
                await self._serve_key(connection, key, gone)
        finally:
            gone.cancel()

    async def _serve_key(
        self, connection: ServerConnection, key: str, gone: asyncio.Task[None]
    ) -> None:
        client = await self._find(lambda one: _has_key(one, key), _WAIT_FOR_KEY, gone)
        if client is None:
            await connection.close(1008, "no session has this key; it is in SERVER_READY")
            return
        await self._attend(client, connection, gone, keyed=True)
        if client.session in self._clients:
            await connection.close(1001, "another connection took this one's place")
        else:
            await connection.close(1000, "the session ended")

    async def _serve_address(
        self, connection: ServerConnection, address: str, gone: asyncio.Task[None]
    ) -> None:
        """For old clients, which may keep one audio connection over several sessions."""
        patience = _WAIT_FOR_SESSION
        while True:
            client = await self._find(lambda one: _unheard_at(one, address), patience, gone)
            if client is None:
                break
            await self._attend(client, connection, gone, keyed=False)
            patience = self._settings.max_connection_time
        reason = "no session without audio at this address; connect to port 6006 first"
        await connection.close(1008, reason)

    async def _find(
        self, fits: Callable[[Client], bool], timeout: float, gone: asyncio.Task[None]
    ) -> Client | None:
        """The oldest session that fits, waiting for one to come; None if the client goes first."""
        deadline = time.monotonic() + timeout
        while not gone.done():
            client = next((client for client in self._clients.values() if fits(client)), None)
            if client is not None:
                return client
            left = deadline - time.monotonic()
            if left <= 0:
                return None
            first = asyncio.FIRST_COMPLETED
            await asyncio.wait({gone, self._arrival}, timeout=left, return_when=first)
        return None

    async def _attend(
        self,
        client: Client,
        connection: ServerConnection,
        gone: asyncio.Task[None],
        *,
        keyed: bool,
    ) -> None:
        """Let the connection hear the session until one of them ends or another takes its place."""
        released = asyncio.create_task(client.bind(connection, keyed=keyed).wait())
        if keyed and self._speakers:
            client.news.append({"event": "voices", "voices": self._speakers})
        self._synthesis.wake()
        try:
            await asyncio.wait({gone, released}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            released.cancel()
            if client.connection is connection:
                client.release()


async def _ignore(connection: ServerConnection) -> None:
    """Read until the connection closes: nothing that an audio client says has a meaning."""
    with contextlib.suppress(ConnectionClosed):
        async for _ in connection:
            pass


def _has_key(client: Client, key: str) -> bool:
    return secrets.compare_digest(client.started.audio_key.encode(), key.encode())


def _unheard_at(client: Client, address: str) -> bool:
    return client.connection is None and not client.keyed and client.started.address == address


def _failure(speech: Speech) -> dict[str, object]:
    """An error as on the other port, and an event as all that is said on this one."""
    return {"event": "error", "status": "ERROR", "message": UNSPOKEN, "turn": speech.turn}


def _reply_end(speech: Speech, *, interrupted: bool) -> dict[str, object]:
    end = {"event": "reply_end", "turn": speech.turn, "spoken": speech.said}
    return {**end, "interrupted": interrupted}


async def _serve(settings: Settings, links: Links, stop: threading.Event) -> None:
    board = links.board
    inbox = Inbox(links.audio_queue, links.authkey)
    transcription = Outbox(links.llm_queue, links.authkey)
    door = Door(settings, board.not_ready)
    async with open_port(settings, "speech", door=door, max_size=_MOST_HEARD) as welcome:
        board.report(Service.VOICE, Phase.LOADING)
        voice = await asyncio.to_thread(load, settings)
        server = SpeechServer(voice, settings, transcription.put)
        welcome.set_result(server.welcome)
        board.report(Service.VOICE, Phase.READY)
        logger.info(
            "ready: %s; listening for audio clients on port %d", voice.name, settings.speech_port
        )
        generation = board.generation(Service.TRANSCRIPTION)
        async for message in received(inbox, stop, lambda: board.beat(Service.VOICE)):
            if board.generation(Service.TRANSCRIPTION) != generation:
                generation = board.generation(Service.TRANSCRIPTION)
                server.end_all()
            server.check()
            if message is not None:
                server.handle(message)
        server.close()
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
    voice: Voice = module(VOICES, pick).load(settings)
    voice.warm_up()
    return voice
