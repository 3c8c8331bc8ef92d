"""What is known of one reply, from its speculation to the end of its sound. Values only."""

from __future__ import annotations

from dataclasses import dataclass, field

from fusion.messages import ClauseSpoken, ReplyProgress, Wish


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
    asked_again: bool = False
    said_again: bool = False

    @property
    def begun(self) -> str:
        """The text whose sound has begun to go out; all of it where it is read, not played."""
        if not self.speak:
            return self.text
        return " ".join(clause.text.strip() for clause in self.clauses)

    @property
    def over(self) -> bool:
        """Nothing more will come of it."""
        return self.answered and self.silent


@dataclass
class SpeculativeReply:
    """A revision that the language model works on before its commit, and what it made so far."""

    revision: int
    made: list[ReplyProgress] = field(default_factory=list)
