"""What one client's session asks of the world around it. Values only: see `session.py`."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusion.messages import Message
from whisper_live.utterance import Segment


class Priority(enum.IntEnum):
    """What goes first when several transcriptions wait. Lower is sooner."""

    AWAITED = 0  # somebody waits for it: the end of an utterance
    OVERLAPPING = 1  # words that decide whether the machine is interrupted
    CORRECTION = 2  # a longer look at a doubtful text, while the silence is waited out
    LIVE = 3  # words shown while a person speaks; replaced by newer ones, dropped when busy


@dataclass(eq=False)
class Revision:
    """One hypothesis of a whole utterance: `text` and `probability` (that it is done) once known.

    `failed` is whether it has no words because the transcriber failed. While it is `provisional` a
    longer look at its audio may still correct it, which gives it a new number. `language` is the
    code of what is spoken; "" while nobody knows. It belongs to the `Listener` that made it and its
    session, which alone change it; everybody else reads.
    """

    turn: int
    number: int
    end_of_speech: float
    end: int
    text: str | None = None
    tail: str | None = None
    failed: bool = False
    provisional: bool = False
    text_at: float | None = None
    probability: float | None = None
    times_predicted: int = 0
    language: str = ""

    @property
    def is_settled(self) -> bool:
        """Whether its text is known and will not change."""
        return self.text is not None and not self.provisional


@dataclass(frozen=True, eq=False)
class Transcribe:
    """Transcribe `audio` (float32, 16 kHz) and hand the result to `Session.transcribed`.

    It is for a `revision`, for a finalized `segment` of a long utterance, or, with neither, for the
    live transcript.
    """

    turn: int
    audio: NDArray[np.float32]
    priority: Priority
    revision: Revision | None = None
    segment: Segment | None = None


@dataclass(frozen=True, eq=False)
class PredictTurn:
    """Ask the turn detector about the last seconds of audio; answer to `Session.turn_predicted`."""

    revision: Revision
    audio: NDArray[np.float32]


@dataclass(frozen=True)
class Tell:
    """Send these fields to the client as JSON."""

    fields: dict[str, Any]


@dataclass(frozen=True)
class ToLanguageModel:
    message: Message


@dataclass(frozen=True)
class ToVoice:
    message: Message


@dataclass(frozen=True)
class TurnTimeline:
    """Where the time of a turn went: milliseconds since the end of speech, None where it did not
    happen. `speculative` says whether work done before the commit was used."""

    turn: int
    speculative: bool
    milliseconds: dict[str, int | None] = field(default_factory=dict)


Event = Transcribe | PredictTurn | Tell | ToLanguageModel | ToVoice | TurnTimeline
