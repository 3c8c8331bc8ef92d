"""One text that WhisperSpeech speaks, from the thread that wants it to the one that makes it."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voices.whisperspeech.windows import FRAMES_PER_SECOND, final_frames, frames_of

Sound = NDArray[np.float32]

LEAD = 0.5
"""Seconds of sound that a listener should have ahead; with less, an utterance is in a hurry."""


@dataclass(eq=False)
class Utterance:
    """What is said, and how far it is.

    The engine's thread alone changes it, `sounds` is read in the thread that wants it, and
    `cancelled` is called in the engine's thread before every step.
    """

    text: str
    language: str = "en"
    cancelled: Callable[[], bool] = lambda: False
    generator: Any = None
    """A torch.Generator for the draws on a CPU; None for PyTorch's own."""
    longest: int | None = None
    """Semantic tokens after which it ends; None for the model's own limit."""

    tokens: list[int] = field(default_factory=list)
    steps: int = 0
    """How many the acoustic model has done for it."""
    handed: int = 0
    """Frames that went to the vocoder."""
    handed_at: float = 0.0
    """`time.monotonic()` of the first of them."""
    over: bool = False
    _sounds: queue.SimpleQueue[Sound | Exception | None] = field(default_factory=queue.SimpleQueue)

    @property
    def frames(self) -> int:
        """How many it has in all, once its semantic tokens are known."""
        return frames_of(len(self.tokens))

    @property
    def final(self) -> int:
        """How many of them have all their codes."""
        return final_frames(self.steps, self.frames)

    def hurries(self, now: float) -> bool:
        """Does its listener wait for sound, or is about to?"""
        return not self.handed or self.handed / FRAMES_PER_SECOND - (now - self.handed_at) < LEAD

    def put(self, sound: Sound) -> None:
        """Hand out a piece of its sound."""
        self._sounds.put(sound)

    def finish(self, error: Exception | None = None) -> None:
        """End it: with an error, which `sounds` raises, or well. Only the first end counts."""
        if not self.over:
            self.over = True
            self._sounds.put(error)

    def sounds(self) -> Iterator[Sound]:
        """Yield its sound as it is made. Raises ModelError when the model fails."""
        while (item := self._sounds.get()) is not None:
            if isinstance(item, Exception):
                raise item
            yield item
