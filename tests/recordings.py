"""The recordings of people under `tests/audio/`; see `LICENSES.txt` there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from whisper_live.client.sound_files import read_wav

FOLDER = Path(__file__).parent / "audio"


def load(name: str) -> NDArray[np.float32]:
    """A recording as float32 mono at 16 kHz."""
    return read_wav(FOLDER / f"{name}.wav", 16_000)
