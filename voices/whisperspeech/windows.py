"""Which frames go to the vocoder when, so that speech starts before it is all made. Pure.

The acoustic model writes four streams of codes, stream q one step later than stream q - 1: frame f
has its last code at step f + 4. The vocoder looks at a frame's neighbours (seven convolutions of
nine layers reach 27 frames to each side, the inverse Fourier transform two more), so a window is
decoded with that many frames around it, which are cut away: joined, windows are the whole decode.
"""

from __future__ import annotations

from dataclasses import dataclass

STREAMS = 4
FRAMES_PER_TOKEN = 3
FRAMES_PER_SECOND = 75
SAMPLES_PER_FRAME = 320

CONTEXT = 29
"""Frames on each side of a window that the vocoder must see to decode it as in the whole."""
FIRST_WINDOW = 15
"""Frames (0.2 s) of the first window: short, as somebody waits for it."""
LONGEST_WINDOW = 120
"""Frames (1.6 s): what is decoded once more as context is then a third of the work."""

LENGTHS: tuple[int, ...] = (*range(2, 3 * 30, 3), *range(98, 190, 9))
"""Frames that windows may have: few different ones, as each length is a CUDA graph of its own.

Those below 90 are what sentences have (3 frames a token, less 4), as short ones are decoded whole.
"""


@dataclass(frozen=True)
class Window:
    """Frames `first` to `last` are decoded, and of these `start` to `end` are handed out."""

    first: int
    last: int
    start: int
    end: int

    @property
    def samples(self) -> slice:
        """Where the sound to hand out lies in what the vocoder makes of the window."""
        return slice(
            (self.start - self.first) * SAMPLES_PER_FRAME,
            (self.end - self.first) * SAMPLES_PER_FRAME,
        )


def frames_of(tokens: int) -> int:
    """How many frames the library makes of that many semantic tokens."""
    return max(0, FRAMES_PER_TOKEN * tokens - STREAMS)


def final_frames(steps: int, frames: int) -> int:
    """How many of `frames` have all their codes after that many steps of the acoustic model."""
    return min(frames, max(0, steps - STREAMS + 1))


def next_window(handed: int, final: int, frames: int) -> Window | None:
    """The window to decode next, or None when it has to wait for more frames.

    `handed` frames were handed out before, `final` have all their codes, of `frames` in all. A
    window is at most three times as long as what was handed out before it, which is still being
    played when it comes, as frames are made many times faster than they play.
    """
    end = handed + min(3 * handed or FIRST_WINDOW, LONGEST_WINDOW)
    if final == frames and end + CONTEXT >= frames:
        end = frames
    last = min(end + CONTEXT, frames)
    if end <= handed or last > final:
        return None
    return Window(last - _fitting(last - max(0, handed - CONTEXT), last), last, handed, end)


def _fitting(needed: int, most: int) -> int:
    """The shortest of the lengths from `needed` to `most` frames: more is only more context."""
    return min(length for length in LENGTHS if needed <= length <= most)
