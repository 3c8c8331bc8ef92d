"""Microphone and speaker of this machine, through `sounddevice` (PortAudio)."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusion.errors import FusionError

Samples = NDArray[np.float32]


class SoundBuffer:
    """Sound that waits to be played. Filled and emptied by different threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._samples: Samples = np.zeros(0, np.float32)

    def add(self, samples: Samples) -> None:
        with self._lock:
            self._samples = np.concatenate([self._samples, samples])

    def flush(self) -> None:
        """Be silent at once."""
        with self._lock:
            self._samples = self._samples[:0]

    def read(self, count: int) -> Samples:
        """The next `count` samples; silence where there are none."""
        with self._lock:
            taken, self._samples = self._samples[:count], self._samples[count:]
        return np.pad(taken, (0, count - len(taken)))

    @property
    def samples_left(self) -> int:
        """Samples that were not played yet."""
        return len(self._samples)


@contextlib.contextmanager
def microphone(rate: int, chunk: int) -> Iterator[AsyncIterator[Samples]]:
    """Record from the default microphone: chunks of mono float32. Needs a running event loop.

    Raises FusionError when there is no microphone or no library to reach it.
    """
    loop = asyncio.get_running_loop()
    recorded: asyncio.Queue[Samples] = asyncio.Queue()

    def keep(data: Samples, *_: object) -> None:
        loop.call_soon_threadsafe(recorded.put_nowait, data[:, 0].copy())

    async def chunks() -> AsyncIterator[Samples]:
        while True:
            yield await recorded.get()

    with _open_stream("InputStream", "microphone", rate, keep, blocksize=chunk):
        yield chunks()


@contextlib.contextmanager
def speaker(rate: int) -> Iterator[SoundBuffer]:
    """Play what is put into the buffer on the default speaker. Raises FusionError as above."""
    buffer = SoundBuffer()

    def fill(data: Samples, frames: int, *_: object) -> None:
        data[:, 0] = buffer.read(frames)

    with _open_stream("OutputStream", "speaker", rate, fill):
        yield buffer


def _open_stream(kind: str, device: str, rate: int, callback: Any, **options: int) -> Any:
    try:
        import sounddevice
    except ImportError as error:
        raise FusionError(
            f"The {device} needs the package sounddevice, which the extra microphone brings "
            "(python -m pip install sounddevice). Without it, use --file and --save."
        ) from error
    except OSError as error:
        raise FusionError(
            f"The {device} needs the PortAudio library (on Debian and Ubuntu: sudo apt install "
            "libportaudio2). Without it, use --file and --save."
        ) from error
    try:
        stream = getattr(sounddevice, kind)
        return stream(samplerate=rate, channels=1, dtype="float32", callback=callback, **options)
    except sounddevice.PortAudioError as error:
        raise FusionError(
            f"The {device} cannot be opened ({error}). Without it, use --file and --save."
        ) from error
