"""What became of every turn that a client saw committed. Pure.

A turn is to end in exactly one reply or one error. Where a server is lost the client asks the last
question again in its next session: that is the same turn, which goes on there.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from whisper_live.client import Event, Failure, Notice, ReplyText, Sound, Transcript


@dataclass
class Turn:
    """One committed turn. Times are those of its events (monotonic seconds)."""

    session: int
    number: int
    question: str
    committed_at: float
    ends: list[ReplyText | Failure] = field(default_factory=list)
    asked_again: int = 0
    sounded: bool = False
    cut: bool = False
    """Whether it was interrupted, be it after its text was complete."""

    @property
    def reply(self) -> ReplyText | None:
        """Its reply, if it is answered by one that was not interrupted."""
        end = self.ends[0] if self.ends else None
        return end if isinstance(end, ReplyText) and not end.interrupted else None


class Ledger:
    """The turns of one client, from the events of its conversation in their order."""

    def __init__(self) -> None:
        self.turns: list[Turn] = []
        self.strays: list[Event] = []
        """Ends of turns that were never committed."""
        self._session = 0
        self._again: Turn | None = None

    @property
    def open(self) -> list[Turn]:
        """Turns that have not ended."""
        return [turn for turn in self.turns if not turn.ends]

    @property
    def twice(self) -> list[Turn]:
        return [turn for turn in self.turns if len(turn.ends) > 1]

    def take(self, event: Event) -> None:
        """Follow the conversation."""
        if isinstance(event, Notice) and event.name == "SERVER_READY":
            if not event.fields.get("resumed"):
                self._new_session()
        elif isinstance(event, Notice) and event.name == "interrupted" and event.turn is not None:
            turn = self._find(event.turn)
            if turn is not None:
                turn.cut = True
        elif isinstance(event, Transcript) and event.final and event.turn is not None:
            self._committed(event, event.turn)
        elif isinstance(event, ReplyText | Failure) and event.turn is not None:
            if isinstance(event, Failure) or event.final:
                self._ended(event, event.turn)
        elif isinstance(event, Sound) and event.turn is not None:
            turn = self._find(event.turn)
            if turn is not None:
                turn.sounded = True

    def _new_session(self) -> None:
        latest = [turn for turn in self.turns if turn.session == self._session][-1:]
        waiting = [turn for turn in latest if not turn.ends]
        self._again = waiting[0] if waiting else self._again
        self._session += 1

    def _committed(self, event: Transcript, number: int) -> None:
        again, self._again = self._again, None
        if again is not None and again.question == event.text:
            again.session, again.number = self._session, number
            again.asked_again += 1
            return
        self.turns.append(Turn(self._session, number, event.text, event.at))

    def _ended(self, event: ReplyText | Failure, number: int) -> None:
        turn = self._find(number)
        if turn is None:
            self.strays.append(event)
        else:
            turn.ends.append(event)

    def _find(self, number: int) -> Turn | None:
        return next(
            (t for t in self.turns if (t.session, t.number) == (self._session, number)), None
        )


class Wire:
    """What really came over one client's connections, before the client leaves out repetitions."""

    def __init__(self) -> None:
        self._connection = 0
        self._session = 0
        self._on_connection: Counter[tuple[int, int]] = Counter()
        self._ends: dict[tuple[int, int], set[str]] = {}

    def connected(self) -> None:
        """The client opens another connection to the transcription port."""
        self._connection += 1

    def take(self, message: str) -> None:
        """A text message came."""
        fields: dict[str, Any] = json.loads(message)
        if fields.get("message") == "SERVER_READY" and not fields.get("resumed"):
            self._session += 1
        turn = fields.get("turn")
        if turn is None:
            return
        if fields.get("eos") and "llm_output" in fields:
            end = "".join(fields["llm_output"])
        elif fields.get("status") == "ERROR":
            end = f"error: {fields['message']}"
        else:
            return
        self._on_connection[self._connection, turn] += 1
        self._ends.setdefault((self._session, turn), set()).add(end)

    @property
    def twice(self) -> int:
        """Turns that ended twice on one connection, or differently on two."""
        again = sum(count > 1 for count in self._on_connection.values())
        return again + sum(len(ends) > 1 for ends in self._ends.values())
