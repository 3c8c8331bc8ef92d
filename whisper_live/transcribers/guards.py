"""What every Whisper needs around it: signs that it wrote words nobody said.

The two thresholds of `is_repetitive` and `is_silence` are those of OpenAI's Whisper
(transcribe.py: compression_ratio_threshold, no_speech_threshold, logprob_threshold). The others
are this project's own.
"""

from __future__ import annotations

import math
import zlib

import numpy as np
from numpy.typing import NDArray

INAUDIBLE = 1e-4
"""Peak below which there is nothing to hear: -80 dB of full scale."""

COMPRESSION_LIMIT = 2.4
NO_SPEECH_LIMIT = 0.6
CONFIDENCE_LIMIT = -1.0

LONGEST_TEXT = 224
"""Tokens; Whisper's own limit for a window: half of its decoder's 448 positions."""

SPARE_TOKENS = 16
TOKENS_PER_SECOND = 15.0
"""Fast English is about 6 tokens a second; scripts that Whisper spells in bytes need more."""

FASTEST_SPEECH = 8.0
"""Words a second that nobody exceeds: fast English is about 5."""

HALLUCINATIONS = frozenset(
    {
        "you",
        "bye",
        "thank you",
        "thank you very much",
        "thank you for watching",
        "thanks for watching",
        "thanks for watching and see you next time",
        "please subscribe",
        "subtitles by the amara.org community",
    }
)
"""What Whisper is known to write over silence and noise, in lower case without edge punctuation."""

PHANTOM_NO_SPEECH = 0.2
PHANTOM_CONFIDENCE = -0.7


def is_audible(audio: NDArray[np.float32]) -> bool:
    """Whether there is any sound; Whisper is known to invent words where there is none."""
    return audio.size > 0 and float(np.abs(audio).max()) > INAUDIBLE


def compression_ratio(text: str) -> float:
    """UTF-8 bytes of `text` for each byte of it compressed; 0 for an empty text."""
    encoded = text.encode()
    return len(encoded) / len(zlib.compress(encoded)) if encoded else 0.0


def is_repetitive(text: str) -> bool:
    """Whether the decoder fell into a loop and wrote the same words again and again."""
    return compression_ratio(text) > COMPRESSION_LIMIT


def is_said_again(text: str) -> bool:
    """Whether the text is one phrase of two words or more, over and over, cut off or not.

    On short texts the compression ratio does not show it: "What time is it? What time is it?"
    """
    return _period(text) > 0


def said_once(text: str, seconds: float) -> str | None:
    """The phrase that a loop repeats, where nobody can have said all of it in `seconds`."""
    words, period = text.split(), _period(text)
    too_fast = len(words) > FASTEST_SPEECH * seconds
    return " ".join(words[:period]) if period and too_fast else None


def _period(text: str) -> int:
    """How many words the phrase has that makes up the text; 0 when it is no such loop."""
    words = [word.strip(".,!?").lower() for word in text.split()]
    for period in range(2, len(words) // 2 + 1):
        if len(set(words[:period])) > 1 and all(
            word == words[i % period] for i, word in enumerate(words)
        ):
            return period
    return 0


def max_tokens(seconds: float) -> int:
    """The most tokens that a person can say in so many seconds.

    It stops a loop early: on a short utterance a runaway decoder would otherwise write a whole
    window's worth of text before `is_repetitive` could see it.
    """
    return min(LONGEST_TEXT, SPARE_TOKENS + math.ceil(TOKENS_PER_SECOND * max(seconds, 0.0)))


def is_silence(no_speech: float, confidence: float) -> bool:
    """Whether the model itself doubts that anybody spoke.

    `no_speech` is the probability of its no-speech token, `confidence` the mean log probability
    of the text's tokens.
    """
    return no_speech > NO_SPEECH_LIMIT and confidence < CONFIDENCE_LIMIT


def is_hallucination(text: str, no_speech: float, confidence: float) -> bool:
    """Whether `text` is a phrase that Whisper invents over noise, and it was not sure of it.

    People say "thank you" too, so the phrase alone proves nothing.
    """
    words = text.strip().strip(".,!?…♪ ").lower()
    unsure = no_speech > PHANTOM_NO_SPEECH or confidence < PHANTOM_CONFIDENCE
    return not words or (words in HALLUCINATIONS and unsure)
