"""Which generation runs next when several people share one language model. Pure.

Work that somebody waits for goes first: committed turns, in the order in which they came. Work
done before a commit fills what is left, and is the first to stop when the machine is busy.
"""

from __future__ import annotations

import enum
import threading
import time
from dataclasses import dataclass, field

from fusion.messages import ReplyText, Wish
from language_models.base import Cancellation, ChatMessage
from language_models.generation_trace import GenerationTrace


class Priority(enum.IntEnum):
    """Lower goes first."""

    COMMITTED = 0
    SPECULATIVE = 1
    PREFILL = 2


@dataclass(eq=False)
class Generation:
    """A reply in the making. `pieces` counts what it has produced so far, `since` is when it was
    asked for (monotonic seconds), `trace` the context of its turn for an operator."""

    session: str
    turn: int
    revision: int
    question: str
    priority: Priority
    wish: Wish | None = None
    trace: str = ""
    cancellation: Cancellation = field(default_factory=Cancellation)
    messages: list[ChatMessage] = field(default_factory=list)
    text: str = ""
    """What is remembered of it as an answer, once it is complete."""
    told: str = ""
    """All words of it that were told so far."""
    pieces: int = 0
    complete: bool = False
    language: str = ""
    since: float = field(default_factory=time.monotonic)
    committed: threading.Event = field(default_factory=threading.Event)
    """Set once it is what the person said, and when it is cancelled."""
    spans: GenerationTrace = field(init=False)

    def __post_init__(self) -> None:
        self.spans = GenerationTrace(self.trace, speculative=self.priority == Priority.SPECULATIVE)
        self.cancellation.on_request(self.committed.set)
        if self.priority == Priority.COMMITTED:
            self.committed.set()

    @property
    def key(self) -> tuple[str, int, int]:
        return self.session, self.turn, self.revision

    def commit(self) -> None:
        """It is what the person said."""
        self.priority = Priority.COMMITTED
        self.committed.set()

    def grow(self, piece: str, now: float) -> ReplyText:
        """Take a piece of its text; the message that tells of it."""
        self.pieces += 1
        self.told += piece
        if self.pieces == 1:
            self.spans.first_text()
        return ReplyText(*self.key, piece, now, self.language, self.spans.context)

    def end(self) -> None:
        """Nothing more will come of it."""
        ending = "complete" if self.text else "failed"
        self.spans.end("stopped" if self.cancellation.requested else ending, self.pieces)


# Pieces of text that keep the voice busy for a while: after them a reply keeps nobody waiting.
HEAD_START = 12


class Generations:
    """The generations that wait and that run, at most `most` at once, one a session."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.waiting: list[Generation] = []
        self.running: list[Generation] = []

    def add(self, generation: Generation) -> None:
        """Queue a generation. Newer speculation replaces older of the same session."""
        if generation.priority != Priority.COMMITTED:
            for older in self.of_session(generation.session):
                if older.priority >= generation.priority:
                    self.stop(older)
        self.waiting.append(generation)

    def of_session(self, session: str) -> list[Generation]:
        return [g for g in (*self.running, *self.waiting) if g.session == session]

    def find(self, session: str, turn: int, revision: int) -> Generation | None:
        """The generation of a revision, if it is waiting or running."""
        for generation in self.of_session(session):
            known = (generation.turn, generation.revision)
            if known == (turn, revision) and generation.priority != Priority.PREFILL:
                return generation
        return None

    def stop(self, generation: Generation) -> None:
        """Give it up. A running one leaves `running` when its thread is done: see `finished`."""
        generation.cancellation.request()
        if generation in self.waiting:
            self.waiting.remove(generation)
            generation.end()

    def finished(self, generation: Generation) -> None:
        self.running.remove(generation)
        generation.end()

    def next(self) -> Generation | None:
        """The generation to start now, moved to `running`; None when nothing may start.

        Stop speculative work that stands in the way of a committed turn.
        """
        self.waiting.sort(key=lambda generation: generation.priority)
        for generation in self.waiting:
            if self._may_start(generation):
                self.waiting.remove(generation)
                self.running.append(generation)
                generation.spans.started()
                return generation
        return None

    def _may_start(self, generation: Generation) -> bool:
        live = [g for g in self.running if not g.cancellation.requested]
        if any(g.session == generation.session and g.priority == Priority.COMMITTED for g in live):
            return False
        if generation.priority == Priority.COMMITTED:
            ahead = [g for g in live if g.priority != Priority.COMMITTED]
            if len(self.running) >= self._most:
                if ahead:
                    self.stop(max(ahead, key=lambda g: g.priority))
                return False
            return True
        awaited = any(g.priority == Priority.COMMITTED and g.pieces < HEAD_START for g in live)
        return len(self.running) < self._most and not awaited
