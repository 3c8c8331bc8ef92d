"""What comes back in a conversation. Values only.

`at` is when an event came (`time.monotonic()`); `turn` is None if the server did not say.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float32]


@dataclass(frozen=True)
class Segment:
    """A stretch of a transcript; seconds since the first sample."""

    start: float
    end: float
    text: str
    completed: bool


@dataclass(frozen=True)
class Transcript:
    """The transcript of the current turn changed; `final` once, when it is committed."""

    at: float
    turn: int | None
    segments: tuple[Segment, ...]
    final: bool
    latency: float
    language: str = ""
    """The code of what was spoken, once it is final and where the server tells."""

    @property
    def text(self) -> str:
        return " ".join(segment.text.strip() for segment in self.segments)


@dataclass(frozen=True)
class ReplyText:
    """All of the reply's text so far; `final` once."""

    at: float
    turn: int | None
    text: str
    final: bool
    interrupted: bool


@dataclass(frozen=True, eq=False)
class Sound:
    """A chunk of the reply's sound, float32 at 24 kHz."""

    at: float
    turn: int | None
    samples: Samples


@dataclass(frozen=True)
class Notice:
    """Any event that the protocol names, from either socket: `flush`, `timeline`, …"""

    at: float
    name: str
    turn: int | None
    fields: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Failure:
    """The server reports an error; with a turn, it is what this turn ends in."""

    at: float
    turn: int | None
    message: str


@dataclass(frozen=True)
class Closed:
    """The conversation is over. The last event."""

    at: float
    code: int
    reason: str


Event = Transcript | ReplyText | Sound | Notice | Failure | Closed


def parsed(message: str | bytes, at: float) -> Event:
    """What a text message of either socket means; a failure where it is none of the protocol's."""
    try:
        return _meaning(message, at)
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError):
        return Failure(
            at, None, f"The server sent what is no message of its protocol: {message!r:.80}"
        )


def _meaning(message: str | bytes, at: float) -> Event:
    fields: dict[str, Any] = json.loads(message)
    turn = fields.get("turn")
    if "segments" in fields:
        segments = tuple(
            Segment(float(s["start"]), float(s["end"]), s["text"], bool(s["completed"]))
            for s in fields["segments"]
        )
        language = fields.get("language", "")
        return Transcript(at, turn, segments, fields["eos"], fields["latency"], language)
    if "llm_output" in fields:
        text = "".join(fields["llm_output"])
        return ReplyText(at, turn, text, fields["eos"], fields.get("interrupted", False))
    if fields.get("status") == "ERROR":
        return Failure(at, turn, fields["message"])
    name = fields.get("event") or fields.get("status") or fields.get("message")
    return Notice(at, str(name), turn, fields)
