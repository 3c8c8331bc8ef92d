"""Everything around a session, on a clock of its own: the transcriber, the turn detector, the
language model and the voice, each answering when the test's clock says so."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fusion.messages import (
    ClauseSpoken,
    Commit,
    Interruption,
    Message,
    ReplyEnded,
    ReplyText,
    Speculation,
    SpeechEnded,
    SpeechStarted,
    Withdrawal,
)
from fusion.settings import Settings
from whisper_live.activity import FRAME_SECONDS
from whisper_live.events import Event, PredictTurn, Tell, ToLanguageModel, ToVoice, Transcribe
from whisper_live.session import Session
from whisper_live.session_policy import SessionPolicy

FRAME = np.zeros(512, np.float32)


@dataclass(order=True)
class Due:
    at: float
    order: int
    act: Callable[[], None] = field(compare=False)


class World:
    """A session and its surroundings on a clock that only the test moves.

    Each word of a turn takes `word` seconds; a transcript is the words spoken up to then.
    """

    def __init__(
        self,
        *,
        transcription: float = 0.12,
        predicting: float = 0.1,
        first_token: float = 0.08,
        first_sound: float = 0.08,
        reply_seconds: float = 2.0,
        done: float = 0.95,
        listens: bool = True,
        **changes: Any,
    ) -> None:
        policy = SessionPolicy.from_settings(Settings(**changes), stream=True, reply=True)
        self.session = Session("s", policy)
        self.now = 100.0
        self.transcription, self.predicting = transcription, predicting
        self.first_token, self.first_sound = first_token, first_sound
        self.reply_seconds = reply_seconds
        self.done = done
        self.listens = listens
        self.told: list[dict[str, Any]] = []
        self.to_model: list[Message] = []
        self.to_voice: list[Message] = []
        self.transcript = "what time is it"
        self.language = ""
        self.reply_text: str | None = None
        self.sound_until = float("inf")
        self.model_dies = False
        self.recogniser_fails = False
        self.doubts = False
        self.correction: str | None = None
        self.longer_look = 0.25
        self._due: list[Due] = []
        self._order = itertools.count()
        self._committed: dict[int, int] = {}
        self._silenced: set[int] = set()
        self._withdrawn: set[tuple[int, int]] = set()

    # -- the clock ----------------------------------------------------------------------------

    def later(self, delay: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._due, Due(self.now + delay, next(self._order), act))

    def run(self, seconds: float, probability: float | None = None) -> None:
        """Let time pass; with a probability, frames come in; without, the client sends nothing."""
        for _ in range(max(round(seconds / FRAME_SECONDS), 1)):
            self.now += FRAME_SECONDS
            while self._due and self._due[0].at <= self.now:
                heapq.heappop(self._due).act()
            if probability is not None:
                self.take(self.session.hear(FRAME, probability, self.now))
            self.take(self.session.tick(self.now))

    def speak(self, seconds: float, words: str = "what time is it") -> None:
        self.transcript = words
        self.run(seconds, 0.95)

    def silence(self, seconds: float) -> None:
        self.run(seconds, 0.02)

    def silence_after_reply(self, seconds: float) -> None:
        """Be silent until so many seconds after the reply's last sound; negative: before it."""
        while self.now < self.sound_until + seconds - FRAME_SECONDS / 2:
            self.silence(FRAME_SECONDS)

    # -- what the session asks for ---------------------------------------------------------------

    def take(self, events: list[Event]) -> None:
        for event in events:
            if isinstance(event, Tell):
                self.told.append(event.fields)
            elif isinstance(event, Transcribe):
                self._transcribe(event)
            elif isinstance(event, PredictTurn):
                self.later(
                    self.predicting,
                    lambda event=event: self.take(
                        self.session.turn_predicted(event.revision, self.done, self.now)
                    ),
                )
            elif isinstance(event, ToLanguageModel):
                assert event.message.session == "s"
                self.to_model.append(event.message)
                self._think(event.message)
            elif isinstance(event, ToVoice):
                assert event.message.session == "s"
                self.to_voice.append(event.message)
                self._voice(event.message)

    def _transcribe(self, event: Transcribe) -> None:
        words = None if self.recogniser_fails else self.transcript
        doubtful = self.doubts and event.revision is not None

        def answer(text: str | None, provisional: bool) -> None:
            self.take(
                self.session.transcribed(
                    event, text, self.now, provisional=provisional, language=self.language
                )
            )

        self.later(self.transcription, lambda: answer(words, doubtful))
        if doubtful:
            self.later(
                self.transcription + self.longer_look, lambda: answer(self.correction, False)
            )

    def _think(self, message: Message) -> None:
        if isinstance(message, Withdrawal):
            self._withdrawn.add((message.turn, message.revision))
        elif isinstance(message, Interruption):
            self._silenced.add(message.turn)
        elif isinstance(message, Speculation | Commit):
            key = (message.turn, message.revision)
            speculative = any(
                isinstance(m, Speculation) and (m.turn, m.revision) == key
                for m in self.to_model
                if m is not message
            )
            if not speculative:
                self.later(self.first_token, lambda: self._reply(*key))

    def answer(self, turn: int, revision: int) -> str:
        """What the language model answers."""
        return f"answer {turn}.{revision}" if self.reply_text is None else self.reply_text

    def _reply(self, turn: int, revision: int) -> None:
        if (turn, revision) in self._withdrawn or turn in self._silenced or self.model_dies:
            return
        text = self.answer(turn, revision)
        self.say(ReplyText("s", turn, revision, text, self.now))
        self.say(ReplyEnded("s", turn, revision, text, self.now))

    def _voice(self, message: Message) -> None:
        if isinstance(message, Commit):
            self._committed[message.turn] = message.revision
            delay = self.first_token + self.first_sound
            self.later(delay, lambda: self._sound(message.turn, message.revision))
        elif isinstance(message, Interruption):
            self._silenced.add(message.turn)
            self.later(0.01, lambda: self._silent(message.turn, "answer"))

    def _sound(self, turn: int, revision: int) -> None:
        if turn in self._silenced or self.model_dies:
            return
        if not self.listens:
            self.say(SpeechEnded("s", turn, None, self.now))
            return
        self.say(SpeechStarted("s", turn, self.now, self.now))
        self.say(ClauseSpoken("s", turn, self.answer(turn, revision), self.now))
        self.later(self.reply_seconds, lambda: self._finish(turn, revision))

    def _finish(self, turn: int, revision: int) -> None:
        if turn not in self._silenced:
            self.sound_until = self.now + 0.5
            self.say(SpeechEnded("s", turn, self.answer(turn, revision), self.sound_until))

    def _silent(self, turn: int, spoken: str) -> None:
        self.say(SpeechEnded("s", turn, spoken if self.listens else None, self.now))

    def say(self, message: Message) -> None:
        self.take(self.session.received(message, self.now))

    # -- what came of it ------------------------------------------------------------------------

    def commits(self) -> list[Commit]:
        return [message for message in self.to_model if isinstance(message, Commit)]

    def endings(self) -> dict[int, list[dict[str, Any]]]:
        """The replies and errors of each turn."""
        result: dict[int, list[dict[str, Any]]] = {}
        for fields in self.told:
            final = "llm_output" in fields and fields["eos"]
            if final or fields.get("status") == "ERROR":
                result.setdefault(fields["turn"], []).append(fields)
        return result

    def timeline(self) -> dict[str, int]:
        """The last turn's, milliseconds since the end of speech."""
        lines: list[dict[str, int]] = [
            fields["milliseconds"] for fields in self.told if fields.get("event") == "timeline"
        ]
        return lines[-1]

    def events(self, name: str) -> list[dict[str, Any]]:
        return [fields for fields in self.told if fields.get("event") == name]

    def finals(self) -> list[dict[str, Any]]:
        return [fields for fields in self.told if fields.get("segments") and fields["eos"]]
