"""Process 1: audio in on the transcription port, transcripts and replies out.

Each `TranscriptionConnection` has a `Session`, which decides everything. The server carries out
what sessions ask for.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import logging
import threading
import time
from collections.abc import Iterable
from functools import partial

import numpy as np
from numpy.typing import NDArray
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from fusion import metrics, tasks, watchdog
from fusion.channels import Inbox, Outbox
from fusion.child_process import child_process
from fusion.errors import ModelError, ProtocolError
from fusion.links import Links
from fusion.messages import Commit, Message, ModelStatus, ReplyFailed, SessionEnded, SpeechEnded
from fusion.receiving import neighbour_is_ready, pipeline_is_ready, received
from fusion.serving.access import AccessPolicy, Caller
from fusion.serving.health import Health
from fusion.serving.ports import open_port
from fusion.settings import Settings
from fusion.status import Phase, Service, ServiceStatus
from whisper_live.connection import TranscriptionConnection, take_leave
from whisper_live.events import (
    Event,
    PredictTurn,
    Tell,
    ToLanguageModel,
    ToVoice,
    Transcribe,
)
from whisper_live.greeting import greet, turn_away
from whisper_live.handshake import END_OF_AUDIO, Hello, parse_command
from whisper_live.loading import load, load_turn_detector, turn_cost
from whisper_live.places import Places
from whisper_live.scheduler import Job, Scheduler
from whisper_live.transcribers.base import Transcriber, Transcript
from whisper_live.turn_detection import TurnDetection, TurnDetector

logger = logging.getLogger(__name__)

_TICK = 0.1

# Seconds that a session waits for its client to come back: time to find another network.
RESUME_PATIENCE = 30.0

TRY_AGAIN_LATER = 1013
TOO_MUCH_AUDIO = "You have sent more audio than one session may; connect again to go on."
OVERLOADED = "The server is overloaded; try again soon."


class TranscriptionServer:
    """All clients of the transcription port."""

    def __init__(
        self,
        settings: Settings,
        status: ServiceStatus,
        transcriber: Transcriber,
        turn_detector: TurnDetector | None,
        language_model: Outbox,
        voice: Outbox,
    ) -> None:
        self._settings = settings
        self._status = status
        self._transcriber = transcriber
        self._language_model = language_model
        self._voice = voice
        self._clients: dict[str, TranscriptionConnection] = {}
        self._places = Places(settings.max_clients, settings.max_connection_time)
        self._loop = asyncio.get_running_loop()
        self._scheduler = Scheduler(transcriber, self._transcribed, self._live_dropped)
        self._turn_detection = None
        if turn_detector is not None:
            self._turn_detection = TurnDetection(turn_detector, self._turn_predicted)
        self._neighbours = {Service.LANGUAGE_MODEL: language_model, Service.VOICE: voice}
        self._restart_counts = {each: status.restart_count(each) for each in self._neighbours}
        self._model_status: ModelStatus | None = None

    # -- a connection, from handshake to end ---------------------------------------------------

    async def handle_connection(self, connection: ServerConnection, access: AccessPolicy) -> None:
        """Serve one client until it leaves or its time is up."""
        uid = ""
        try:
            hello, caller = await greet(
                connection, access, self._transcriber.languages, self._settings
            )
            if connection.close_code is not None:  # it gave up while this server was loading
                return
            uid = hello.uid
            returning = self._returning(hello.resume)
            if returning is not None:  # its last connection, dead or not, makes room for this one
                self._places.leave(returning.socket)
            self._places.capacity = self._status.capacity
            now = time.monotonic()
            if self._status.stopping:
                await turn_away(connection, uid, 1.0, TRY_AGAIN_LATER, "the server is stopping")
                return
            if not (self._places.take(connection, now) or self._take_from_silent(connection, now)):
                minutes = self._places.minutes_to_wait(now)
                await turn_away(connection, uid, minutes, TRY_AGAIN_LATER, "the server is full")
                return
            try:
                await tasks.first_of(connection.wait_closed(), pipeline_is_ready(self._status))
                await self._prepare(hello.language)
                if connection.close_code is None:
                    await self._serve(connection, hello, caller)
            finally:
                self._places.leave(connection)
        except ProtocolError as error:
            with contextlib.suppress(ConnectionClosed):
                await turn_away(connection, uid, str(error), 1008, error.closing)
        except ConnectionClosed:
            logger.debug("a client left before its session began")

    def _take_from_silent(self, connection: ServerConnection, now: float) -> bool:
        """Give a connection the place of whoever has been silent longest, if for long enough."""
        silent = [client for client in self._clients.values() if client.may_give_place(now)]
        longest = min(silent, key=lambda client: client.active_at, default=None)
        if longest is None or now - longest.active_at < self._settings.max_silence:
            return False
        longest.dismiss("others wait", TRY_AGAIN_LATER)
        self._places.leave(longest.socket)
        return self._places.take(connection, now)

    async def _prepare(self, language: str | None) -> None:
        """Wait until this language can be understood. Raises ProtocolError when it cannot."""
        try:
            await tasks.in_thread("prepare", partial(self._transcriber.prepare, language))
        except ModelError as error:
            raise ProtocolError(str(error)) from error

    async def _serve(self, connection: ServerConnection, hello: Hello, caller: Caller) -> None:
        client = self._returning(hello.resume)
        if client is not None:
            client.attach(connection)
        else:
            self._end_deserted(caller.address)
            client = TranscriptionConnection.begin(connection, hello, caller, self._settings)
            self._clients[client.identity] = client
            self._introduce(client, self._language_model, self._voice)
        ready = {
            "message": "SERVER_READY",
            "backend": self._transcriber.name,
            "max_connection_time": self._settings.max_connection_time,
            "languages": sorted(self._transcriber.languages),
            **client.keys(hello.resume),
        }
        client.outgoing.put(ready, first=True)
        if self._model_status is not None:
            client.tell_model_status(self._model_status)
        client.writer = tasks.start(client.write(), "writer")
        try:
            await asyncio.wait_for(self._listen(client), self._settings.max_connection_time)
        except asyncio.TimeoutError:
            client.tell({"message": "DISCONNECT"})
            await client.close_when_sent("the time limit is reached")
        finally:
            self._part(client, connection)

    def _returning(self, resume_key: str) -> TranscriptionConnection | None:
        """The session that a client comes back to; None if there is none, or none any more."""
        key = resume_key.encode()
        for client in self._clients.values():
            if hmac.compare_digest(client.resume_key.encode(), key):
                return client
        return None

    def _part(self, client: TranscriptionConnection, connection: ServerConnection) -> None:
        """A connection is over: its session is, unless the client may come back or has already."""
        if client.socket is not connection:
            return
        client.stop_writing()
        if not client.may_return:
            self._dismiss(client)
            return
        client.leave(time.monotonic())
        away = [client for client in self._clients.values() if client.away_since is not None]
        for longest in away[: -self._settings.max_clients]:
            self._dismiss(longest)

    def _end_deserted(self, address: str) -> None:
        """Whoever comes from here without a key may want the sound of an old client's session.

        An old client's audio connection goes to its next session only once the last one has ended.
        """
        for client in list(self._clients.values()):
            old = not client.hello.stream and client.started.address == address
            if old and client.away_since is not None:
                self._dismiss(client)

    def _introduce(self, client: TranscriptionConnection, *neighbours: Outbox) -> None:
        """Make the session known to the language model, the voice or both."""
        if client.hello.reply:
            known = client.introduction()
            for outbox in neighbours:
                if not outbox.offer(known):
                    client.tell({"status": "ERROR", "message": OVERLOADED})

    def _dismiss(self, client: TranscriptionConnection) -> None:
        del self._clients[client.identity]
        client.end()
        self._scheduler.forget(client.identity)
        if self._turn_detection is not None:
            self._turn_detection.forget(client.identity)
        if client.hello.reply:
            self._language_model.offer(SessionEnded(client.identity))
            self._voice.offer(SessionEnded(client.identity))

    # -- what a client sends -------------------------------------------------------------------

    async def _listen(self, client: TranscriptionConnection) -> None:
        socket = client.socket
        with contextlib.suppress(ConnectionClosed):  # `wait_for` would keep it, with all frames
            async for message in socket:
                if client.socket is not socket:
                    return  # the client has come back over another one
                try:
                    if isinstance(message, bytes) and message != END_OF_AUDIO.encode():
                        await self._hear(client, message)
                    else:
                        self._handle_command(
                            client, message if isinstance(message, str) else message.decode()
                        )
                except ProtocolError as error:
                    client.complain(message, str(error), time.monotonic())
                if client.budget.spent:
                    client.unwanted = True
                    metrics.DROPS.labels("too much audio").inc()
                    client.tell({"status": "ERROR", "message": TOO_MUCH_AUDIO})
                    await client.close_when_sent("too much audio", TRY_AGAIN_LATER)
                    return

    async def _hear(self, client: TranscriptionConnection, message: bytes) -> None:
        """Listen to a message in parts, at the pace of the client's budget.

        While it waits, nothing is read from the client, and what it sends waits at its end.
        """
        for part, seconds in client.audio.parts(message):
            await self._hear_samples(client, client.audio.take(part))
            await asyncio.sleep(client.budget.take(seconds, time.monotonic()))
            if client.budget.spent or client.socket.close_code is not None:
                return

    async def _hear_samples(
        self, client: TranscriptionConnection, samples: NDArray[np.float32]
    ) -> None:
        for frame, probability in client.detector.feed(samples):
            self._carry_out(client, client.session.hear(frame, probability, time.monotonic()))
        while client.session.backlogged:
            client.caught_up.clear()
            await client.caught_up.wait()

    def _handle_command(self, client: TranscriptionConnection, message: str) -> None:
        now = client.active_at = time.monotonic()
        if message == END_OF_AUDIO:
            events = client.session.end_of_audio(now)
        else:
            events = client.carry_out(parse_command(message), now)
        self._carry_out(client, events)

    # -- what a session asks for ---------------------------------------------------------------

    def _carry_out(self, client: TranscriptionConnection, events: Iterable[Event]) -> None:
        for event in events:
            if isinstance(event, Tell):
                client.tell(event.fields)
            elif isinstance(event, Transcribe):
                self._scheduler.submit(Job(client.identity, event, client.request(event)))
            elif isinstance(event, PredictTurn):
                if self._turn_detection is not None:
                    self._turn_detection.ask(client.identity, event)
            elif isinstance(event, ToLanguageModel):
                client.note(event.message)
                self._to_language_model(event.message)
            elif isinstance(event, ToVoice):
                self._to_voice(event.message)
            else:
                client.log(event)
        client.caught_up.set()

    def _to_language_model(self, message: Message) -> None:
        """Tell the language model; a turn whose commit it does not take ends in an error."""
        if not self._language_model.offer(message) and isinstance(message, Commit):
            key = message.session, message.turn, message.revision
            self.handle(ReplyFailed(*key, OVERLOADED))

    def _to_voice(self, message: Message) -> None:
        """Tell the voice; a turn whose commit it does not take is answered in text alone."""
        if not self._voice.offer(message) and isinstance(message, Commit):
            self.handle(SpeechEnded(message.session, message.turn, None, time.monotonic()))

    def _turn_predicted(self, session: str, question: PredictTurn, probability: float) -> None:
        """In the turn detector's thread."""

        def deliver() -> None:
            client = self._clients.get(session)
            if client is not None:
                now = time.monotonic()
                events = client.session.turn_predicted(question.revision, probability, now)
                self._carry_out(client, events)

        tasks.call_in(self._loop, deliver)

    def _transcribed(self, job: Job, transcript: Transcript | None, provisional: bool) -> None:
        """In a worker thread of the scheduler."""

        def deliver() -> None:
            client = self._clients.get(job.session)
            if client is not None:
                now = time.monotonic()
                text = transcript.text if transcript else None
                language = transcript.language if transcript else ""
                events = client.session.transcribed(
                    job.event, text, now, provisional=provisional, language=language
                )
                self._carry_out(client, events)

        tasks.call_in(self._loop, deliver)

    def _live_dropped(self, job: Job) -> None:
        client = self._clients.get(job.session)
        if client is not None:
            tasks.call_in(self._loop, client.session.live_dropped, job.event)

    # -- the other processes, and time ---------------------------------------------------------

    def handle(self, message: Message) -> None:
        """Take one message from the language model or the voice."""
        if isinstance(message, ModelStatus):
            self._model_status = message
            for connection in self._clients.values():
                connection.tell_model_status(message)
            return
        client = self._clients.get(message.session)
        if client is not None:
            self._carry_out(client, client.received(message, time.monotonic()))

    def notice_restarts(self) -> None:
        """A restarted neighbour knows no session: tell it, and ask again what it had begun.

        Once it is ready: what the other neighbour sends it until then belongs to no session.
        """
        for service, outbox in self._neighbours.items():
            count = self._status.restart_count(service)
            if count == self._restart_counts[service] or self._status.phase(service) != Phase.READY:
                continue
            self._restart_counts[service] = count
            now = time.monotonic()
            for client in list(self._clients.values()):
                self._introduce(client, outbox)
                if service == Service.VOICE:
                    self._carry_out(client, client.session.voice_restarted(now))
                else:
                    self._carry_out(client, client.session.language_model_restarted(now))

    async def keep_time(self) -> None:
        """Let time pass for the sessions in which something is under way."""
        while True:
            metrics.SESSIONS.set(len(self._clients))
            await asyncio.sleep(_TICK)
            self._let_pass(time.monotonic())  # nobody of this loop's is kept while it waits

    def _let_pass(self, now: float) -> None:
        idle = [client.session.idle(now) for client in self._clients.values()]
        self._status.turns_under_way = idle.count(False)
        for client in list(self._clients.values()):
            if client.away_since is not None and now - client.away_since > RESUME_PATIENCE:
                self._dismiss(client)
                continue
            if client.session.idle(now):
                continue
            client.active_at = now
            self._carry_out(client, client.session.tick(now))
            if client.here and client.session.finished(now):
                client.close_soon("all is said")

    async def close(self) -> None:
        await take_leave(list(self._clients.values()))
        for client in self._clients.values():
            client.end()
        self._scheduler.close()
        if self._turn_detection is not None:
            self._turn_detection.close()
        self._transcriber.close()


