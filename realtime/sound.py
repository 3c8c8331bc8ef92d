"""Sound as Realtime clients send and get it: 16 bits at 24 kHz, or telephony's 8 bits at 8 kHz."""

from __future__ import annotations

from typing import Literal

import numpy as np
import soxr
from numpy.typing import NDArray

from fusion.audio import SAMPLE_RATE, SPEECH_RATE

Format = Literal["audio/pcm", "audio/pcmu", "audio/pcma"]
Samples = NDArray[np.float32]

_TELEPHONY_RATE = 8_000


def _mu_law() -> NDArray[np.int16]:
    """What each byte of G.711's mu-law stands for."""
    code = ~np.arange(256, dtype=np.uint8)
    size = ((((code & 0x0F).astype(np.int32) << 3) + 0x84) << ((code & 0x70) >> 4)) - 0x84
    return np.where(code & 0x80, -size, size).astype(np.int16)


def _a_law() -> NDArray[np.int16]:
    """What each byte of G.711's A-law stands for."""
    code = np.arange(256, dtype=np.uint8) ^ 0x55
    low, segment = (code & 0x0F).astype(np.int32) << 4, (code & 0x70) >> 4
    size = np.where(segment, (low + 0x108) << np.maximum(segment, 1) - 1, low + 8)
    return np.where(code & 0x80, size, -size).astype(np.int16)


class _Law:
    """One of G.711's two ways to write a sample in a byte."""

    def __init__(self, values: NDArray[np.int16]) -> None:
        self._values = values
        self._codes = np.argsort(values, kind="stable").astype(np.uint8)
        ordered = values[self._codes].astype(np.float32)
        self._borders = (ordered[1:] + ordered[:-1]) / 2

    def decode(self, data: bytes) -> NDArray[np.int16]:
        return self._values[np.frombuffer(data, np.uint8)]

    def encode(self, samples: NDArray[np.int16]) -> bytes:
        """The byte of the nearest value for each sample."""
        return self._codes[np.searchsorted(self._borders, samples)].tobytes()


_LAWS = {"audio/pcmu": _Law(_mu_law()), "audio/pcma": _Law(_a_law())}


def rate_of(kind: Format) -> int:
    """Samples a second."""
    return SPEECH_RATE if kind == "audio/pcm" else _TELEPHONY_RATE


class Decoder:
    """A client's bytes as float32 at 16 kHz. Not thread-safe: bytes come in order."""

    def __init__(self, kind: Format) -> None:
        self.kind = kind
        self._rest = b""
        self._resampler = soxr.ResampleStream(rate_of(kind), SAMPLE_RATE, 1, dtype="float32")

    def decode(self, data: bytes) -> Samples:
        """The samples of these bytes; half a sample waits for the next."""
        if self.kind == "audio/pcm":
            data = self._rest + data
            whole = len(data) - len(data) % 2
            self._rest = data[whole:]
            samples = np.frombuffer(data[:whole], "<i2")
        else:
            samples = _LAWS[self.kind].decode(data)
        resampled: Samples = self._resampler.resample_chunk(samples.astype(np.float32) / 32768)
        return resampled


class Encoder:
    """Our sound, float32 at 24 kHz, as a client gets it. Not thread-safe."""

    def __init__(self, kind: Format) -> None:
        self.kind = kind
        self._resampler: soxr.ResampleStream | None = None

    def encode(self, samples: Samples, *, last: bool = False) -> bytes:
        """The bytes of these samples. `last` ends a stream: what the filter held back comes too."""
        if self.kind == "audio/pcm":
            return _whole(samples).astype("<i2").tobytes()
        if self._resampler is None:
            self._resampler = soxr.ResampleStream(SPEECH_RATE, _TELEPHONY_RATE, 1, dtype="float32")
        resampled = self._resampler.resample_chunk(samples, last=last)
        if last:
            self._resampler = None
        return _LAWS[self.kind].encode(_whole(resampled))

    def milliseconds(self, data: bytes) -> float:
        """How long these bytes sound."""
        width = 2 if self.kind == "audio/pcm" else 1
        return 1000 * len(data) / width / rate_of(self.kind)


def _whole(samples: Samples) -> NDArray[np.int16]:
    return np.round(np.clip(samples, -1.0, 1.0) * 32767).astype(np.int16)
