"""One client's conversation: its audio and turns. No I/O: frames, messages and time go in, events
come out.

The `Listener` says what the person says and when they are done; the `Answers` keep track of what
the machine says to it. This module connects the two: it decides what a client sees, what the
language model may work on ahead of time, and when speech interrupts the machine.
"""

from __future__ import annotations

import enum
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusion.messages import (
    ClauseSpoken,
    Commit,
    Message,
    Prefill,
    ReplyEnded,
    ReplyFailed,
    ReplyText,
    Speculation,
    SpeechEnded,
    SpeechStarted,
    Withdrawal,
)
from fusion.settings import Settings
from whisper_live.activity import FRAME_SECONDS
from whisper_live.answers import Answers
from whisper_live.backchannel import is_command
from whisper_live.echo import is_echo
from whisper_live.events import (
    Event,
    PredictTurn,
    Revision,
    Tell,
    ToLanguageModel,
    ToVoice,
    Transcribe,
)
from whisper_live.interruption import interrupts
from whisper_live.listener import (
    Began,
    Completed,
    Dropped,
    EagerEndOfTurn,
    Listener,
    ListenerEvent,
    ListeningPolicy,
    StablePrefix,
    TranscriptChanged,
    Withdrawn,
)
from whisper_live.utterance import Segment

logger = logging.getLogger(__name__)

UNHEARD = "The speech recogniser failed on what you said. Please say it again."

# A microphone that is quiet for so many seconds while the machine speaks does not hear it.
_QUIET_AFTER = 1.5

# From a microphone that did not hear the machine so far, fewer words are no echo: almost any "is
# it" or "and so" is somewhere in a reply.
_ECHO_WORDS = 4

# With the last word said, a client that sent END_OF_AUDIO may still be playing this much.
_CLOSE_DELAY = 0.5


class Microphone(enum.IntEnum):
    """Whether it hears the machine.

    The value is how many live transcripts in a row must differ from the machine's words to
    interrupt it, as the first words of an echo are often misheard.
    """

    QUIET = 1
    UNKNOWN = 2
    ECHOING = 3


@dataclass(frozen=True)
class SessionPolicy:
    """What one session is to do: its client's wishes and the server's settings."""

    listening: ListeningPolicy
    stream: bool
    reply: bool
    speculative_generation: bool
    barge_in: bool
    barge_in_speech: float
    reply_timeout: float

    @classmethod
    def from_settings(cls, settings: Settings, *, stream: bool, reply: bool) -> SessionPolicy:
        return cls(
            listening=ListeningPolicy.from_settings(settings),
            stream=stream,
            reply=reply,
            speculative_generation=settings.speculative_generation,
            barge_in=settings.barge_in,
            barge_in_speech=settings.barge_in_speech,
            reply_timeout=settings.reply_timeout,
        )


