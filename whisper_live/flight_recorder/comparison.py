"""Where two runs of a session differ. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from whisper_live.flight_recorder.format import Entry, RecordingError


@dataclass(frozen=True)
class Difference:
    """What was recorded, and what is so now; `at` is seconds since the session began."""

    at: float
    where: str
    recorded: str
    now: str

    def __str__(self) -> str:
        return (
            f"{self.at:.3f} s, {self.where}:\n  recorded: {self.recorded}\n  now:      {self.now}"
        )


@dataclass(frozen=True)
class Turn:
    """A committed turn: what was said, what was answered and how it ended, and when (seconds since
    the session began)."""

    number: int
    question: str
    answer: str
    ending: str
    committed_at: float
    first_sound_ms: int | None = None


def first_difference(
    at: float, where: str, recorded: Sequence[Any], now: Sequence[Any]
) -> Difference | None:
    """The first of two lists' values that is another; None where they are the same."""
    for before, after in zip_longest(recorded, now, fillvalue=None):
        if before != after:
            return Difference(at, where, _said(before), _said(after))
    return None


def turns(entries: Iterable[Entry]) -> list[Turn]:
    """The committed turns of a recording, in their order.

    Raises RecordingError for one that no recorder wrote.
    """
    try:
        return _turns(entries)
    except (AttributeError, KeyError, TypeError) as error:
        raise RecordingError("What it says of its turns makes no sense.") from error


def _turns(entries: Iterable[Entry]) -> list[Turn]:
    began: float | None = None
    now = 0.0
    found: dict[int, dict[str, Any]] = {}
    texts: dict[tuple[int, int], str] = {}
    for entry in entries:
        now = entry.fields.get("at", now)
        began = now if began is None else began
        message = entry.fields.get("given", {}).get("message", {})
        if message.get("is") == "ReplyEnded":
            texts[message["turn"], message["revision"]] = message["text"]
        for event in entry.fields.get("out", ()):
            _follow(event, found, now - began)
    return [
        Turn(
            number,
            turn["question"],
            texts.get((number, turn["revision"]), "") if turn["ending"] == "complete" else "",
            turn["ending"],
            turn["at"],
            turn["first_sound"],
        )
        for number, turn in sorted(found.items())
    ]


def differing_turn(recorded: Sequence[Turn], now: Sequence[Turn]) -> Difference | None:
    """The first turn that went otherwise: another question, answer or ending. Times may differ."""
    for before, after in zip_longest(recorded, now):
        told = [_told(turn) for turn in (before, after)]
        if told[0] != told[1]:
            there = before or after
            assert there is not None
            return Difference(there.committed_at, f"turn {there.number}", *told)
    return None


def _follow(event: dict[str, Any], found: dict[int, dict[str, Any]], at: float) -> None:
    """Take note of what an event says about a turn."""
    message, fields = event.get("message", {}), event.get("fields", {})
    if event["is"] == "ToLanguageModel" and message["is"] == "Commit":
        known = found.setdefault(message["turn"], {"at": at, "first_sound": None})
        known |= {"question": message["text"], "revision": message["revision"]}
        known["ending"] = "complete"
    elif event["is"] == "ToLanguageModel" and message["is"] == "Interruption":
        if message["turn"] in found:
            found[message["turn"]]["ending"] = "interrupted"
    elif event["is"] == "Tell" and fields.get("status") == "ERROR" and fields["turn"] in found:
        found[fields["turn"]]["ending"] = f"error: {fields['message']}"
    elif event["is"] == "TurnTimeline" and event["turn"] in found:
        found[event["turn"]]["first_sound"] = event["milliseconds"].get("first_sound")


def _told(turn: Turn | None) -> str:
    if turn is None:
        return "no such turn"
    return f"{turn.question!r}, {turn.ending}: {turn.answer!r}"


def _said(value: Any) -> str:
    return "nothing" if value is None else str(value)
