"""Process 3: reply text in, speech out on the speech port.

Everything about sessions lives in the event loop; only the voice runs in threads (`Synthesis`).
Each session has its `Speeches`, at most one audio connection, and one task that sends.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from fusion import metrics, tasks, watchdog
from fusion.channels import Inbox, Outbox
from fusion.child_process import child_process
from fusion.errors import ModelError, TokenError
from fusion.links import Links
from fusion.logs import about
from fusion.messages import (
    AudioKeyChanged,
    Commit,
    Interruption,
    Message,
    ReplyEnded,
    ReplyProgress,
    ReplyText,
    ReplyThinking,
    SessionChanged,
    SessionEnded,
    SessionStarted,
    SpeechEnded,
    ToolCalled,
    ToolEnded,
    Withdrawal,
)
from fusion.models.kokoro import SPEAKERS
from fusion.receiving import received
from fusion.selection import VOICES, Pick, is_installed, module
from fusion.serving.access import AccessPolicy, query
from fusion.serving.health import Health
from fusion.serving.ports import open_port
from fusion.settings import Settings
from fusion.status import Phase, Service
from voices.acknowledged import parse_played
from voices.base import Voice
from voices.by_language import VoiceByLanguage
from voices.cost import turn_cost
from voices.crash_record import SIZE, CrashRecord
from voices.pairing import NEAR, KeylessConnection, choose
from voices.previews import Previews
from voices.sending import Received, Sender, SpeechSession, reply_end
from voices.speech import Speech, Speeches, SpokenClause
from voices.spoken_text import SpokenText
from voices.synthesis import Synthesis

logger = logging.getLogger(__name__)

# An audio connection may come before its session; it waits this long for it, and looks so often
# whether one of those that are there has become its own.
_WAIT_FOR_KEY = 2.0
_LOOK_AGAIN = 0.25

# Bytes of a message from an audio client, which has little to say.
_MOST_HEARD = 4096


class SpeechServer:
    """Sessions, their connections and their sound. `report` tells the transcription server."""

    def __init__(
        self,
        voice: Voice,
        settings: Settings,
        report: Callable[[Message], object],
        record: CrashRecord | None = None,
    ) -> None:
        self._settings = settings
        self._voice = voice
        self._speakers = voice.speakers
        self._languages = voice.languages
        self._report = report
        self._meter = metrics.QueueMeter("clauses")
        self._clients: dict[str, SpeechSession] = {}
        self._arrival = asyncio.get_running_loop().create_future()
        record = record or CrashRecord(bytearray(SIZE))
        self._synthesis = Synthesis(
            voice, self._next_clause, self._sound_made, self._voice_failed, record
        )
        self._previews = Previews(voice, self._synthesis.wake)

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
        elif isinstance(message, SessionChanged):
            client.started = replace(client.started, voice=message.voice)
        elif isinstance(message, Interruption):
            self._silence(client, message.turn)
        elif isinstance(message, ReplyProgress | Commit | Withdrawal):
            self._follow(client, message)
            client.changed.set()
            self._synthesis.wake()

    def _follow(
        self,
        client: SpeechSession,
        message: ReplyProgress | Commit | Withdrawal,
    ) -> None:
        speeches = client.speeches
        if isinstance(message, Withdrawal):
            speeches.withdraw(message.turn, message.revision)
        elif isinstance(message, Commit):
            self._prepare(client, message.language)
            speeches.commit(message.turn, message.revision, message.language)
        else:
            language = message.language if isinstance(message, ReplyText) else ""
            self._prepare(client, language)
            speech = speeches.get(message.turn, message.revision, language)
            if speech is None:
                return
            if isinstance(message, ReplyText):
                speech.feed(message.text)
            elif isinstance(message, ReplyThinking | ToolCalled | ToolEnded):
                speech.pause()
            else:
                speech.complete(message.text if isinstance(message, ReplyEnded) else None)
            if isinstance(message, ReplyText | ReplyEnded):
                speech.trace.text_came(message, len(speech.clauses))

    def _start(self, message: SessionStarted) -> None:
        if message.session in self._clients:
            return
        spoken_text = SpokenText(message.language, self._languages)
        client = SpeechSession(message, Speeches(spoken_text))
        lead = message.buffer_lead or self._settings.buffer_lead
        patience = self._settings.unread_timeout
        sender = Sender(client, lead, patience, self._report, sent=self._synthesis.wake)
        client.sender = tasks.start(sender.run(), "sender")
        self._clients[message.session] = client
        self._prepare(client, message.language)
        self._arrival.set_result(None)
        self._arrival = asyncio.get_running_loop().create_future()

    def _prepare(self, client: SpeechSession, language: str) -> None:
        """Get ready to speak a language when it comes up in a session."""
        if language and language != client.language:
            client.language = language
            tasks.thread("prepare-voice", self._voice.prepare, language).start()

    def _end(self, client: SpeechSession) -> None:
        del self._clients[client.session]
        client.speeches.clear()
        if client.sender is not None:
            # Before `release` wakes it: in Python 3.11, `wait_for` forgets the end when both come.
            client.sender.cancel()
            client.sender = None  # with its end, a task that is kept keeps all of the session
        client.release()

    def end_all(self) -> None:
        """The transcription server was restarted: none of its sessions lives on."""
        for client in list(self._clients.values()):
            self._end(client)

    def close(self) -> None:
        """Stop speaking and let the voice go."""
        self.end_all()
        self._synthesis.close()

    def _silence(self, client: SpeechSession, turn: int) -> None:
        """Stop speaking at once: whatever of this turn was not sent never will be."""
        broken = client.give_up()
        speech = client.speeches.end(turn)
        speech = self._as_heard(client, speech, turn)
        client.speeches.playout_deadline = 0.0
        said = speech.said if speech is not None else ""
        spoken = said if client.connection is not None or broken is not None else None
        self._report(SpeechEnded(client.session, turn, spoken, time.monotonic()))
        if client.connection is not None and client.keyed:
            client.pending_events.append({"event": "flush", "turn": turn})
        if speech is not None and not (speech.end_told and client.started.buffer_lead is None):
            client.last_word = reply_end(speech, interrupted=True)
            if client.connection is not None and client.keyed:
                client.pending_events.append(client.last_word)
        client.changed.set()

    @staticmethod
    def _as_heard(client: SpeechSession, speech: Speech | None, turn: int) -> Speech | None:
        """The speech of this turn, cut where its client has come to.

        What was sent far ahead counts as far as it was played, also once all of it was sent.
        """
        now, last = time.monotonic(), client.speeches.last
        runs_ahead = client.started.buffer_lead is not None
        if runs_ahead and speech is None and last is not None and last.turn == turn:
            speech = last
        if speech is None:
            return None
        reached = speech.seconds_sent
        if runs_ahead:
            reached -= max(0.0, client.speeches.playout_deadline - now)
        if client.connection is not None and client.keyed:
            reached = min(reached, speech.reached(now))
        speech.rewind(max(0.0, reached))
        return speech

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
        self._meter.holds(max(0, len(wanted) - 1))
        if not wanted:
            return self._previews.next_clause()
        _, speech, clause, client = min(wanted, key=lambda one: one[0])
        return speech, clause, client.started.voice, speech.language

    def _sound_made(self, speech: Speech) -> None:
        for client in self._clients.values():
            if client.speeches.current is speech:
                client.changed.set()
        self._previews.notice(speech)

    def _voice_failed(self, speech: Speech, error: ModelError) -> None:
        """The rest of this reply stays silent; its text was sent, and the next may be spoken."""
        logger.error("the voice failed: %s", error)
        speech.fail()
        self._sound_made(speech)

    # -- connections ---------------------------------------------------------------------------

    async def handle_connection(self, connection: ServerConnection, access: AccessPolicy) -> None:
        """Serve one audio connection until it closes."""
        caller = access.identify(connection)
        if caller is None:
            metrics.REFUSALS.labels(TokenError.closing).inc()
            await connection.close(1008, TokenError.closing)
            return
        key = query(connection, "key")
        if key is None:
            serving = self._serve_address(connection, caller.address)
        else:
            serving = self._serve_key(connection, key)
        with contextlib.suppress(ConnectionClosed):
            await tasks.first_of(self._listen(connection), serving)

    async def _listen(self, connection: ServerConnection) -> None:
        """Read until the connection closes. What it has played is all that it may say."""
        with contextlib.suppress(ConnectionClosed):
            async for message in connection:
                played = parse_played(message)
                hearers = (one for one in self._clients.values() if one.connection is connection)
                if played is not None and (client := next(hearers, None)) is not None:
                    client.speeches.report_played(played.turn, played.seconds, time.monotonic())

    async def _serve_key(self, connection: ServerConnection, key: str) -> None:
        client = await self._find(lambda _: self._with_key(key), _WAIT_FOR_KEY)
        if client is None:
            metrics.REFUSALS.labels("unknown audio key").inc()
            await connection.close(1008, "no session has this key; it is in SERVER_READY")
            return
        client.audio_key = secrets.token_urlsafe(18)
        self._report(AudioKeyChanged(client.session, client.audio_key))
        if query(connection, "preview") is not None:
            await self._serve_preview(connection, client)
            return
        await self._attend(client, connection, keyed=True, received=_received(connection))
        if client.session in self._clients:
            await connection.close(1001, "another connection took this one's place")
        else:
            await connection.close(1000, "the session ended")

    async def _serve_preview(self, connection: ServerConnection, client: SpeechSession) -> None:
        """Send a sample of a voice, for a session that chooses one."""
        speaker = query(connection, "voice") or ""
        language = query(connection, "language") or client.started.language
        await self._previews.serve(connection, client.session, speaker, language)

    async def _serve_address(self, connection: ServerConnection, address: str) -> None:
        """For old clients, which may keep one audio connection over several sessions."""
        keyless = KeylessConnection(address, time.monotonic())
        patience = NEAR
        while client := await self._find(lambda now: self._choose(keyless, now), patience):
            keyless.played.add(client.session)
            await self._attend(client, connection, keyed=False)
            patience = self._settings.max_connection_time
        metrics.REFUSALS.labels("no session without a key").inc()
        reason = "no session without audio at this address; connect to port 6006 first"
        await connection.close(1008, reason)

    def _choose(self, keyless: KeylessConnection, now: float) -> SpeechSession | None:
        return choose(keyless, self._clients.values(), now)

    def _with_key(self, key: str) -> SpeechSession | None:
        return next((one for one in self._clients.values() if _has_key(one, key)), None)

    async def _find(
        self, look: Callable[[float], SpeechSession | None], timeout: float
    ) -> SpeechSession | None:
        """The session that `look` finds at a time, waiting for one to come."""
        deadline = time.monotonic() + timeout
        while True:
            now = time.monotonic()
            client, left = look(now), deadline - now
            if client is not None or left <= 0:
                return client
            await asyncio.wait({self._arrival}, timeout=min(left, _LOOK_AGAIN))

    async def _attend(
        self,
        client: SpeechSession,
        connection: ServerConnection,
        *,
        keyed: bool,
        received: Received | None = None,
    ) -> None:
        """Let the connection hear the session until one of them ends or another takes its place."""
        released = client.bind(connection, keyed=keyed, received=received)
        logger.info("an audio client connects", extra=about(client.session))
        if keyed and (self._speakers or self._languages):
            client.pending_events.append(self._voices())
        self._synthesis.wake()
        try:
            await released.wait()
        finally:
            if client.connection is connection:
                client.release()

    def _voices(self) -> dict[str, object]:
        """What can be spoken, and with which names; see docs/protocol.md."""
        speakers = [{"name": name, "language": code} for name, code in self._speakers.items()]
        return {
            "event": "voices",
            "voices": list(self._speakers),
            "languages": list(self._languages),
            "speakers": speakers,
        }


def _received(connection: ServerConnection) -> Received | None:
    """What the client says that it has of which reply; None where it says nothing of the kind."""
    try:
        turn = int(query(connection, "turn") or "")
        seconds = float(query(connection, "received") or "")
    except ValueError:
        return None
    return Received(turn, seconds) if math.isfinite(seconds) else None


def _has_key(client: SpeechSession, key: str) -> bool:
    return secrets.compare_digest(client.audio_key.encode(), key.encode())


async def _serve(settings: Settings, links: Links, stop: threading.Event) -> None:
    status = links.status
    beat = partial(status.beat, Service.VOICE)
    inbox = Inbox(links.audio_queue, links.authkey)
    transcription = Outbox(links.llm_queue, links.authkey)
    access = AccessPolicy(settings, Health(status))
    async with open_port(settings, "speech", access=access, max_size=_MOST_HEARD) as handler:
        status.report(Service.VOICE, Phase.LOADING)
        voice = await watchdog.load("voice", lambda: load(settings, links.choice.voice))
        if settings.measures_capacity and status.cost(Service.VOICE) is None:
            cost = await watchdog.load("voice", lambda: turn_cost(voice))
            status.report_cost(Service.VOICE, cost)
        record = CrashRecord.open(Path(links.run_folder, "voice_clauses"))
        server = SpeechServer(voice, settings, transcription.offer, record)
        handler.set_result(server.handle_connection)
        status.report(Service.VOICE, Phase.READY)
        logger.info(
            "ready: %s; listening for audio clients on port %d", voice.name, settings.speech_port
        )
        restart_count = status.restart_count(Service.TRANSCRIPTION)
        async for message in received(inbox, stop, beat):
            if status.restart_count(Service.TRANSCRIPTION) != restart_count:
                restart_count = status.restart_count(Service.TRANSCRIPTION)
                server.end_all()
            if message is not None:
                server.handle(message)
        server.close()
    voice.close()
    transcription.close()
    await inbox.close()


def run(settings: Settings, links: Links) -> None:
    """The body of the process: load the voice, then serve until asked to stop."""
    with child_process(Service.VOICE, links) as stop:
        tasks.run(_serve(settings, links, stop))


def load(settings: Settings, pick: Pick) -> Voice:
    """Load the voice that was chosen, and warm it up.

    A Piper voice speaks one language: where Kokoro is installed, it speaks the others that it can.
    """
    voice = _load_library(settings, pick)
    metrics.serve_model(pick.library, voice.name)
    if pick.library == "piper" and is_installed("kokoro_onnx"):
        kokoro = Pick("kokoro", "for languages that Piper's voice does not speak")
        return VoiceByLanguage(voice, partial(_load_library, settings, kokoro), SPEAKERS)
    return voice


def _load_library(settings: Settings, pick: Pick) -> Voice:
    voice: Voice = module(VOICES, pick).load(settings)
    voice.warm_up()
    return voice
