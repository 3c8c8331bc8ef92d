"""The audio of one turn and its transcript so far. Pure values, bounded memory.

Whisper takes at most 30 s at once. A longer utterance is transcribed in *segments*, cut in pauses:
a segment whose text will not change is finalized and its audio dropped, so that what is left to
transcribe at the end of a turn is short, however long the person spoke.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from whisper_live.activity import FRAME_SECONDS

FRAME = 512

# The turn detector listens to the last 8 s (Smart Turn v3's input).
_TURN_DETECTOR_FRAMES = int(8.0 / FRAME_SECONDS)


@dataclass
class Segment:
    """A stretch of the utterance, in frames since the connection began; `text` once transcribed."""

    first: int
    last: int
    text: str | None = None


class Utterance:
    """Frames of speech and the pauses between, from the first word on.

    `position` is the index of its first frame, counted from the beginning of the connection.
    """

    def __init__(self, position: int) -> None:
        self.position = position
        self.segments: list[Segment] = []
        self._frames: list[NDArray[np.float32]] = []
        self._probabilities: list[float] = []
        self._unfinalized_from = position
        self._recent: deque[NDArray[np.float32]] = deque(maxlen=_TURN_DETECTOR_FRAMES)

    @property
    def end(self) -> int:
        """Index of the frame after its last one."""
        return self._unfinalized_from + len(self._frames)

    @property
    def unfinalized_from(self) -> int:
        return self._unfinalized_from

    @property
    def unfinalized_seconds(self) -> float:
        """Length of the audio that is not part of a segment yet."""
        return len(self._frames) * FRAME_SECONDS

    def append(self, frame: NDArray[np.float32], probability: float) -> None:
        self._frames.append(frame)
        self._probabilities.append(probability)
        self._recent.append(frame)

    def audio(self) -> NDArray[np.float32]:
        """What is not part of a segment yet: float32 at 16 kHz."""
        return np.concatenate(self._frames) if self._frames else np.zeros(0, np.float32)

    def recent_audio(self) -> NDArray[np.float32]:
        """The last 8 s, for the turn detector."""
        return np.concatenate(self._recent) if self._recent else np.zeros(0, np.float32)

    def quietest_cut(self, within: float) -> int:
        """Return the frame index of the cut: where the last `within` seconds sound least spoken."""
        span = min(int(within / FRAME_SECONDS), len(self._frames))
        tail = self._probabilities[len(self._probabilities) - span :]
        return self.end - span + int(np.argmin(tail)) + 1

    def cut(self, until: int) -> tuple[Segment, NDArray[np.float32]]:
        """Make the audio before frame `until` a segment, whose text is still to come."""
        count = until - self._unfinalized_from
        audio = np.concatenate(self._frames[:count])
        segment = Segment(self._unfinalized_from, until)
        self.segments.append(segment)
        del self._frames[:count], self._probabilities[:count]
        self._unfinalized_from = until
        return segment, audio

    def finalized_text(self) -> str | None:
        """The segments' text, or None while one is still being transcribed."""
        texts = [segment.text for segment in self.segments]
        if any(text is None for text in texts):
            return None
        return join(*(text for text in texts if text))


def join(*texts: str) -> str:
    """Join the texts of consecutive stretches."""
    return " ".join(text.strip() for text in texts if text.strip())
