"""One client's conversation: its audio and turns. No I/O: frames, messages and time go in, events
come out.

The `Listener` says what the person says and when they are done; the `Answers` keep track of what
the machine says to it. This module connects the two: it decides what a client sees, what the
language model may work on before a commit, and when speech interrupts the machine.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from fusion import metrics
from fusion.logs import about
from fusion.messages import (
    ClauseSpoken,
    Commit,
    Message,
    Prefill,
    ReplyProgress,
    Speculation,
    SpeechEnded,
    SpeechStarted,
    Withdrawal,
)
from whisper_live.activity import FRAME_SECONDS
from whisper_live.answers import Answers
from whisper_live.client_messages import ClientMessages
from whisper_live.events import (
    Event,
    PredictTurn,
    Revision,
    ToLanguageModel,
    Transcribe,
)
from whisper_live.handshake import Changes, OwnWords, Wanted
from whisper_live.listener import Listener
from whisper_live.listener_events import (
    Began,
    Completed,
    Dropped,
    EagerEndOfTurn,
    ListenerEvent,
    StablePrefix,
    TranscriptChanged,
    Withdrawn,
)
from whisper_live.overlap import OverlapDetector, Verdict
from whisper_live.replies import ReadAloud
from whisper_live.session_policy import SessionPolicy

logger = logging.getLogger(__name__)

UNRECOGNISED = "The speech recogniser failed on what you said. Please say it again."

# With the last word said, a client that sent END_OF_AUDIO may still be playing this much.
_CLOSE_DELAY = 0.5


class Session:
    """The turns of one client. Every method returns the events that follow from what it is told."""

    def __init__(
        self, identity: str, policy: SessionPolicy, history: Sequence[tuple[str, str]] = ()
    ) -> None:
        self.identity = identity
        self._policy = self._server_policy = policy
        self._listener = Listener(policy.listening)
        self._client = ClientMessages(stream=policy.stream)
        self._answers = Answers(
            identity,
            self._client,
            timeout=policy.reply_timeout,
            history=history,
            runs_ahead=policy.runs_ahead,
        )
        self._overlap = OverlapDetector(policy.barge_in_speech)
        self._shown = False
        self._held: list[Event] = []
        self._interrupting: int | None = None
        self._reading: ReadAloud | None = None
        self._audio_ended_at: float | None = None

    @property
    def backlogged(self) -> bool:
        """Whether the server should read no more audio until the transcriber has caught up."""
        return self._listener.backlogged

    @property
    def language(self) -> str:
        """The code of what was spoken last; "" until then."""
        return self._listener.language

    @property
    def position(self) -> float:
        """Seconds of audio taken so far."""
        return self._listener.position * FRAME_SECONDS

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
        policy = self._policy
        return policy.reply and policy.respond and policy.speculative_generation

    # -- from the client -----------------------------------------------------------------------

    def hear(self, frame: NDArray[np.float32], probability: float, now: float) -> list[Event]:
        """Take 512 samples of 16 kHz float32 audio with their speech probability."""
        events = self._follow(self._listener.hear(frame, probability, now), now)
        speech = self._listener.turn is not None
        self._overlap.listen(sounding=self._answers.sounding(now), speech=speech)
        return self._in_order(events)

    def end_turn(self, now: float) -> list[Event]:
        """The client says that the person is done."""
        if (turn := self._listener.turn) is None:
            return [*self._client.event("no_speech", None)]
        ended = self._client.event("turn_ended", turn)
        return self._in_order([*ended, *self._follow(self._listener.end_turn(now), now)])

    def clear(self, now: float) -> list[Event]:
        """The client takes back what is being said."""
        return self._in_order(self._follow(self._listener.clear(), now))

    def configure(self, changes: Changes) -> list[Event]:
        """The client changes how it is listened to and answered."""
        self._policy = self._policy.changed(changes, self._server_policy)
        self._listener.configure(self._policy.listening)
        if changes.history is not None:
            self._answers.rewrite(changes.history)
        return []

    def respond(self, wanted: Wanted, now: float) -> list[Event]:
        """The client wants a reply to the conversation as it is, or to another one."""
        turn, happened = self._listener.take_turn(now)
        events = self._follow(happened, now)
        asked = Revision(turn, 1, end_of_speech=now, end=self._listener.position)
        asked.text, asked.text_at = "", now
        events += self._client.event("responding", turn, id=wanted.name)
        events += self._answers.commit(asked, now, speak=wanted.speak, wish=wanted.wish)
        self._notice_overlap(now)
        return self._in_order(events)

    def read_aloud(self, words: OwnWords, now: float) -> list[Event]:
        """The client has words of its own said, all or the next of them; nobody remembers them."""
        events: list[Event] = []
        if self._reading is None or self._reading.name != words.name or self._reading.over:
            turn, happened = self._listener.take_turn(now)
            self._reading = ReadAloud(self.identity, words.name, turn)
            events = [*self._follow(happened, now), *self._answers.read_aloud(turn, now)]
            events += self._client.event("responding", turn, id=words.name)
        for message in self._reading.take(words.text, now, last=words.last):
            events += self._answers.received(message, now)
        return self._in_order(events)

    def end_of_audio(self, now: float) -> list[Event]:
        """No more audio will come; the turn, if there is one, is over."""
        self._audio_ended_at = now
        return self.end_turn(now)

    def interrupt(self, now: float, turn: int | None = None) -> list[Event]:
        """The client asks for silence: of every reply, or of this turn's."""
        return self._in_order(self._answers.interrupt(now, turn))

    def say(self, text: str, now: float) -> list[Event]:
        """A typed turn."""
        events = self._answers.interrupt(now)
        return self._in_order(events + self._follow(self._listener.typed(text, now), now))

    # -- from the models -----------------------------------------------------------------------

    def transcribed(
        self,
        job: Transcribe,
        text: str | None,
        now: float,
        *,
        provisional: bool = False,
        language: str = "",
    ) -> list[Event]:
        """Take the text of a transcription that was asked for; None if it failed."""
        if job.revision is not None and language:
            job.revision.language = language
        happened = self._listener.transcribed(job, text, now, provisional=provisional)
        return self._in_order(self._follow(happened, now))

    def live_dropped(self, job: Transcribe) -> None:
        """A live transcription gave way to more urgent work."""
        self._listener.live_dropped(job)

    def turn_predicted(self, revision: Revision, probability: float, now: float) -> list[Event]:
        """Take the turn detector's verdict."""
        return self._in_order(
            self._follow(self._listener.turn_predicted(revision, probability, now), now)
        )

    def received(self, message: Message, now: float) -> list[Event]:
        """Take a message from the language model or the voice."""
        if not isinstance(
            message,
            ReplyProgress | SpeechStarted | ClauseSpoken | SpeechEnded,
        ):
            raise TypeError(f"not a message for a session: {message}")
        events = self._answers.received(message, now)
        if isinstance(message, SpeechStarted):
            self._notice_overlap(now)
        elif isinstance(message, ClauseSpoken | SpeechEnded):
            self._overlap.follow(self._answers.speech(now))
        return self._in_order(events)

    def language_model_restarted(self, now: float) -> list[Event]:
        """Its process was replaced by a new one, which knows nothing of this session's turns."""
        return self._in_order(self._answers.language_model_restarted(now))

    def voice_restarted(self, now: float) -> list[Event]:
        """Likewise for the voice."""
        return self._in_order(self._answers.voice_restarted(now))

    def tick(self, now: float) -> list[Event]:
        """Time passes. Call a few times a second while `busy`."""
        events = self._answers.tick(now)
        return self._in_order(events + self._follow(self._listener.tick(now), now))

    def idle(self, now: float) -> bool:
        """Whether nothing is under way, so that time alone changes nothing."""
        return not (
            self._listener.busy
            or self._held
            or self._answers.unanswered()
            or self._answers.active(now)
            or self._answers.sounding(now)
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
                events += self._eager_end_of_turn(event)
            elif isinstance(event, Withdrawn):
                events += self._answers.withdraw(event.revision.turn, event.revision.number)
            elif isinstance(event, Completed):
                events += self._completed(event, now)
            else:
                events += self._dropped(event)
        return events

    def _began(self, event: Began, now: float) -> list[Event]:
        self._shown = False
        self._notice_overlap(now)
        if self._overlap.overlaps(event.turn):
            return []
        return self._speech_started(event.turn)

    def _speech_started(self, turn: int) -> list[Event]:
        at = round(max(0, self._listener.began_at) * FRAME_SECONDS, 3)
        return [*self._client.event("speech_started", turn, at=at)]

    def _notice_overlap(self, now: float) -> None:
        """Whoever speaks while the machine is active, or its echo is, must show what it is."""
        turn = self._listener.turn
        if turn is not None and not self._policy.push_to_talk:
            self._overlap.notice(turn, self._answers.speech(now), now)
        self._heed_overlap()

    def _heed_overlap(self) -> None:
        self._listener.attentive = self._overlap.overlaps(self._listener.turn)

    def _decide_overlap(
        self, turn: int, text: str, now: float, *, complete: bool = False
    ) -> tuple[Verdict, list[Event]]:
        """Say what overlapping speech is, and let the machine be silent if it is meant for it."""
        machine, speech = self._answers.speech(now), self._listener.speech
        verdict = self._overlap.decide(turn, text, speech, machine, complete=complete)
        self._heed_overlap()
        if verdict is not Verdict.ADDRESSED:
            return verdict, []
        logger.debug("speech interrupts the machine", extra=about(self.identity, turn))
        if self._policy.barge_in:
            metrics.OVERLAPS.labels(verdict.value).inc()
            self._interrupting = turn
        return verdict, self._answers.interrupt(now) if self._policy.barge_in else []

    def _transcript_changed(self, event: TranscriptChanged, now: float) -> list[Event]:
        events: list[Event] = []
        text = " ".join(segment.text or "" for segment in (*event.segments, event.tail)).strip()
        if self._overlap.overlaps(event.turn):
            verdict, events = self._decide_overlap(event.turn, text, now)
            if verdict is not Verdict.ADDRESSED:
                return []
            events += self._speech_started(event.turn)
        # WhisperLive's client fails on an empty list.
        if text or (self._shown and self._policy.stream):
            self._shown = True
            latency = now - event.until
            events.append(
                self._client.transcript(event.turn, event.segments, event.tail, latency, eos=False)
            )
        return events

    def _stable_prefix(self, event: StablePrefix) -> list[Event]:
        if self._overlap.overlaps(event.turn) or not self._speculates:
            return []
        return [ToLanguageModel(Prefill(self.identity, event.turn, event.text))]

    def _eager_end_of_turn(self, event: EagerEndOfTurn) -> list[Event]:
        # What may be an echo is shown to nobody; and a reply that depends on how much of the last
        # one was played cannot be made ahead of that.
        revision = event.revision
        assert revision.text is not None
        events: list[Event] = []
        if self._overlap.overlaps(revision.turn):
            if not self._overlap.answers_at_once(revision.turn, revision.text):
                return []
            self._heed_overlap()
            events += self._speech_started(revision.turn)
        if not event.corrected:
            events += self._client.event("speech_stopped", revision.turn)
        return events + (self._answers.speculate(revision) if self._speculates else [])

    def _completed(self, event: Completed, now: float) -> list[Event]:
        revision = event.revision
        assert revision.text is not None
        events: list[Event] = []
        if self._overlap.overlaps(revision.turn):
            verdict, events = self._decide_overlap(revision.turn, revision.text, now, complete=True)
            if verdict is not Verdict.ADDRESSED:
                return self._held_back(revision, verdict)
        # WhisperLive's client keeps the last words it saw unfinished as a segment of their own,
        # unless they come back word for word as completed.
        unfinished = self._shown and not self._policy.stream
        latency = now - revision.end_of_speech
        *segments, tail = event.segments
        events += [
            self._client.transcript(
                revision.turn, segments, tail, latency, eos=eos, language=revision.language
            )
            for eos in ([False, True] if unfinished else [True])
        ]
        if self._policy.reply and self._policy.respond:
            events += self._answers.commit(revision, now, speak=self._policy.speak)
        self._shown = False
        self._notice_overlap(now)
        return events

    def _held_back(self, revision: Revision, verdict: Verdict) -> list[Event]:
        """What was said is no turn; a client that asked for events learns why."""
        self._overlap.end(revision.turn)
        self._heed_overlap()
        reason, text = verdict.value, revision.text
        metrics.OVERLAPS.labels(reason).inc()
        return [*self._client.event("held", revision.turn, reason=reason, text=text)]

    def _dropped(self, event: Dropped) -> list[Event]:
        unheard = self._overlap.overlaps(event.turn)
        self._overlap.end(event.turn)
        self._heed_overlap()
        if event.turn == self._interrupting:
            metrics.FALSE_BARGE_INS.inc()
        events = self._answers.withdraw(event.turn)
        if self._shown:
            events += self._client.no_transcript(event.turn)
        if event.failed:
            events.append(self._client.error(event.turn, UNRECOGNISED))
        elif not unheard:
            events += self._client.event("no_speech", event.turn)
        self._shown = False
        return events

    def _in_order(self, events: list[Event]) -> list[Event]:
        """Hold back new work that must not overtake the last words of an interrupted reply."""
        out: list[Event] = []
        for event in events:
            if isinstance(event, ToLanguageModel) and self._overtakes(event.message):
                self._held.append(event)
            else:
                out.append(event)
        if self._held and not self._answers.awaits_last_words():
            out += self._held
            self._held = []
        return out

    def _overtakes(self, message: Message) -> bool:
        new_work = isinstance(message, Speculation | Commit | Prefill | Withdrawal)
        return new_work and self._answers.awaits_last_words()
