"""What an operator sees of one reply's sound: each clause, its synthesis, the first sound."""

from __future__ import annotations

from fusion import tracing
from fusion.messages import ReplyEnded, ReplyText


class SpeechTrace:
    """The spans of a reply's sound, within those of its text. Nothing until a text names a span."""

    def __init__(self) -> None:
        self.context = ""
        self._clauses = 0
        self._since: float | None = None

    def text_came(self, message: ReplyText | ReplyEnded, clauses: int) -> None:
        """There are so many clauses by now; one lasts from its first piece of text to its last."""
        if isinstance(message, ReplyText):
            self.context = message.trace or self.context
        if not self.context:
            return
        began = message.at if self._since is None else self._since
        for number in range(self._clauses + 1, clauses + 1):
            tracing.span("clause", began, message.at, self.context, clause=number)
            began = message.at
        self._clauses, self._since = clauses, began

    def spoken(self, clause: int, began: float, ended: float, seconds: float) -> None:
        """The voice made so many seconds of sound of a clause, counted from 1. From any thread."""
        tracing.span("synthesis", began, ended, self.context, clause=clause, seconds=seconds)

    def first_sound(self, made_at: float, sent_at: float) -> None:
        """The first sound of the reply went out."""
        tracing.span("first sound", made_at, sent_at, self.context)
