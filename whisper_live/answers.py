"""The committed turns of one client and their replies. Pure.

What it keeps: every committed turn ends in exactly one reply or one error, whatever the language
model and the voice do or fail to do; nothing of a revision that was not committed leaves it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from fusion.messages import (
    ClauseSpoken,
    Commit,
    Interruption,
    ReplyFailed,
    ReplyProgress,
    ReplyText,
    ReplyThinking,
    Speculation,
    SpeechEnded,
    SpeechStarted,
    Spoken,
    ToolCalled,
    ToolEnded,
    Wish,
    Withdrawal,
)
from whisper_live.client_messages import ClientMessages
from whisper_live.events import Event, Revision, Tell, ToLanguageModel, ToVoice, TurnTimeline
from whisper_live.overlap import MachineSpeech, is_question
from whisper_live.replies import Reply, SpeculativeReply

# How long the voice may take to say what it had said when it is interrupted.
_LAST_WORDS_TIMEOUT = 1.0

# The machine's voice may still come back from the room this long after it was sent.
_ECHO_SECONDS = 0.8

# A reply is kept so long after its sound: if its connection was lost, the rest comes later.
_KEPT = 10.0

# Turns remembered for a language model that is restarted.
_REMEMBERED = 40

# How often what did not sound is said by a restarted voice: a clause may end two of them.
_SAID_AGAIN = 2

RESTARTED = "The language model was restarted while it worked on this. Please say it again."
TOO_SLOW = "The language model did not answer in time. Please try again."


class Answers:
    """Commits turns, follows their replies, interrupts them.

    `session` is the name that its messages carry. `timeout` is seconds without progress after which
    a reply has failed.
    """

    def __init__(
        self,
        session: str,
        client: ClientMessages,
        *,
        timeout: float,
        history: Sequence[tuple[str, str]] = (),
        runs_ahead: bool = False,
    ) -> None:
        self._session = session
        self._client = client
        self._timeout = timeout
        self._runs_ahead = runs_ahead
        self._rewritten_until = 0
        self._earlier = tuple(history[-2 * _REMEMBERED :])
        self._said: dict[int, tuple[str, str]] = {}
        self._replies: dict[int, Reply] = {}
        self._speculations: dict[int, SpeculativeReply] = {}

    # -- what the session asks -----------------------------------------------------------------

    def active(self, now: float) -> bool:
        """Whether the machine thinks or speaks, so that speech would be an interruption."""
        return any(
            reply.interrupted_at is None and (not reply.over or now < reply.sound_until)
            for reply in self._replies.values()
        )

    def awaits_last_words(self) -> bool:
        """Whether the voice still has to say how much of an interrupted reply was played."""
        return any(
            reply.interrupted_at is not None and not reply.silent
            for reply in self._replies.values()
        )

    def unanswered(self) -> bool:
        """Whether a committed turn still waits for its reply."""
        return any(not reply.answered for reply in self._replies.values())

    def sounding(self, now: float) -> bool:
        """Whether the machine's voice, or its echo, may be audible now."""
        return any(_audible(reply, now) for reply in self._replies.values())

    def speech(self, now: float) -> MachineSpeech:
        """What the machine does, for whoever hears somebody speak meanwhile."""
        audible = [reply for reply in self._replies.values() if _audible(reply, now)]
        return MachineSpeech(
            active=self.active(now),
            words=" ".join(clause.text.strip() for reply in audible for clause in reply.clauses),
            silent_from=max((reply.sound_until for reply in audible), default=-math.inf),
            asked_until=max((_asked_until(reply) for reply in audible), default=-math.inf),
        )

    def history(self) -> tuple[tuple[str, str], ...]:
        """The conversation so far as (role, text): what was said, and what was played.

        A question that still waits for its answer is not part of it: it is asked with its commit.
        """
        waiting = {reply.turn for reply in self._replies.values() if not reply.answered}
        turns = [
            part
            for turn, (question, answer) in self._said.items()
            if turn not in waiting
            for part in (("user", question), ("assistant", answer))
            if part[1]
        ]
        return (*self._earlier, *turns)[-2 * _REMEMBERED :]

    def rewrite(self, history: Sequence[tuple[str, str]]) -> None:
        """The conversation is now this; replies made before belong to it no more."""
        self._earlier = tuple(history[-2 * _REMEMBERED :])
        self._said.clear()
        self._rewritten_until = max(self._replies, default=self._rewritten_until)

    # -- turns ---------------------------------------------------------------------------------

    def speculate(self, revision: Revision) -> list[Event]:
        """Let the language model work on a revision, and keep what it makes until the commit."""
        assert revision.text is not None
        self._speculations[revision.turn] = SpeculativeReply(revision.number)
        key = (self._session, revision.turn, revision.number)
        return [ToLanguageModel(Speculation(*key, revision.text, revision.language))]

    def withdraw(self, turn: int, revision: int | None = None) -> list[Event]:
        """Stop the work on a revision, or on whichever of the turn there is."""
        speculation = self._speculations.get(turn)
        if speculation is None or revision not in (None, speculation.revision):
            return []
        del self._speculations[turn]
        withdrawal = Withdrawal(self._session, turn, speculation.revision)
        return [ToLanguageModel(withdrawal), ToVoice(withdrawal)]

    def commit(
        self, revision: Revision, now: float, *, speak: bool = True, wish: Wish | None = None
    ) -> list[Event]:
        """The turn is complete: let its reply out as far as it is made already."""
        assert revision.text is not None
        assert revision.text_at is not None
        speculation = self._speculations.get(revision.turn)
        used = speculation is not None and speculation.revision == revision.number
        reply = Reply(
            turn=revision.turn,
            revision=revision.number,
            question=revision.text,
            end_of_speech=revision.end_of_speech,
            transcript_at=revision.text_at,
            committed_at=now,
            progress_at=now,
            speculative=used,
            speak=speak,
            silent=not speak,
            wish=wish,
            language=revision.language,
        )
        self._replies[reply.turn] = reply
        self._remember(reply, "")
        events = self._ask(reply)
        if speculation is not None and used:
            if speculation.voice_lost and speak:
                events += map(ToVoice, reply.relay(self._session))
            for message in speculation.made:
                events += self._take(reply, message, now)
        for turn in [turn for turn in self._speculations if turn <= revision.turn]:
            del self._speculations[turn]
        return events

    def read_aloud(self, turn: int, now: float) -> list[Event]:
        """Begin a reply whose text comes from the client, to `received`."""
        reply = self._replies[turn] = Reply.of_client(turn, now)
        return [ToVoice(message) for message in reply.relay(self._session)]

    def _ask(self, reply: Reply) -> list[Event]:
        """Let the language model answer, and the voice say it if it is to be played."""
        key = (self._session, reply.turn, reply.revision)
        commit = Commit(*key, reply.question, reply.wish, reply.language)
        aloud = commit if reply.speak else Withdrawal(*key)
        return [ToLanguageModel(commit), ToVoice(aloud)]

    def interrupt(self, now: float, turn: int | None = None) -> list[Event]:
        """Stop every reply that is not over, or only this turn's: be silent, stop working, and
        remember what was said."""
        events: list[Event] = []
        for reply in list(self._replies.values()):
            if turn is not None and reply.turn != turn:
                continue
            if reply.interrupted_at is None and (not reply.over or now < reply.sound_until):
                events += self._interrupt(reply, now)
        return events

    def tick(self, now: float) -> list[Event]:
        """Give up what waits for too long, forget what is over."""
        events: list[Event] = []
        for reply in list(self._replies.values()):
            if reply.interrupted_at is not None:
                if not reply.silent and now - reply.interrupted_at > _LAST_WORDS_TIMEOUT:
                    events += self._last_words(reply, reply.begun, now)
            elif not reply.answered and now - reply.progress_at > self._timeout:
                events += [*self._fail(reply, TOO_SLOW), ToLanguageModel(self._stop(reply))]
            elif not reply.silent and reply.answered and now - reply.progress_at > self._timeout:
                reply.silent = True
        self._forget(now)
        return events

    # -- what the language model and the voice say ---------------------------------------------

    def received(
        self,
        message: ReplyProgress | SpeechStarted | ClauseSpoken | SpeechEnded,
        now: float,
    ) -> list[Event]:
        """Take a message about a reply; one about a withdrawn or forgotten turn is ignored."""
        if isinstance(message, ReplyProgress):
            speculation = self._speculations.get(message.turn)
            if speculation is not None and speculation.revision == message.revision:
                speculation.made.append(message)
                return []
        reply = self._replies.get(message.turn)
        if reply is None:
            return []
        return self._take(reply, message, now)

    def language_model_restarted(self, now: float) -> list[Event]:
        """Its state is gone: ask again, once, what waited for it and was not played in part."""
        self._speculations.clear()
        events: list[Event] = []
        for reply in list(self._replies.values()):
            if reply.complete or reply.given or reply.interrupted_at is not None:
                continue
            if reply.asked_again or reply.clauses:
                events += self._fail(reply, RESTARTED)
            elif not reply.answered:
                events += self._ask_again(reply, now)
        return events

    def _ask_again(self, reply: Reply, now: float) -> list[Event]:
        """Begin the reply anew: a revision of its own parts it from what was made of it before."""
        reply.asked_again, reply.speculative = True, False
        reply.revision = max(reply.revision, reply.relayed_as or 0) + 1
        reply.relayed_as, reply.said_before = None, 0
        reply.text, reply.first_token_at, reply.progress_at = "", None, now
        return self._ask(reply)

    def voice_restarted(self, now: float) -> list[Event]:
        """Its sound is gone: let it say, now and then, what did not sound of the replies under way.

        The voice itself leaves out a clause that has ended its process twice; a third try says the
        rest.
        """
        for speculation in self._speculations.values():
            speculation.voice_lost = True
        events: list[Event] = []
        for reply in list(self._replies.values()):
            if reply.silent:
                continue
            if reply.interrupted_at is None and reply.said_again < _SAID_AGAIN:
                reply.said_again, reply.progress_at = reply.said_again + 1, now
                events += map(ToVoice, reply.relay(self._session))
            else:
                said = None if reply.interrupted_at is None else reply.begun
                ended = SpeechEnded(self._session, reply.turn, said, now)
                events += self._take(reply, ended, now)
        return events

    def _take(
        self,
        reply: Reply,
        message: ReplyProgress | SpeechStarted | ClauseSpoken | SpeechEnded,
        now: float,
    ) -> list[Event]:
        reply.progress_at = now
        if isinstance(message, ReplyProgress):
            if reply.interrupted_at is not None or message.revision != reply.revision:
                return []
            return self._take_text(reply, message, now)
        return self._take_sound(reply, message, now)

    def _take_text(self, reply: Reply, message: ReplyProgress, now: float) -> list[Event]:
        if reply.answered:
            return []
        if isinstance(message, ReplyFailed):
            return self._fail(reply, message.reason)
        if isinstance(message, ToolCalled | ToolEnded):
            return list(self._client.tool(message))
        if isinstance(message, ReplyThinking):
            told, reply.thinks = reply.thinks, True
            return [] if told else list(self._client.event("thinking", reply.turn))
        if isinstance(message, ReplyText):
            reply.text += message.text
            reply.first_token_at = reply.first_token_at or message.at
            shown = [self._output(reply, now, eos=False)] if self._client.stream else []
            return [*map(ToVoice, reply.relayed(message)), *shown]
        reply.text = message.text
        reply.complete = True
        reply.answered = True
        self._remember(reply, reply.text)
        events: list[Event] = [self._output(reply, now, eos=True)]
        return [*events, *map(ToVoice, reply.relayed(message)), *self._remember_played(reply)]

    def _take_sound(
        self, reply: Reply, message: SpeechStarted | ClauseSpoken | SpeechEnded, now: float
    ) -> list[Event]:
        if isinstance(message, SpeechEnded) and message.broken_off:
            return self._broken_off(reply, message, now)
        if isinstance(message, SpeechStarted) and reply.interrupted_at is None:
            reply.silent = False  # again, where a connection was lost and came back
        if reply.silent:
            return []
        if isinstance(message, SpeechStarted):
            reply.first_clause_at = message.first_clause_at
            reply.first_sound_at = message.first_sound_at
            reply.sound_until = float("inf")
            return self._timeline(reply)
        if isinstance(message, ClauseSpoken):
            reply.clauses.append(message)
            return []
        if reply.interrupted_at is not None:
            return self._last_words(reply, message.spoken, now)
        reply.silent = True
        reply.sound_until = message.sound_until
        events = self._timeline(reply)
        if message.spoken:
            events += self._client.event("spoken", reply.turn, text=message.spoken)
        return events

    def _broken_off(self, reply: Reply, message: SpeechEnded, now: float) -> list[Event]:
        """The listener was lost: the conversation goes on from what was played."""
        if reply.interrupted_at is not None:
            return [] if reply.silent else self._last_words(reply, message.spoken, now)
        reply.silent, reply.sound_until = True, message.sound_until
        reply.played = message.spoken or ""
        events = self._client.event("spoken", reply.turn, text=reply.played)
        return self._timeline(reply) + events + self._remember_played(reply)

    def _remember_played(self, reply: Reply) -> list[Event]:
        """Remember what was played where that is not all; once the language model is done."""
        if reply.played is None or not reply.complete:
            return []
        self._remember(reply, reply.played)
        return [ToLanguageModel(Spoken(self._session, reply.turn, reply.played))]

    # -- how a turn ends -----------------------------------------------------------------------

    def _interrupt(self, reply: Reply, now: float) -> list[Event]:
        reply.interrupted_at = now
        if self._runs_ahead and reply.speak and reply.over:
            reply.silent = False  # not all that was sent was played: the voice says how much
        events: list[Event] = [ToVoice(self._stop(reply)), ToLanguageModel(self._stop(reply))]
        if reply.silent and not reply.answered:
            # The voice was lost before the text was complete: there are no last words to wait for.
            events += self._conclude(reply, reply.begun, now)
        return events

    def _last_words(self, reply: Reply, spoken: str | None, now: float) -> list[Event]:
        """An interrupted reply fell silent: `spoken` was played, or None if nobody listens."""
        reply.silent = True
        reply.sound_until = now
        return self._conclude(reply, reply.text if spoken is None else spoken, now)

    def _conclude(self, reply: Reply, spoken: str, now: float) -> list[Event]:
        """An interrupted reply is over: what was played of it is what it was."""
        events: list[Event] = [ToLanguageModel(Spoken(self._session, reply.turn, spoken))]
        self._remember(reply, spoken)
        if not reply.answered:
            reply.answered = True
            reply.text = spoken
            events.append(self._output(reply, now, eos=True, interrupted=True))
        return events + self._client.event("interrupted", reply.turn, spoken=spoken)

    def _fail(self, reply: Reply, reason: str) -> list[Event]:
        if reply.answered:
            return []
        reply.answered = reply.silent = True
        self._said.pop(reply.turn, None)  # whoever asks again would have asked it twice
        return [self._client.error(reply.turn, reason), ToVoice(self._stop(reply))]

    def _stop(self, reply: Reply) -> Interruption:
        return Interruption(self._session, reply.turn)

    def _output(self, reply: Reply, now: float, *, eos: bool, interrupted: bool = False) -> Tell:
        latency = now - reply.committed_at
        return self._client.reply(reply.turn, reply.text, latency, eos=eos, interrupted=interrupted)

    def _timeline(self, reply: Reply) -> list[Event]:
        if reply.timeline_sent:
            return []
        reply.timeline_sent = True

        def since_speech(at: float | None) -> int | None:
            return None if at is None else round(1000 * (at - reply.end_of_speech))

        timeline = TurnTimeline(
            turn=reply.turn,
            speculative=reply.speculative,
            milliseconds={
                "provisional_transcript": since_speech(reply.transcript_at),
                "commit": since_speech(reply.committed_at),
                "first_token": since_speech(reply.first_token_at),
                "first_clause": since_speech(reply.first_clause_at),
                "first_sound": since_speech(reply.first_sound_at),
            },
        )
        return [timeline, *self._client.timeline(timeline)]

    def _remember(self, reply: Reply, answer: str) -> None:
        """Write the turn's answer into the history, or mend it there."""
        aside = reply.wish is not None and reply.wish.aside is not None
        if aside or reply.turn <= self._rewritten_until:
            return
        self._said[reply.turn] = (reply.question, answer)
        if len(self._said) > _REMEMBERED:
            del self._said[min(self._said)]

    def _forget(self, now: float) -> None:
        for turn, reply in list(self._replies.items()):
            if reply.over and now > reply.sound_until + _KEPT:
                del self._replies[turn]


def _audible(reply: Reply, now: float) -> bool:
    until = reply.sound_until + _ECHO_SECONDS
    return bool(reply.clauses) and (not reply.silent or now < until)


def _asked_until(reply: Reply) -> float:
    """When the sound of the reply's latest question ends; minus infinity if it asked none."""
    ends = [clause.begins_at for clause in reply.clauses[1:]] + [reply.sound_until]
    asked = [
        end for clause, end in zip(reply.clauses, ends, strict=False) if is_question(clause.text)
    ]
    return max(asked, default=-math.inf)
