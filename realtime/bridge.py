"""One Realtime client and its session on our own two ports: events there become events here."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fusion.audio import SAMPLE_RATE
from realtime.actions import (
    AppendAudio,
    CancelResponse,
    ClearAudio,
    CommitAudio,
    Configure,
    CreateResponse,
    Output,
    SetHistory,
)
from realtime.config import ResponseConfig, SessionConfig
from realtime.pipeline_commands import conversation, listening, offered
from realtime.session import RealtimeSession
from realtime.sound import Decoder, Encoder
from whisper_live.client.conversation import Conversation
from whisper_live.client.events import (
    Closed,
    Event,
    Failure,
    Notice,
    ReplyText,
    Sound,
    Transcript,
)

BUFFER_LEAD = 3600.0
"""Seconds of sound that may be sent before they are due: all there are, the buffer is the
client's."""

_MOST_UNREAD = 4000  # events that a client may leave unread
_TICK = 0.1
_RESTARTED = "The server was restarted. Ask again."
_NO_SOUND = np.zeros(0, np.float32)


class Bridge:
    """Carries out what a `RealtimeSession` says, and tells it what the pipeline does.

    `send` sends text to the client. Everything happens in one event loop.
    """

    def __init__(
        self,
        session: RealtimeSession,
        pipeline: Conversation,
        send: Callable[[str], Awaitable[None]],
    ) -> None:
        self._session = session
        self._pipeline = pipeline
        self._send = send
        self._unread: asyncio.Queue[str] = asyncio.Queue(_MOST_UNREAD)
        self._decoder = Decoder(session.config.audio.input.format.type)
        self._encoder = Encoder(session.config.audio.output.format.type)
        self._heard = 0  # samples of the client's sound so far
        self._counted = 0  # how many of them were in turns that are transcribed
        self._committed: list[str] = []  # items whose turn in the pipeline is not known yet
        self._ended: dict[int, str] = {}  # items whose transcript is awaited, by their turn
        self._wanted: list[CreateResponse] = []
        self._turn_of: dict[str, int] = {}
        self._response_of: dict[int, str] = {}
        self._early: dict[int, list[ReplyText | Sound | Notice]] = {}
        self._replies: dict[str, _Reply] = {}
        self._playing: _Playing | None = None
        self._idle_from: float | None = None

    @property
    def _config(self) -> SessionConfig:
        return self._session.config

    @property
    def _milliseconds(self) -> int:
        return round(1000 * self._heard / SAMPLE_RATE)

    async def start(self) -> None:
        """Greet the client, and let the pipeline know how it is to listen."""
        await self._configure()
        await self._carry_out(self._session.open())

    async def write(self) -> None:
        """Send what is queued, until cancelled."""
        while True:
            await self._send(await self._unread.get())

    async def receive(self, message: str | bytes) -> None:
        """Take a message of the client."""
        await self._carry_out(self._session.receive(message))

    async def follow(self) -> None:
        """Follow the pipeline until its session ends."""
        async for event in self._pipeline.events():
            if isinstance(event, Closed):
                return
            await self._happened(event)

    async def keep_time(self) -> None:
        """Notice a silence that has lasted too long for the client; until cancelled."""
        while True:
            await asyncio.sleep(_TICK)
            detection = self._config.audio.input.turn_detection
            timeout = getattr(detection, "idle_timeout_ms", None)
            since = self._idle_from
            if timeout is None or since is None or time.monotonic() < since + timeout / 1000:
                continue
            self._idle_from = None
            end = self._milliseconds
            await self._carry_out(self._session.idle(max(0, end - timeout), end))
            if detection is not None and detection.create_response:
                response_id, told = self._session.response_started()
                silence = CreateResponse(response_id, ResponseConfig(), None)
                await self._carry_out([*told, silence])

    # -- what the session asks for -------------------------------------------------------------

    async def _carry_out(self, outputs: list[Output]) -> None:
        for output in outputs:
            if isinstance(output, dict):
                self._unread.put_nowait(json.dumps(output))  # QueueFull ends the connection
            elif isinstance(output, AppendAudio):
                samples = self._decoder.decode(output.sound)
                self._heard += len(samples)
                await self._pipeline.send(samples)
            elif isinstance(output, CommitAudio):
                self._committed.append(self._session.last_item or "")
                await self._pipeline.command("end_turn")
            elif isinstance(output, ClearAudio):
                await self._pipeline.command("clear")
            elif isinstance(output, Configure):
                await self._configure()
            elif isinstance(output, SetHistory):
                prompt, history = conversation(self._config.instructions, output.items)
                fields = {"system_prompt": prompt, "history": history}
                await self._pipeline.command("configure", **fields)
            elif isinstance(output, CreateResponse):
                self._idle_from = None
                self._wanted.append(output)
                await self._respond()
            else:
                await self._cancel(output)

    async def _configure(self) -> None:
        audio = self._config.audio
        if self._decoder.kind != audio.input.format.type:
            self._decoder = Decoder(audio.input.format.type)
        if self._encoder.kind != audio.output.format.type:
            self._encoder = Encoder(audio.output.format.type)
        prompt, _ = conversation(self._config.instructions, self._session.history())
        await self._pipeline.command("configure", system_prompt=prompt, **listening(self._config))

    async def _respond(self) -> None:
        """Ask for what is wanted, once the words of everything committed are known."""
        while self._wanted and not self._committed and not self._ended:
            wanted = self._wanted.pop(0)
            config = wanted.config
            instructions = config.instructions or self._config.instructions
            items = self._session.history() if wanted.input is None else wanted.input
            prompt, history = conversation(instructions, items)
            tokens = config.max_output_tokens
            fields = {
                "id": wanted.response_id,
                "history": history,
                "aside": wanted.input is not None or config.conversation == "none",
                "system_prompt": prompt,
                "speak": (config.output_modalities or self._config.output_modalities) == ["audio"],
                "max_tokens": tokens if isinstance(tokens, int) else 0,
                **offered(self._config, config),
            }
            await self._pipeline.command("respond", **fields)

    async def _cancel(self, cancelled: CancelResponse) -> None:
        self._wanted = [one for one in self._wanted if one.response_id != cancelled.response_id]
        turn = self._turn_of.get(cancelled.response_id)
        if turn is not None:
            self._stopped_playing()
            await self._pipeline.command("interrupt", turn=turn)

    # -- what the pipeline does ----------------------------------------------------------------

    async def _happened(self, event: Event) -> None:
        if isinstance(event, Transcript):
            await self._transcribed(event)
        elif isinstance(event, Failure):
            await self._failed(event)
        elif isinstance(event, ReplyText | Sound) or (
            isinstance(event, Notice) and event.name in ("clause", "reply_end", "tool_call")
        ):
            await self._replied(event)
        elif isinstance(event, Notice):
            await self._noticed(event)

    async def _noticed(self, event: Notice) -> None:
        if event.name == "speech_started":
            await self._speech_started(float(event.fields.get("at", 0.0)))
        elif event.name == "turn_ended":
            if self._committed and event.turn is not None:
                self._ended[event.turn] = self._committed.pop(0)
        elif event.name == "held" and event.turn in self._ended:
            await self._words(self._ended.pop(event.turn), str(event.fields.get("text", "")))
        elif event.name == "no_speech":
            if event.turn is None and self._committed:
                await self._words(self._committed.pop(0), "")
            elif event.turn in self._ended:
                await self._words(self._ended.pop(event.turn), "")
            else:
                await self._carry_out(self._session.nothing_said(self._milliseconds))
        elif event.name == "responding":
            await self._responds(event.turn or 0, str(event.fields["id"]))
        elif event.name == "SERVER_READY" and not event.fields.get("resumed"):
            await self._began_anew()

    async def _speech_started(self, seconds: float) -> None:
        detection = self._config.audio.input.turn_detection
        self._idle_from = None
        if detection is None or self._session.speaking:
            return
        outputs = self._session.speech_started(round(1000 * seconds))
        if detection.interrupt_response:
            outputs += self._session.interrupted()
            self._stopped_playing()
        await self._carry_out(outputs)

    async def _transcribed(self, event: Transcript) -> None:
        if not event.final:
            return
        detection = self._config.audio.input.turn_detection
        if event.turn in self._ended:
            item = self._ended.pop(event.turn)
        elif detection is None:
            return
        else:
            # What interrupts in one short word was not known for speech to it before its end.
            await self._speech_started(event.segments[0].start if event.segments else 0.0)
            await self._carry_out(self._session.turn_ended(self._milliseconds))
            item = self._session.last_item or ""
        await self._words(item, event.text)
        if detection is not None and detection.create_response and event.turn is not None:
            response_id, told = self._session.response_started()
            await self._carry_out(told)
            await self._responds(event.turn, response_id)

    async def _words(self, item: str, words: str) -> None:
        seconds, self._counted = (self._heard - self._counted) / SAMPLE_RATE, self._heard
        await self._carry_out(self._session.transcribed(item, words, seconds))
        await self._respond()

    async def _responds(self, turn: int, response_id: str) -> None:
        """This turn's reply is that response; what came of it before is told now."""
        self._turn_of[response_id], self._response_of[turn] = turn, response_id
        for event in self._early.pop(turn, []):
            await self._replied(event)

    async def _failed(self, event: Failure) -> None:
        response_id = self._response_of.get(event.turn or 0)
        if response_id is not None:
            outputs = self._session.failed(response_id, event.message)
        elif event.turn in self._ended:
            item = self._ended.pop(event.turn)
            outputs = self._session.transcription_failed(item, event.message)
        elif self._session.speaking:
            outputs = self._session.turn_ended(self._milliseconds)
            item = self._session.last_item or ""
            outputs += self._session.transcription_failed(item, event.message)
        else:
            outputs = self._session.trouble(event.message)
        await self._carry_out(outputs)
        await self._respond()

    async def _replied(self, event: ReplyText | Sound | Notice) -> None:
        if event.turn is None:
            return
        response_id = self._response_of.get(event.turn)
        if response_id is None:
            # The two sockets are not in step: the sound may come before its turn is committed.
            self._early.setdefault(event.turn, []).append(event)
            return
        await self._carry_out(self._progress(response_id, event))

    def _progress(self, response_id: str, event: ReplyText | Sound | Notice) -> list[Output]:
        session = self._session
        reply = self._replies.setdefault(response_id, _Reply())
        if isinstance(event, ReplyText):
            more = event.text[reply.read :]
            reply.read = max(reply.read, len(event.text))
            reply.text_over = reply.text_over or event.final
            outputs = session.replied(response_id, more) if more else []
            silent = event.final and not (event.text and session.is_spoken(response_id))
            reply.sound_over = reply.sound_over or silent
            return outputs + self._completed(response_id, reply)
        if isinstance(event, Sound):
            return self._play(response_id, self._encoder.encode(event.samples))
        if event.name == "tool_call":
            reply.calls += [] if event.fields["by_server"] else [event.fields]
            return []
        if event.name == "clause":
            return session.clause(response_id, str(event.fields["text"]))
        outputs = self._play(response_id, self._encoder.encode(_NO_SOUND, last=True))
        if event.fields.get("interrupted"):
            return outputs + session.interrupted()
        reply.sound_over = True
        return outputs + self._completed(response_id, reply)

    def _completed(self, response_id: str, reply: _Reply) -> list[Output]:
        """The response is over once its text and its sound are: its calls come last.

        The two sockets are not in step: either may say so first.
        """
        if not (reply.text_over and reply.sound_over):
            return []
        self._now_idle(self._playing.left if self._playing is not None else 0.0)
        outputs: list[Output] = []
        for call in reply.calls:
            arguments = json.dumps(call["arguments"])
            outputs += self._session.called(response_id, call["name"], arguments, call["id"])
        return outputs + self._session.completed(response_id)

    def _play(self, response_id: str, sound: bytes) -> list[Output]:
        if not sound:
            return []
        milliseconds = self._encoder.milliseconds(sound)
        outputs = self._session.played(response_id, sound, milliseconds)
        item = self._session.message_of(response_id)
        if item is not None:
            if self._playing is None or self._playing.item != item:
                self._playing = _Playing(item, self._playing)
            self._playing.add(milliseconds)
        return outputs

    def _stopped_playing(self) -> None:
        """Nothing more is played of the latest message."""
        if self._playing is not None:
            self._session.played_until(self._playing.item, self._playing.played)
            self._playing = None

    def _now_idle(self, playing: float) -> None:
        self._idle_from = time.monotonic() + playing

    async def _began_anew(self) -> None:
        """The pipeline lost the session: its turns count from 1 again, and it knows nothing."""
        outputs: list[Output] = []
        for response_id in self._turn_of:
            outputs += self._session.failed(response_id, _RESTARTED)
        for item in (*self._ended.values(), *self._committed):
            outputs += self._session.transcription_failed(item, _RESTARTED)
        self._committed.clear()
        for known in (self._turn_of, self._response_of, self._early, self._replies, self._ended):
            known.clear()
        await self._configure()
        await self._carry_out([*outputs, SetHistory(self._session.history())])
        await self._respond()


@dataclass
class _Reply:
    """What came of a response so far: `read` characters of it, and its calls of functions."""

    read: int = 0
    text_over: bool = False
    sound_over: bool = False
    calls: list[Mapping[str, Any]] = field(default_factory=list)


class _Playing:
    """A message that a client plays without gaps: how far it is, going by the clock."""

    def __init__(self, item: str, before: _Playing | None) -> None:
        self.item = item
        self._begins = time.monotonic() + (before.left if before is not None else 0.0)
        self._milliseconds = 0.0

    def add(self, milliseconds: float) -> None:
        self._milliseconds += milliseconds

    @property
    def played(self) -> float:
        """Milliseconds of it that were played."""
        return min(self._milliseconds, max(0.0, 1000 * (time.monotonic() - self._begins)))

    @property
    def left(self) -> float:
        """Seconds of it that are still to be played."""
        return max(0.0, self._begins + self._milliseconds / 1000 - time.monotonic())