async def _serve(settings: Settings, links: Links, stop: threading.Event) -> None:
    status = links.status
    beat = partial(status.beat, Service.TRANSCRIPTION)
    inbox = Inbox(links.llm_queue, links.authkey)
    language_model = Outbox(links.transcription_queue, links.authkey)
    voice = Outbox(links.audio_queue, links.authkey)
    access = AccessPolicy(settings, Health(status))
    port = open_port(settings, "transcription", access=access, max_size=settings.max_message_bytes)
    async with port as handler:
        status.report(Service.TRANSCRIPTION, Phase.WAITING)
        if not await neighbour_is_ready(Service.VOICE, status, stop, beat):
            return
        status.report(Service.TRANSCRIPTION, Phase.LOADING)
        pick = links.choice.transcription
        transcriber = await watchdog.load("transcriber", lambda: load(settings, pick))
        detector = await watchdog.load("turn detector", lambda: load_turn_detector(settings))
        if settings.measures_capacity and status.cost(Service.TRANSCRIPTION) is None:
            cost = await watchdog.load("transcriber", lambda: turn_cost(transcriber, detector))
            status.report_cost(Service.TRANSCRIPTION, cost)
        server = TranscriptionServer(settings, status, transcriber, detector, language_model, voice)
        handler.set_result(server.handle_connection)
        status.report(Service.TRANSCRIPTION, Phase.READY)
        logger.info("listening for audio on port %d", settings.transcription_port)
        clock = tasks.start(server.keep_time(), "clock")
        async for message in received(inbox, stop, beat):
            server.notice_restarts()
            if message is not None:
                server.handle(message)
        clock.cancel()
        await server.close()
    language_model.close()
    voice.close()
    await inbox.close()


def run(settings: Settings, links: Links) -> None:
    """The body of the process: load the transcriber, then serve until asked to stop."""
    with child_process(Service.TRANSCRIPTION, links) as stop:
        tasks.run(_serve(settings, links, stop))
