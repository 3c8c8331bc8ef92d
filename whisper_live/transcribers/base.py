"""The one interface of every speech recogniser."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

WINDOW_SECONDS = 30.0
"""Whisper's window: no request holds more audio than this."""


@dataclass(frozen=True)
class TranscriptionRequest:
    """One segment of speech to transcribe.

    `audio` is float32 mono at 16 kHz in [-1, 1], at most 30 s. `language` is an ISO 639-1 code, or
    None to detect it. `task` is "transcribe" or "translate" (into English). `context` is text that
    came before or words to expect; it steers spelling and is never part of the result. A `quick`
    answer may hold wrong words that a longer look would mend: for a text that is soon replaced.
    `expected` is the language spoken before: where it is to be detected, a short "Yes." stays one.
    """

    audio: NDArray[np.float32]
    language: str | None = "en"
    task: str = "transcribe"
    context: str = ""
    quick: bool = False
    expected: str = ""


@dataclass(frozen=True)
class Transcript:
    """What was said: `text` is empty when nobody said a word.

    `confidence` is the mean log probability of a token (<= 0); `no_speech` the probability that
    the audio holds no speech at all. A `doubtful` one is a quick answer that a longer look may
    correct.
    """

    text: str
    language: str
    confidence: float = 0.0
    no_speech: float = 0.0
    doubtful: bool = False


NOTHING_HEARD = Transcript(text="", language="")


class Transcriber(Protocol):
    """A loaded speech recogniser. Constructed by its own file's `load(settings)`.

    `transcribe` is called from one or more worker threads; an implementation whose library wants
    one thread owns that thread itself.
    """

    name: str
    """For logs and SERVER_READY's `backend`, e.g. "faster_whisper"."""

    languages: frozenset[str]
    """ISO 639-1 codes it understands; one entry for an English-only model."""

    max_batch: int
    """How many requests one call may hold; 1 where batching gains nothing."""

    def warm_up(self) -> None:
        """Run once on silence so that the first real request is not slow."""

    def prepare(self, language: str | None) -> None:
        """Get ready to understand this language, None for any; may take as long as a download.

        Raises ModelError when it cannot be understood after all.
        """

    def transcribe(
        self,
        requests: Sequence[TranscriptionRequest],
        cancelled: Callable[[], bool] = lambda: False,
    ) -> list[Transcript]:
        """Transcribe up to `max_batch` requests; one transcript for each, in order.

        `cancelled` is asked while decoding where the library allows it; once it returns True the
        results no longer matter and NOTHING_HEARD may be returned. Raises ModelError when the
        recogniser itself fails.
        """

    def close(self) -> None:
        """Release the model. Idempotent."""
