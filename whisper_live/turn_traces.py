"""What an operator sees of a session's turns: a trace each, from first word to last sound."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any
from weakref import WeakKeyDictionary

from fusion import tracing
from fusion.audio import SAMPLE_RATE
from fusion.messages import Commit, Interruption, Message, ReplyEnded, Speculation, SpeechEnded
from whisper_live.events import (
    Event,
    PredictTurn,
    Revision,
    Tell,
    ToLanguageModel,
    ToVoice,
    Transcribe,
    TurnTimeline,
)


@dataclass
class _Turn:
    """A turn that is not over. `committed` is the revision that was, `complete` those whose reply's
    text is; `revisions` are the hypotheses of what was said."""

    span: tracing.Span
    began: float
    revisions: dict[int, Revision] = field(default_factory=dict)
    committed: int | None = None
    complete: set[int] = field(default_factory=set)
    silent: bool = True
    interrupted: bool = False

    @property
    def over(self) -> bool:
        """Whether nothing more will come of it."""
        return self.silent and (self.interrupted or self.committed in self.complete)


class TurnTraces:
    """Follows a session and makes the spans of its turns; see `FollowedSession`.

    A trace is begun in the first pause, when something is made of what was said: noise that is
    dropped before has none.
    """

    def __init__(self, session: str) -> None:
        self._session = session
        self._turns: dict[int, _Turn] = {}
        self._began: tuple[int, float] = (0, 0.0)
        self._asked: WeakKeyDictionary[Transcribe | Revision, float] = WeakKeyDictionary()

    # -- what a follower is shown --------------------------------------------------------------

    def told(self, name: str, given: dict[str, Any], now: float) -> None:
        """Take note of what was waited for, and of what the other processes say."""
        if name == "transcribed":
            job: Transcribe = given["job"]
            self._waited("transcript", job, job.revision, now)
        elif name == "turn_predicted":
            self._waited("turn detection", given["revision"], given["revision"], now)
        elif name == "received":
            self._received(given["message"])

    def follows(self, events: list[Event], now: float) -> list[Event]:
        """Give each message to another process the context of its turn."""
        followed = [self._follow(event, now) for event in events]
        for number in [number for number, turn in self._turns.items() if turn.over]:
            interrupted = self._turns[number].interrupted
            self._end(number, "interrupted" if interrupted else "complete", now)
        return followed

    def noted(self, what: str, message: Message | None, now: float) -> None:
        """Nothing of a turn."""

    def close(self, now: float) -> None:
        """The session is over, and so is what was under way."""
        for turn in list(self._turns):
            self._end(turn, "session ended", now)

    # -- what is asked for, and what comes of it -----------------------------------------------

    def _follow(self, event: Event, now: float) -> Event:
        if isinstance(event, Transcribe):
            self._transcribe(event, now)
        elif isinstance(event, PredictTurn):
            self._asked[event.revision] = now
        elif isinstance(event, ToLanguageModel) and isinstance(event.message, Speculation | Commit):
            return ToLanguageModel(self._asks(event.message, now))
        elif isinstance(event, ToLanguageModel) and isinstance(event.message, Interruption):
            self._interrupt(event.message.turn)
        elif isinstance(event, ToVoice) and isinstance(event.message, Commit):
            turn = self._turn(event.message.turn, now)
            turn.silent = False
            return ToVoice(replace(event.message, trace=turn.span.context))
        elif isinstance(event, Tell) and event.fields.get("status") == "ERROR":
            self._end(event.fields.get("turn"), "error", now)
        elif isinstance(event, TurnTimeline) and event.turn in self._turns:
            sound = event.milliseconds.get("first_sound")
            span = self._turns[event.turn].span
            span.note(speculative=event.speculative)
            if sound is not None:
                span.note(first_sound_ms=sound)
        return event

    def _turn(self, number: int, now: float) -> _Turn:
        """What is known of a turn; its trace is begun where it is not."""
        if number not in self._turns:
            began = self._began[1] if self._began[0] == number else now
            span = tracing.begin("turn", began, None)
            span.note(session=self._session, turn=number)
            self._turns[number] = _Turn(span, began)
        return self._turns[number]

    def _transcribe(self, event: Transcribe, now: float) -> None:
        if event.turn != self._began[0]:
            self._began = (event.turn, now - len(event.audio) / SAMPLE_RATE)
        if event.revision is not None:
            self._turn(event.turn, now).revisions[event.revision.number] = event.revision
            self._asked[event] = now

    def _asks(self, message: Speculation | Commit, now: float) -> Speculation | Commit:
        turn = self._turn(message.turn, now)
        if isinstance(message, Commit):
            self._commit(turn, message, now)
        return replace(message, trace=turn.span.context)

    def _commit(self, turn: _Turn, message: Commit, now: float) -> None:
        """The turn is over; what it was waited for is known now. Asked again, it was before."""
        first_time, turn.committed = turn.committed is None, message.revision
        turn.span.note(revision=message.revision)
        spoken = turn.revisions.get(message.revision)
        if first_time and spoken is not None:
            tracing.span("speech", turn.began, spoken.end_of_speech, turn.span.context)
            tracing.span("endpoint", spoken.end_of_speech, now, turn.span.context)
        for earlier in [number for number in self._turns if number < message.turn]:
            if self._turns[earlier].committed is None:
                self._end(earlier, "withdrawn", now)

    def _interrupt(self, number: int) -> None:
        if number in self._turns:
            self._turns[number].interrupted = True

    def _waited(
        self, name: str, asked: Transcribe | Revision, revision: Revision | None, now: float
    ) -> None:
        began = self._asked.pop(asked, None)
        if began is not None and revision is not None and revision.turn in self._turns:
            context = self._turns[revision.turn].span.context
            tracing.span(name, began, now, context, revision=revision.number)

    def _received(self, message: Message) -> None:
        if not isinstance(message, ReplyEnded | SpeechEnded) or message.turn not in self._turns:
            return
        turn = self._turns[message.turn]
        if isinstance(message, ReplyEnded):
            turn.complete.add(message.revision)
        else:
            turn.silent = True

    def _end(self, number: int | None, ending: str, now: float) -> None:
        turn = self._turns.pop(number, None) if number is not None else None
        if turn is not None:
            turn.span.end(now, ending=ending)
