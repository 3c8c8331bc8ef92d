"""The one interface of every voice."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Voice(Protocol):
    """A loaded voice. Constructed by its own file's `load(settings)`."""

    name: str
    """For logs, e.g. "piper: en_US-joe-medium"."""

    sample_rate: int
    """Hz of what `synthesize` yields."""

    max_concurrent: int
    """How many syntheses may run at the same time, each in its own thread."""

    speakers: Mapping[str, str]
    """Names that `synthesize` takes as `speaker`, each with its language as ISO 639-1 code.

    Empty where there is one voice alone.
    """

    languages: tuple[str, ...]
    """ISO 639-1 codes of what it speaks, its own first; empty where nobody knows.

    They decide which writing it can say: the rest is left out of the sound (`voices.spoken_text`).
    """

    def warm_up(self) -> None:
        """Speak a few sentences to nobody, with progress where it takes long."""

    def prepare(self, language: str) -> None:
        """Get ready to speak this language; may take as long as a download. Never raises."""

    def synthesize(
        self,
        text: str,
        *,
        language: str = "en",
        speaker: str = "",
        cancelled: Callable[[], bool] = lambda: False,
    ) -> Iterator[NDArray[np.float32]]:
        """Yield the sound of one clause: float32 mono in [-1, 1] at `sample_rate`.

        `text` is already cleaned for speech (see `voices.spoken_text`). `speaker` is the voice that
        the client asked for; an unknown one falls back to the default. Ends early once `cancelled`
        returns True. Raises ModelError when the voice fails.
        """

    def close(self) -> None:
        """Release the model. Idempotent."""
