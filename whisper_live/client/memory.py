"""What a client remembers of a conversation whose connection may be lost. Pure."""

from __future__ import annotations

from whisper_live.client.events import Closed, Event, Failure, Notice, ReplyText, Transcript

_MOST_HISTORY = 100  # entries that a server takes
_ONCE_A_TURN = ("held", "interrupted", "spoken", "timeline")


class Memory:
    """What was said so far, and which events came already. Pure."""

    def __init__(self, history: object = None) -> None:
        self._earlier: list[object] = list(history) if isinstance(history, list) else []
        self._turns: dict[int, dict[str, str]] = {}
        self._seen: set[tuple[str, int]] = set()
        self._asked_again = ""  # and not committed yet

    def take(self, event: Event) -> bool:
        """Remember an event; False if it only repeats what came before a connection was lost."""
        kind = _final_kind(event)
        if kind is None or isinstance(event, Closed) or event.turn is None:
            return True
        if (kind, event.turn) in self._seen:
            return False
        self._seen.add((kind, event.turn))
        if kind == "user":
            self._asked_again = ""
        if isinstance(event, Transcript | ReplyText):
            self._turns.setdefault(event.turn, {})[kind] = event.text
        elif isinstance(event, Notice) and event.name == "interrupted":
            self._turns.setdefault(event.turn, {})["assistant"] = event.fields["spoken"]
        return True

    @property
    def unanswered(self) -> str:
        """What was said last, if it has neither a reply nor an error yet; else empty."""
        waiting = self.waiting
        latest = max(self._turns, default=None)
        if latest is None:
            return self._asked_again
        return self._turns[latest].get("user", "") if latest in waiting else ""

    @property
    def waiting(self) -> list[int]:
        """Committed turns with neither a reply nor an error."""
        return [
            turn
            for turn in self._turns
            if ("user", turn) in self._seen
            and not {("assistant", turn), ("failure", turn)} & self._seen
        ]

    def new_session(self) -> list[int]:
        """Turns count from 1 again. Return those of the lost session that end without an answer.

        What was said last is none of them where nobody answered it: it is to be asked again.
        """
        lost = self.waiting
        question = self.unanswered
        self._earlier = self.history
        self._turns.clear()
        self._seen.clear()
        self._asked_again = question
        return lost[:-1] if question else lost

    @property
    def history(self) -> list[object]:
        """The handshake's `history` for a server that has forgotten the conversation."""
        waiting = max(self._turns, default=None) if self.unanswered else None
        said = [
            {"role": role, "content": turn[role]}
            for number, turn in self._turns.items()
            for role in ("user", "assistant")
            if turn.get(role) and number != waiting  # it is asked again
        ]
        return [*self._earlier, *said][-_MOST_HISTORY:]


def _final_kind(event: Event) -> str | None:
    """What comes once a turn, by a name for its kind; None for what may come again."""
    if isinstance(event, Transcript):
        return "user" if event.final else None
    if isinstance(event, ReplyText):
        return "assistant" if event.final else None
    if isinstance(event, Failure):
        return "failure"
    return event.name if isinstance(event, Notice) and event.name in _ONCE_A_TURN else None
