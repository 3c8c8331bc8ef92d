"""What the listener finds in a client's audio. Values only: see `listener.py`."""

from __future__ import annotations

from dataclasses import dataclass

from whisper_live.events import PredictTurn, Revision, Transcribe
from whisper_live.utterance import Segment


@dataclass(frozen=True)
class Began:
    """A person begins to speak."""

    turn: int


@dataclass(frozen=True)
class TranscriptChanged:
    """The live transcript of a turn changed: finalized segments, and the text after them."""

    turn: int
    segments: tuple[Segment, ...]
    tail: Segment
    until: float
    """When the last of the audio behind it came in, monotonic seconds."""


@dataclass(frozen=True)
class StablePrefix:
    """These first words of the turn will most likely not change."""

    turn: int
    text: str


@dataclass(frozen=True)
class EagerEndOfTurn:
    """The person paused: this may be all they say. `corrected` after a longer look at the audio."""

    revision: Revision
    corrected: bool = False


@dataclass(frozen=True)
class Withdrawn:
    """They went on speaking, or said something else than was understood at first."""

    revision: Revision


@dataclass(frozen=True)
class Completed:
    """The person is done; `revision.text` is what they said, `segments` where each part lies."""

    revision: Revision
    segments: tuple[Segment, ...]


@dataclass(frozen=True)
class Dropped:
    """The turn held no words; or they are not known, as the transcriber `failed`."""

    turn: int
    failed: bool = False


ListenerEvent = (
    Began
    | TranscriptChanged
    | StablePrefix
    | EagerEndOfTurn
    | Withdrawn
    | Completed
    | Dropped
    | Transcribe
    | PredictTurn
)