class Session:
    """The turns of one client. Every method returns the events that follow from what it is told."""

    def __init__(
        self, identity: str, policy: SessionPolicy, history: Sequence[tuple[str, str]] = ()
    ) -> None:
        self.identity = identity
        self._policy = policy
        self._listener = Listener(policy.listening)
        self._answers = Answers(
            stream=policy.stream, timeout=policy.reply_timeout, history=list(history)
        )
        # While the machine thinks or speaks, speech has yet to prove that it is meant for it.
        self._contested: set[int] = set()
        self._echoes = ""
        self._microphone = Microphone.UNKNOWN
        self._undisturbed = 0.0
        self._agreed = 0
        self._speculation: Revision | None = None
        self._shown = False
        self._held: list[Event] = []
        self._audio_ended_at: float | None = None

    @property
    def backlogged(self) -> bool:
        """Whether the server should read no more audio until the transcriber has caught up."""
        return self._listener.backlogged

    def finished(self, now: float) -> bool:
        """Whether the client sent END_OF_AUDIO and everything after it is said and done."""
        if self._audio_ended_at is None or self._listener.busy:
            return False
        quiet = not self._answers.unanswered() and not self._answers.active(now)
        return quiet and now - self._audio_ended_at > _CLOSE_DELAY

    def history(self) -> tuple[tuple[str, str], ...]:
        """The conversation so far, for a language model that has forgotten it."""
        return self._answers.history()

    @property
    def _speculates(self) -> bool:
        return self._policy.reply and self._policy.speculative_generation

    # -- from the client -----------------------------------------------------------------------

    def hear(self, frame: NDArray[np.float32], probability: float, now: float) -> list[Event]:
        """Take 512 samples of 16 kHz float32 audio with their speech probability."""
        events = self._follow(self._listener.hear(frame, probability, now), now)
        if self._microphone == Microphone.UNKNOWN and self._answers.sounding(now):
            alone = self._listener.turn is None
            self._undisturbed = self._undisturbed + FRAME_SECONDS if alone else 0.0
            if self._undisturbed >= _QUIET_AFTER:
                self._microphone = Microphone.QUIET
        return self._out(events)

    def end_turn(self, now: float) -> list[Event]:
        """The client says that the person is done."""
        return self._out(self._follow(self._listener.end_turn(now), now))

    def end_of_audio(self, now: float) -> list[Event]:
        """No more audio will come; the turn, if there is one, is over."""
        self._audio_ended_at = now
        return self.end_turn(now)

    def interrupt(self, now: float) -> list[Event]:
        """The client asks for silence."""
        return self._out(self._answers.interrupt(now))

    def say(self, text: str, now: float) -> list[Event]:
        """A typed turn."""
        events = self._answers.interrupt(now)
        return self._out(events + self._follow(self._listener.typed(text, now), now))

    # -- from the models -----------------------------------------------------------------------

    def transcribed(self, job: Transcribe, text: str | None, now: float) -> list[Event]:
        """Take the text of a transcription that was asked for; None if it failed."""
        return self._out(self._follow(self._listener.transcribed(job, text, now), now))

    def live_dropped(self, job: Transcribe) -> None:
        """A live transcription gave way to more urgent work."""
        self._listener.live_dropped(job)

    def turn_predicted(self, revision: Revision, probability: float, now: float) -> list[Event]:
        """Take the turn detector's verdict."""
        return self._out(
            self._follow(self._listener.turn_predicted(revision, probability, now), now)
        )

    def received(self, message: Message, now: float) -> list[Event]:
        """Take a message from the language model or the voice."""
        if not isinstance(
            message,
            ReplyText | ReplyEnded | ReplyFailed | SpeechStarted | ClauseSpoken | SpeechEnded,
        ):
            raise TypeError(f"not a message for a session: {message}")
        events = self._answers.received(message, now)
        if isinstance(message, SpeechStarted):
            self._contest(now)
        return self._out(events)

    def language_model_restarted(self) -> list[Event]:
        """Its process was replaced by a new one, which knows nothing of this session's turns."""
        return self._out(self._answers.language_model_restarted())

    def voice_restarted(self, now: float) -> list[Event]:
        """Likewise for the voice."""
        return self._out(self._answers.voice_restarted(now))

    def tick(self, now: float) -> list[Event]:
        """Time passes. Call a few times a second while `busy`."""
        events = self._answers.tick(now)
        return self._out(events + self._follow(self._listener.tick(now), now))

    def idle(self, now: float) -> bool:
        """Whether nothing is under way, so that time alone changes nothing."""
        return not (
            self._listener.busy
            or self._held
            or self._answers.unanswered()
            or self._answers.active(now)
            or self._answers.echoes(now)
            or self._audio_ended_at is not None
        )

    # -- what follows from what was said -------------------------------------------------------

    def _follow(self, happened: Iterable[ListenerEvent], now: float) -> list[Event]:
        events: list[Event] = []
        for event in happened:
            if isinstance(event, Transcribe | PredictTurn):
                events.append(event)
            elif isinstance(event, Began):
                events += self._began(event, now)
            elif isinstance(event, TranscriptChanged):
                events += self._transcript_changed(event, now)
            elif isinstance(event, StablePrefix):
                events += self._stable_prefix(event)
            elif isinstance(event, EagerEndOfTurn):
                events += self._eager_end_of_turn(event.revision)
            elif isinstance(event, Withdrawn):
                events += self._withdraw(event.revision)
            elif isinstance(event, Completed):
                events += self._completed(event, now)
            else:
                events += self._dropped(event, now)
        return events

    def _began(self, event: Began, now: float) -> list[Event]:
        self._shown = False
        self._agreed = 0
        self._contest(now)
        return [] if event.turn in self._contested else self._event("speech_started", event.turn)

    def _contest(self, now: float) -> None:
        """Speech while the machine is active, or its echo is: words must show what it is."""
        turn = self._listener.turn
        echoes = self._answers.echoes(now)
        if turn is not None and (self._answers.active(now) or echoes):
            self._contested.add(turn)
            self._echoes = echoes
        self._listener.attentive = turn in self._contested

    def _resolve(self, turn: int) -> None:
        """The utterance is contested no longer."""
        self._contested.discard(turn)
        self._listener.attentive = self._listener.turn in self._contested

    def _settle(self, turn: int, text: str, now: float, *, complete: bool = False) -> list[Event]:
        """Decide from its words whether contested speech is meant for the machine."""
        self._echoes = self._answers.echoes(now) or self._echoes
        few = self._microphone == Microphone.QUIET and len(text.split()) < _ECHO_WORDS
        echoes = "" if few else self._echoes
        if is_echo(text, echoes, growing=not complete):
            self._microphone = Microphone.ECHOING
        if not interrupts(
            text,
            echoes,
            self._listener.speech,
            self._policy.barge_in_speech,
            complete=complete,
            echoing=self._microphone == Microphone.ECHOING,
        ):
            self._agreed = 0
            return []
        self._agreed += 1
        certain = complete or is_command(text) or not echoes
        if not certain and self._agreed < self._microphone:
            return []
        logger.debug("turn %d interrupts with %r the words %r", turn, text, echoes)
        self._resolve(turn)
        return self._answers.interrupt(now) if self._policy.barge_in else []

    def _transcript_changed(self, event: TranscriptChanged, now: float) -> list[Event]:
        events: list[Event] = []
        text = " ".join(segment.text or "" for segment in (*event.segments, event.tail)).strip()
        if event.turn in self._contested:
            events += self._settle(event.turn, text, now)
            if event.turn in self._contested:
                return events
            events += self._event("speech_started", event.turn)
        # WhisperLive's client fails on an empty list.
        if text or (self._shown and self._policy.stream):
            self._shown = True
            events.append(
                self._segments(event.turn, event.segments, event.tail, event.until, now, eos=False)
            )
        return events

    def _stable_prefix(self, event: StablePrefix) -> list[Event]:
        if event.turn in self._contested or not self._speculates:
            return []
        return [ToLanguageModel(Prefill("", event.turn, event.text))]

    def _eager_end_of_turn(self, revision: Revision) -> list[Event]:
        # What may be an echo is shown to nobody; and a reply that depends on how much of the last
        # one was heard cannot be made ahead of that.
        if revision.turn in self._contested:
            return []
        events = self._event("speech_stopped", revision.turn)
        if not self._speculates:
            return events
        assert revision.text is not None
        self._speculation = revision
        self._answers.speculate(revision)
        speculation = Speculation("", revision.turn, revision.number, revision.text)
        return [*events, ToLanguageModel(speculation)]

    def _withdraw(self, revision: Revision) -> list[Event]:
        if self._speculation is not revision:
            return []
        self._speculation = None
        self._answers.withdraw(revision)
        withdrawal = Withdrawal("", revision.turn, revision.number)
        return [ToLanguageModel(withdrawal), ToVoice(withdrawal)]

    def _completed(self, event: Completed, now: float) -> list[Event]:
        revision = event.revision
        assert revision.text is not None
        events: list[Event] = []
        if revision.turn in self._contested:
            events += self._settle(revision.turn, revision.text, now, complete=True)
            if revision.turn in self._contested:
                self._resolve(revision.turn)
                return events
        # WhisperLive's client keeps the last words it saw unfinished as a segment of their own,
        # unless they come back word for word as completed.
        unfinished = self._shown and not self._policy.stream
        events += [
            self._segments(
                revision.turn,
                event.segments[:-1],
                event.segments[-1],
                revision.end_of_speech,
                now,
                eos=eos,
            )
            for eos in ([False, True] if unfinished else [True])
        ]
        events += self._commit(revision, now)
        self._shown = False
        self._contest(now)
        return events

    def _commit(self, revision: Revision, now: float) -> list[Event]:
        if self._speculation is not None and self._speculation.turn <= revision.turn:
            self._speculation = None
        return self._answers.commit(revision, now) if self._policy.reply else []

    def _dropped(self, event: Dropped, now: float) -> list[Event]:
        self._resolve(event.turn)
        events: list[Event] = []
        if self._speculation is not None and self._speculation.turn == event.turn:
            events += self._withdraw(self._speculation)
        if self._shown and self._policy.stream:
            fields = {"segments": [], "eos": False, "latency": 0.0}
            events.append(Tell(self._with_turn(fields, event.turn)))
        if event.failed:
            events.append(Tell({"status": "ERROR", "message": UNHEARD, "turn": event.turn}))
        self._shown = False
        return events

    # -- messages ------------------------------------------------------------------------------

    def _segments(
        self,
        turn: int,
        segments: Sequence[Segment],
        tail: Segment,
        until: float,
        now: float,
        *,
        eos: bool,
    ) -> Tell:
        spoken = [(segment, True) for segment in segments] + [(tail, eos)]
        fields = {
            "segments": [
                {
                    "start": f"{max(segment.first, 0) * FRAME_SECONDS:.3f}",
                    "end": f"{segment.last * FRAME_SECONDS:.3f}",
                    "text": f" {segment.text.strip()}",
                    "completed": completed,
                }
                for segment, completed in spoken
                if segment.text
            ],
            "eos": eos,
            "latency": round(now - until, 3),
        }
        return Tell(self._with_turn(fields, turn))

    def _event(self, name: str, turn: int) -> list[Event]:
        return [Tell({"event": name, "turn": turn})] if self._policy.stream else []

    def _with_turn(self, fields: dict[str, Any], turn: int) -> dict[str, Any]:
        return {**fields, "turn": turn} if self._policy.stream else fields

    def _out(self, events: list[Event]) -> list[Event]:
        """Put the session's name on messages, and hold back what must not overtake last words."""
        out: list[Event] = []
        for event in events:
            if isinstance(event, ToLanguageModel):
                named = ToLanguageModel(replace(event.message, session=self.identity))
                new_work = isinstance(event.message, Speculation | Commit | Prefill | Withdrawal)
                if new_work and self._answers.awaits_last_words():
                    self._held.append(named)
                else:
                    out.append(named)
            elif isinstance(event, ToVoice):
                out.append(ToVoice(replace(event.message, session=self.identity)))
            else:
                out.append(event)
        if self._held and not self._answers.awaits_last_words():
            out += self._held
            self._held = []
        return out
