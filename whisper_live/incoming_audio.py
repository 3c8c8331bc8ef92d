"""From a client's binary messages to what is listened to: float32 mono at 16 kHz."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import soxr
from numpy.typing import NDArray

from fusion import metrics
from fusion.audio import SAMPLE_RATE
from fusion.errors import ProtocolError

FORMATS: dict[str, tuple[str, int]] = {"float32": ("<f4", 4), "int16": ("<i2", 2)}
"""NumPy's name of each format, and its bytes a sample."""

# Float samples beyond full scale are clipped: a microphone with too much gain, an overshoot of a
# resampler. Beyond four times that (12 dB) they were never meant to lie within -1 and 1.
_LARGEST_SAMPLE = 4.0

# Voices have nothing below their lowest fundamental, some 60 Hz: at 20 Hz they are left alone.
_CUTOFF = 20.0

# Samples filtered at once; powers of the filter's pole stay far from the ends of float64.
_BLOCK = 1024


# Seconds: some 13 ms of work, most of it for the speech probabilities.
_PART = 0.5


class DcBlocker:
    """Takes a constant offset out of a stream: a one-pole high-pass of 20 Hz.

    Cheap sound cards add up to a tenth of full scale, which spoils levels, speech probabilities and
    transcripts. Not thread-safe: one for each stream.
    """

    def __init__(self, sample_rate: int = SAMPLE_RATE) -> None:
        self._pole = math.exp(-2 * math.pi * _CUTOFF / sample_rate)
        self._powers = self._pole ** np.arange(1, _BLOCK + 1)
        self._offset: float | None = None

    def filter(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the next samples of the stream without its offset."""
        if self._offset is None and len(samples):
            # A stream that begins with its offset would begin with a click.
            self._offset = float(samples.mean(dtype=np.float64))
        filtered = np.empty_like(samples)
        for first in range(0, len(samples), _BLOCK):
            block = samples[first : first + _BLOCK]
            filtered[first : first + _BLOCK] = block - self._follow(block)
        return filtered

    def _follow(self, block: NDArray[np.float32]) -> NDArray[np.float64]:
        """The offset at each sample: o[n] = pole o[n-1] + (1 - pole) x[n], for all n at once."""
        assert self._offset is not None
        powers = self._powers[: len(block)]
        offsets = powers * (self._offset + (1 - self._pole) * np.cumsum(block / powers))
        self._offset = float(offsets[-1])
        return np.asarray(offsets)


class IncomingAudio:
    """One client's stream. Not thread-safe: messages are taken in order."""

    def __init__(self, audio_format: str, sample_rate: int) -> None:
        self._format = audio_format
        self._bytes_a_second = sample_rate * FORMATS[audio_format][1]
        self._part_bytes = round(_PART * self._bytes_a_second)
        self._rest = b""
        self._resampler = None
        if sample_rate != SAMPLE_RATE:
            self._resampler = soxr.ResampleStream(sample_rate, SAMPLE_RATE, 1, dtype="float32")
        self._dc_blocker = DcBlocker()

    def parts(self, data: bytes) -> Iterator[tuple[bytes, float]]:
        """Cut a message so that taking a part is a short piece of work; with each part's seconds.

        A client may send minutes in one message, and others must not wait for all of it.
        """
        for first in range(0, len(data), self._part_bytes):
            part = data[first : first + self._part_bytes]
            yield part, len(part) / self._bytes_a_second

    def take(self, data: bytes) -> NDArray[np.float32]:
        """Return the samples of a binary message or a part of one.

        What is no whole sample waits for the next.

        Raises ProtocolError for samples that cannot be meant so.
        """
        dtype, width = FORMATS[self._format]
        data = self._rest + data
        whole = len(data) - len(data) % width
        self._rest = data[whole:]
        samples = _full_scale(np.frombuffer(data[:whole], dtype))
        metrics.AUDIO.labels("in").inc(whole / self._bytes_a_second)
        if self._resampler is not None:
            samples = self._resampler.resample_chunk(samples)
        return self._dc_blocker.filter(samples)


def _full_scale(samples: NDArray[np.int16] | NDArray[np.float32]) -> NDArray[np.float32]:
    """Samples within -1 and 1."""
    if samples.dtype.kind == "i":
        return samples.astype(np.float32) / 32768.0
    if not np.isfinite(samples).all():
        raise ProtocolError("The audio holds samples that are not finite numbers; is it float32?")
    largest = float(np.abs(samples).max(initial=0.0))
    if largest > _LARGEST_SAMPLE:
        raise ProtocolError(
            f"The audio reaches {largest:.6g}, but float32 samples lie between -1 and 1; "
            'divide them by 32768, or send int16 and say so: {"audio_format": "int16"}.'
        )
    return np.clip(samples, -1.0, 1.0).astype(np.float32)
