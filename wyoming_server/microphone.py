"""The sound of Wyoming's audio events as the transcription server takes it."""

from __future__ import annotations

import numpy as np
import soxr
from numpy.typing import NDArray
from wyoming.event import Event

from fusion.audio import SAMPLE_RATE
from fusion.errors import ProtocolError

Samples = NDArray[np.float32]

_RATES = range(8_000, 192_001)
_CHANNELS = range(1, 9)
_WIDTH = 2


class Microphone:
    """One stream: 16 bits, at any rate and of some channels. Not thread-safe: chunks in order."""

    def __init__(self, event: Event) -> None:
        """Take the format from `audio-start`, or from a chunk. Raises ProtocolError."""
        self._rate = _number(event, "rate")
        self._channels = _number(event, "channels")
        if _number(event, "width") != _WIDTH:
            raise ProtocolError("Sound has samples of 16 bits: a width of 2.")
        if self._rate not in _RATES or self._channels not in _CHANNELS:
            raise ProtocolError("Sound has a rate of 8000 to 192000 Hz and 1 to 8 channels.")
        self._rest = b""
        self._resampler = None
        if self._rate != SAMPLE_RATE:
            self._resampler = soxr.ResampleStream(self._rate, SAMPLE_RATE, 1, dtype="float32")

    def take(self, audio: bytes, *, last: bool = False) -> Samples:
        """The samples of these bytes, float32 at 16 kHz; with the last of them, the filter's tail.

        Half a sample waits for the next bytes.
        """
        data = self._rest + audio
        whole = len(data) - len(data) % (_WIDTH * self._channels)
        self._rest = data[whole:]
        frames = np.frombuffer(data[:whole], "<i2").reshape(-1, self._channels)
        samples: Samples = frames.mean(axis=1, dtype=np.float32) / np.float32(32768)
        if self._resampler is None:
            return samples
        resampled: Samples = self._resampler.resample_chunk(samples, last=last)
        return resampled


def _number(event: Event, name: str) -> int:
    value = event.data.get(name)
    if isinstance(value, bool) or not isinstance(value, int):
        raise ProtocolError(f"{event.type} needs a {name}, a whole number.")
    return value
