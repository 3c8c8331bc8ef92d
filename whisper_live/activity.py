"""From speech probabilities to speech and silence. Pure: one value a frame in, state out."""

from __future__ import annotations

from fusion.audio import SAMPLE_RATE

FRAME_SECONDS = 512 / SAMPLE_RATE
"""Length of the frames that probabilities come for (Silero VAD's own)."""

# Speech begins at the threshold and ends only well below it, so that a probability that
# flickers around one value does not cut words (Silero's own streaming rule).
HYSTERESIS = 0.15

# One loud frame is a click; two in a row may be a word.
FRAMES_TO_BEGIN = 2


class SpeechActivity:
    """Whether somebody speaks right now, and for how long they have or have not.

    `speech` counts seconds of speech since `reset`, `silence` seconds since the last of it. A sound
    after a pause may be a click or a breath: until it has lasted `shortest` seconds it is
    `in_doubt`, and the silence goes on.
    """

    def __init__(self, threshold: float, shortest: float) -> None:
        self.threshold = threshold
        self._frames_to_resume = round(shortest / FRAME_SECONDS)
        self.reset()

    def reset(self) -> None:
        """Forget the utterance, at its end."""
        self.speech = 0.0
        self.silence = 0.0
        self._frames = 0

    @property
    def in_doubt(self) -> bool:
        """Whether there is a sound after a pause that is not speech yet."""
        return self._sounding and self.silence > 0.0

    @property
    def _sounding(self) -> bool:
        return self._frames >= FRAMES_TO_BEGIN

    def feed(self, probability: float) -> bool:
        """Take the next frame's speech probability (0..1); True while somebody speaks."""
        end = max(self.threshold - HYSTERESIS, 0.01)
        loud = probability >= (end if self._sounding else self.threshold)
        self._frames = self._frames + 1 if loud else 0
        goes_on = self.speech > 0.0 and self.silence == 0.0
        enough = FRAMES_TO_BEGIN if self.speech == 0.0 else self._frames_to_resume
        speaking = self._sounding and (goes_on or self._frames >= enough)
        if speaking:
            self.speech += FRAME_SECONDS * (1 if goes_on else self._frames)
            self.silence = 0.0
        else:
            self.silence += FRAME_SECONDS
        return speaking
