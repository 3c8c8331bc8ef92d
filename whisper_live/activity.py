"""From speech probabilities to speech and silence. Pure: one value a frame in, state out."""

from __future__ import annotations

FRAME_SECONDS = 512 / 16_000
"""Length of the frames that probabilities come for (Silero VAD's own)."""

# Speech begins at the threshold and ends only well below it, so that a probability that
# flickers around one value does not cut words (Silero's own streaming rule).
HYSTERESIS = 0.15

# One loud frame is a click; two in a row may be a word.
FRAMES_TO_BEGIN = 2


class SpeechActivity:
    """Whether somebody speaks right now, and for how long they have or have not.

    `speech` counts seconds of speech since `reset`, `silence` seconds since the last of it.
    """

    def __init__(self, threshold: float) -> None:
        self._begin = threshold
        self._end = max(threshold - HYSTERESIS, 0.01)
        self.reset()

    def reset(self) -> None:
        """Forget the utterance, at its end."""
        self.speaking = False
        self.speech = 0.0
        self.silence = 0.0
        self._loud_frames = 0

    def feed(self, probability: float) -> bool:
        """Take the next frame's speech probability (0..1); True while somebody speaks."""
        if self.speaking:
            self.speaking = probability >= self._end
        else:
            self._loud_frames = self._loud_frames + 1 if probability >= self._begin else 0
            if self._loud_frames >= FRAMES_TO_BEGIN:
                self.speaking = True
                self.speech += (self._loud_frames - 1) * FRAME_SECONDS
        if self.speaking:
            self.speech += FRAME_SECONDS
            self.silence = 0.0
            self._loud_frames = 0
        else:
            self.silence += FRAME_SECONDS
        return self.speaking
