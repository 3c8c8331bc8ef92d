"""Recordings in WAV files: read for sending, written for keeping."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
import soxr
from numpy.typing import NDArray

from fusion.errors import FusionError

_FULL_SCALE = {1: 128.0, 2: 32768.0, 4: 2147483648.0}


def read_wav(path: str | Path, rate: int) -> NDArray[np.float32]:
    """Samples of a PCM WAV file as mono float32 at `rate` Hz: channels are averaged.

    Raises FusionError when the file is missing or not PCM.
    """
    try:
        with wave.open(str(path), "rb") as file:
            data, width = file.readframes(file.getnframes()), file.getsampwidth()
            channels, file_rate = file.getnchannels(), file.getframerate()
    except OSError as error:
        raise FusionError(f"Cannot read {path}: {error.strerror}.") from error
    except (wave.Error, EOFError) as error:
        raise FusionError(
            f"{path} is no PCM WAV file ({error}); convert it: ffmpeg -i {path} converted.wav"
        ) from error
    samples: NDArray[np.float32] = _decode(data, width).reshape(-1, channels).mean(axis=1)
    if file_rate == rate:
        return samples
    resampled: NDArray[np.float32] = soxr.resample(samples, file_rate, rate)
    return resampled


def write_wav(path: str | Path, samples: NDArray[np.float32], rate: int) -> None:
    """Write mono float32 samples as 16-bit PCM; what exceeds [-1, 1] is clipped."""
    pcm = (np.clip(samples, -1.0, 1.0) * 32767.0).round().astype("<i2")
    # Opened here, as `wave` writes a traceback of its own about a file that it cannot open.
    with Path(path).open("wb") as stream, wave.open(stream, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(pcm.tobytes())


def _decode(data: bytes, width: int) -> NDArray[np.float32]:
    if width == 3:  # numpy knows no 24-bit numbers: put a zero byte below each
        wide = np.zeros((len(data) // 3, 4), np.uint8)
        wide[:, 1:] = np.frombuffer(data, np.uint8).reshape(-1, 3)
        data, width = wide.tobytes(), 4
    dtype = np.dtype(np.uint8 if width == 1 else f"<i{width}")
    samples = np.frombuffer(data, dtype).astype(np.float32)
    middle = np.float32(128 if width == 1 else 0)  # 8-bit samples are unsigned
    scaled: NDArray[np.float32] = (samples - middle) / np.float32(_FULL_SCALE[width])
    return scaled
