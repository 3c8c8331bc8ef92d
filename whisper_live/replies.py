"""What is known of one reply, from its speculation to the end of its sound. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from fusion.messages import (
    ClauseSpoken,
    Commit,
    Message,
    ReplyEnded,
    ReplyProgress,
    ReplyText,
    Wish,
)

OF_CLIENT = 1
"""The revision of a reply whose text the client gives."""


@dataclass
class Reply:
    """A committed turn and what became of it."""

    turn: int
    revision: int
    question: str
    end_of_speech: float
    transcript_at: float
    committed_at: float
    progress_at: float
    speculative: bool
    text: str = ""
    complete: bool = False
    answered: bool = False
    silent: bool = False
    sound_until: float = 0.0
    clauses: list[ClauseSpoken] = field(default_factory=list)
    interrupted_at: float | None = None
    thinks: bool = False
    played: str | None = None
    """What was played, where the listener was lost before the end."""
    first_token_at: float | None = None
    first_clause_at: float | None = None
    first_sound_at: float | None = None
    timeline_sent: bool = False
    speak: bool = True
    wish: Wish | None = None
    language: str = ""
    given: bool = False
    """Whether its text is the client's own: no language model makes it."""
    asked_again: bool = False
    said_again: int = 0
    relayed_as: int | None = None
    """The revision as which a restarted voice gets the text from the session; None: it gets it from
    the language model."""
    said_before: int = 0
    """Characters of the text that a voice said before it was lost."""

    @classmethod
    def of_client(cls, turn: int, now: float) -> Reply:
        """A reply whose text the client gives, and of which the conversation does not know."""
        return cls(
            turn=turn,
            revision=OF_CLIENT,
            question="",
            end_of_speech=now,
            transcript_at=now,
            committed_at=now,
            progress_at=now,
            speculative=False,
            wish=Wish(aside=()),
            given=True,
        )

    @property
    def begun(self) -> str:
        """The text whose sound has begun to go out; all of it where it is read, not played."""
        if not self.speak:
            return self.text
        return " ".join(clause.text.strip() for clause in self.clauses)

    def relay(self, session: str) -> list[Message]:
        """What a restarted voice is given: the text from the clause on that was being said.

        What follows comes from the session as well, as a revision of its own: of what the language
        model sent meanwhile nobody knows how much the voice got.
        """
        self.clauses = self.clauses[:-1]
        self.said_before = sum(len(clause.text) for clause in self.clauses)
        self.relayed_as = (self.relayed_as or self.revision) + 1
        key = (session, self.turn, self.relayed_as)
        messages: list[Message] = [Commit(*key, self.question, language=self.language)]
        if rest := self.text[self.said_before :]:
            messages.append(ReplyText(*key, rest, self.progress_at, self.language))
        if self.complete:
            messages.append(ReplyEnded(*key, rest, self.progress_at))
        return messages

    def relayed(self, message: ReplyText | ReplyEnded) -> list[Message]:
        """What the voice is told of it by the session: nothing where the model tells it."""
        if self.relayed_as is None:
            return []
        if isinstance(message, ReplyEnded):
            message = replace(message, text=message.text[self.said_before :])
        return [replace(message, revision=self.relayed_as)]

    @property
    def over(self) -> bool:
        """Nothing more will come of it."""
        return self.answered and self.silent


@dataclass
class ReadAloud:
    """The text of a reply that a client gives, in one piece or in more."""

    session: str
    name: str
    turn: int
    text: str = ""
    over: bool = False

    def take(self, more: str, now: float, *, last: bool) -> list[ReplyProgress]:
        """What a language model would say that made it."""
        self.text, self.over = self.text + more, last
        key = (self.session, self.turn, OF_CLIENT)
        ended = [ReplyEnded(*key, self.text, now)] if last else []
        return [ReplyText(*key, more, now), *ended]


@dataclass
class SpeculativeReply:
    """A revision that the language model works on before its commit, and what it made so far."""

    revision: int
    made: list[ReplyProgress] = field(default_factory=list)
    voice_lost: bool = False
    """Whether the voice that was told of it is gone."""
