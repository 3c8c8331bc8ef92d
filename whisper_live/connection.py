"""One client on the transcription port: its socket, its audio's way to frames, its session."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import secrets
import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from fusion import metrics, tasks, tracing
from fusion.logs import about, without_quotes
from fusion.messages import (
    AudioKeyChanged,
    Commit,
    Message,
    ModelStatus,
    SessionChanged,
    SessionStarted,
    ToolResult,
)
from fusion.serving.access import Caller
from fusion.settings import Settings
from whisper_live.answers import RESTARTED, TOO_SLOW
from whisper_live.audio_budget import AudioBudget
from whisper_live.events import Event, ToLanguageModel, ToVoice, Transcribe, TurnTimeline
from whisper_live.flight_recorder.recorder import RecordingFolder
from whisper_live.followed_session import FollowedSession, Follower
from whisper_live.handshake import Changes, Command, Hello
from whisper_live.incoming_audio import IncomingAudio
from whisper_live.outgoing import OutgoingMessages
from whisper_live.session import UNRECOGNISED, Session
from whisper_live.session_policy import SessionPolicy
from whisper_live.speculation_count import SpeculationCount
from whisper_live.transcribers.base import TranscriptionRequest
from whisper_live.turn_traces import TurnTraces
from whisper_live.vad import VoiceActivityDetector

logger = logging.getLogger(__name__)

_COMPLAINT_INTERVAL = 1.0

# Close codes with which a client says that it wants no more (RFC 6455: normal, and none given).
_FAREWELLS = (1000, 1005)


@dataclass(eq=False)
class TranscriptionConnection:
    """A connection with its session, which outlives it for a while: the client may come back.

    `caught_up` is set whenever the session has made progress. `away_since` is when the connection
    was lost (monotonic seconds), None while there is one. `active_at` is when anything was
    last said or under way.
    """

    socket: ServerConnection
    hello: Hello
    session: Session
    started: SessionStarted
    detector: VoiceActivityDetector
    audio: IncomingAudio
    outgoing: OutgoingMessages
    budget: AudioBudget
    resume_key: str = field(default_factory=lambda: secrets.token_urlsafe(18))
    away_since: float | None = None
    unwanted: bool = False
    active_at: float = field(default_factory=time.monotonic)
    writer: asyncio.Task[None] | None = None
    caught_up: asyncio.Event = field(default_factory=asyncio.Event)
    closing: asyncio.Task[None] | None = None
    speculations: SpeculationCount = field(default_factory=SpeculationCount)
    complained_at: dict[type, float] = field(default_factory=dict)

    @classmethod
    def begin(
        cls, socket: ServerConnection, hello: Hello, caller: Caller, settings: Settings
    ) -> TranscriptionConnection:
        """Make a session for a client that said hello."""
        policy = SessionPolicy.from_settings(
            settings,
            stream=hello.stream,
            reply=hello.reply,
            runs_ahead=hello.buffer_lead is not None,
        )
        session = _make_session(policy, hello, settings)
        started = SessionStarted(
            session=session.identity,
            audio_key=secrets.token_urlsafe(18),
            address=caller.address,
            language=hello.language or "",
            system_prompt=hello.system_prompt,
            voice=hello.voice,
            history=hello.history,
            knows_keys=hello.stream,  # older clients ask for no events
            buffer_lead=hello.buffer_lead,
            tools=hello.tools,
        )
        metrics.CONNECTS.labels(caller.token_name).inc()
        by = f" with the token of {caller.token_name}" if caller.token_name else ""
        logger.info("a client connects%s", by, extra=about(session.identity))
        audio = IncomingAudio(hello.audio_format, hello.sample_rate)
        outgoing = OutgoingMessages(hello.uid)
        budget = AudioBudget.from_settings(settings)
        return cls(
            socket, hello, session, started, VoiceActivityDetector(), audio, outgoing, budget
        )

    def attach(self, socket: ServerConnection) -> None:
        """Go on over another connection: its sound begins anew, and what was missed is told."""
        self.leave(self.away_since or 0.0)
        logger.info("the client is back", extra=about(self.identity))
        self.socket.transport.abort()
        self.socket, self.away_since, self.closing = socket, None, None
        self.detector = VoiceActivityDetector()
        self.audio = IncomingAudio(self.hello.audio_format, self.hello.sample_rate)
        self._note("the client is back")
        self.outgoing.held = False
        self.outgoing.send_again()

    def leave(self, now: float) -> None:
        """The connection is lost: hold back what is said until the client is back."""
        self.away_since = now
        self._note("the connection is lost")
        self.outgoing.held = True
        self.stop_writing()

    def stop_writing(self) -> None:
        """Send nothing more. A cancelled task that were kept would keep all of this session."""
        if self.writer is not None:
            self.writer.cancel()
            self.writer = None

    def _note(self, what: str, message: Message | None = None) -> None:
        """For whoever looks at the session."""
        if isinstance(self.session, FollowedSession):
            self.session.note(what, message)

    @property
    def may_return(self) -> bool:
        """Whether the connection was lost rather than closed by a client that is done."""
        return not self.unwanted and self.socket.close_code not in _FAREWELLS

    def request(self, event: Transcribe) -> TranscriptionRequest:
        """What the transcriber is asked for this client."""
        return TranscriptionRequest(
            event.audio,
            self.hello.language,
            self.hello.task,
            self.hello.context,
            quick=event.segment is None,  # a segment's text is not waited for
            expected=self.session.language,
        )

    def change(self, changes: Changes) -> SessionChanged | None:
        """Take what a client configures; what its language model and voice are told of it."""
        before = self.started
        for name in ("system_prompt", "voice", "max_tokens", "tools"):
            value = getattr(changes, name)
            if value is not None:
                self.started = replace(self.started, **{name: value})
        if self.started == before and changes.history is None:
            return None
        return SessionChanged(
            session=self.identity,
            system_prompt=self.started.system_prompt,
            voice=self.started.voice,
            max_tokens=self.started.max_tokens,
            history=changes.history,
            tools=self.started.tools,
        )

    @property
    def identity(self) -> str:
        return self.session.identity

    def introduction(self) -> SessionStarted:
        """What the language model and the voice have to know, with the conversation up to now."""
        introduction = replace(self.started, history=self.session.history())
        self._note("introduced", introduction)
        return introduction

    def carry_out(self, command: Command, now: float) -> list[Event]:
        """Carry out what a client asks for; what follows from it."""
        session = self.session
        if command.name == "say":
            return session.say(command.text, now)
        if command.name == "end_turn":
            return session.end_turn(now)
        if command.name == "clear":
            return session.clear(now)
        if command.name == "interrupt":
            return session.interrupt(now, command.turn)
        if command.result is not None:
            result = command.result
            told = ToolResult(self.identity, result.call_id, result.text, result.failed)
            self._note("the client carried out a call", told)
            return [ToLanguageModel(told)]
        if command.own_words is not None:
            return session.read_aloud(command.own_words, now)
        events: list[Event] = []
        if command.changes is not None:
            change = self.change(command.changes)
            if change is not None:
                self._note("the client configures", change)
                events += [ToLanguageModel(change), ToVoice(change)]
            events += session.configure(command.changes)
        if command.wanted is not None:
            events += session.respond(command.wanted, now)
        return events

    def keys(self, resume: str) -> dict[str, object]:
        """The session's keys, and whether `resume` was its own, so that it goes on."""
        keys: dict[str, object] = {
            "audio_key": self.started.audio_key,
            "resume_key": self.resume_key,
        }
        if resume:
            keys |= {
                "resumed": resume == self.resume_key,
                "position": round(self.session.position, 3),
            }
        return keys

    def received(self, message: Message, now: float) -> list[Event]:
        """Take a message from the language model or the voice; what follows from it."""
        if not isinstance(message, AudioKeyChanged):
            return self.session.received(message, now)
        self.started = replace(self.started, audio_key=message.audio_key)
        self.tell({"event": "audio_key", "audio_key": message.audio_key})
        return []

    def tell(self, fields: dict[str, object]) -> None:
        """Queue a JSON message; a client that does not read is disconnected."""
        if "llm_output" in fields and fields["eos"]:
            end = "interrupted" if fields.get("interrupted") else "complete"
            metrics.REPLIES.labels(end).inc()
        if fields.get("status") == "ERROR":
            metrics.ERRORS.labels(_kind(fields)).inc()
            sentence = without_quotes(str(fields["message"]))
            logger.warning("the client is told: %s", sentence, extra=self._about(fields))
        if not self.outgoing.put(fields):
            metrics.DROPS.labels("client does not read").inc()
            sentence = "the client does not read its messages and is disconnected"
            logger.warning(sentence, extra=about(self.identity))
            self.unwanted = True
            self.socket.transport.abort()

    def _about(self, fields: dict[str, object]) -> dict[str, object]:
        turn = fields.get("turn")
        return about(self.identity, turn if isinstance(turn, int) else None)

    async def write(self) -> None:
        """Send what is queued, until cancelled or until the connection is gone."""
        with contextlib.suppress(ConnectionClosed):
            await self.outgoing.write(self.socket.send)

    def tell_model_status(self, status: ModelStatus) -> None:
        """Say which language model answers, to a client that asked for events."""
        self._note("the language model", status)
        if self.hello.stream:
            fields = {"name": status.name, "coming": status.coming, "detail": status.detail}
            self.tell({"event": "language_model", **fields})

    @property
    def here(self) -> bool:
        """Whether there is a connection, and it stays."""
        return self.away_since is None and self.closing is None

    def may_give_place(self, now: float) -> bool:
        """Whether nothing is said or under way here."""
        return self.here and self.session.idle(now)

    def dismiss(self, reason: str, code: int) -> None:
        """End the session, once the client has what is queued."""
        self.unwanted = True
        metrics.DROPS.labels("silent client").inc()
        self.tell({"message": "DISCONNECT"})
        self.close_soon(reason, code)

    def close_soon(self, reason: str, code: int = 1000) -> None:
        """Close once the client has what is queued, beside what goes on."""
        self.closing = tasks.start(self.close_when_sent(reason, code), "closing")

    async def close_when_sent(self, reason: str, code: int = 1000) -> None:
        """Close once the client has what is queued, or does not take it for a second."""
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self.outgoing.all_sent(), 1.0)
        await self.socket.close(code, reason)

    def note(self, message: Message) -> None:
        """Count and write down what the session asks of the language model."""
        if isinstance(message, Commit):
            metrics.TURNS.inc()
            logger.info("committed", extra=about(self.identity, message.turn))
        for fate in self.speculations.follow(message):
            metrics.SPECULATIONS.labels(fate).inc()

    def end(self) -> None:
        """The session is over."""
        logger.info("the session ends", extra=about(self.identity))
        for fate in self.speculations.end():
            metrics.SPECULATIONS.labels(fate).inc()
        if isinstance(self.session, FollowedSession):
            self.session.close(time.monotonic())

    def log(self, timeline: TurnTimeline) -> None:
        """Write down where the time of a turn went."""
        for stage, milliseconds in timeline.milliseconds.items():
            if milliseconds is not None:
                metrics.TURN_SECONDS.labels(stage).observe(milliseconds / 1000)
        times = "  ".join(
            f"{name} {value if value is not None else '-'}"
            for name, value in timeline.milliseconds.items()
        )
        ahead = "prepared ahead" if timeline.speculative else "made after the commit"
        logger.info(
            "ms since the end of speech: %s (%s)",
            times,
            ahead,
            extra=about(self.identity, timeline.turn),
        )

    def complain(self, message: str | bytes, sentence: str, now: float) -> None:
        """Tell what is wrong with a message; once a second is enough for a stream of its kind."""
        kind = type(message)
        if now - self.complained_at.get(kind, -math.inf) >= _COMPLAINT_INTERVAL:
            self.complained_at[kind] = now
            self.tell({"status": "ERROR", "message": sentence})


def _make_session(policy: SessionPolicy, hello: Hello, settings: Settings) -> Session:
    """A session, and who looks at it where an operator wants to see it."""
    identity = secrets.token_hex(8)
    folder = RecordingFolder.from_settings(settings)
    recording = folder and folder.begin(identity, hello, settings)
    # What is recorded is what the session says, before its messages name their spans.
    followers: list[Follower] = [recording] if recording else []
    followers += [TurnTraces(identity)] if tracing.is_on() else []
    if not followers:
        return Session(identity, policy, hello.history)
    return FollowedSession(identity, policy, hello.history, followers)


def _kind(fields: dict[str, object]) -> str:
    """What kind of error a client is told."""
    if "turn" not in fields:
        return "request"
    return {RESTARTED: "restart", TOO_SLOW: "timeout", UNRECOGNISED: "transcription"}.get(
        str(fields["message"]), "language model"
    )


async def take_leave(clients: Iterable[TranscriptionConnection]) -> None:
    """Say that the server ends, and close."""
    here = [client for client in clients if client.here]
    for client in here:
        client.tell({"message": "DISCONNECT"})
    await asyncio.gather(*(client.close_when_sent("the server ends", 1001) for client in here))
