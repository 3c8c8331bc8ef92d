"""What every Whisper needs around it: signs that it wrote words nobody said.

The two thresholds of `is_repetitive` and `is_silence` are those of OpenAI's Whisper
(transcribe.py: compression_ratio_threshold, no_speech_threshold, logprob_threshold). The others
are this project's own.
"""

from __future__ import annotations

import math
import zlib
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from whisper_live.hallucinations import is_known_hallucination
from whisper_live.transcribers.base import NOTHING_HEARD, Transcript
from whisper_live.transcribers.repetition import find_repetition, is_too_fast
from whisper_live.vad import detect_speech
from whisper_live.words import plain_words

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

HALLUCINATION_NO_SPEECH = 0.2
HALLUCINATION_CONFIDENCE = -0.7
"""Beyond either the model itself is unsure of a phrase that it is known to make up."""


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


def may_be_loop(text: str) -> bool:
    """Whether the text repeats itself so that decoding it in another way is worth the time."""
    repetition = find_repetition(text)
    again = repetition is not None and (repetition.words > 1 or repetition.times > 2)
    return again or is_repetitive(text)


def without_loop(text: str, audio: NDArray[np.float32]) -> str:
    """The text, or the text without its repeats where nobody can have said all of it.

    How long somebody spoke in the audio is asked of the voice activity detector, and only for a
    text that ends in a repetition.
    """
    repetition = find_repetition(text)
    if repetition and is_too_fast(text, detect_speech(audio).seconds):
        return repetition.once
    return text


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


def believed(transcript: Transcript, audio: NDArray[np.float32]) -> Transcript:
    """The transcript without what nobody said, or NOTHING_HEARD where nothing else is in it."""
    no_speech, confidence = transcript.no_speech, transcript.confidence
    text = without_loop(transcript.text, audio)
    if (
        not plain_words(text)
        or is_silence(no_speech, confidence)
        or is_repetitive(text)
        or _is_made_up(text, no_speech, confidence, audio, looped=text != transcript.text)
    ):
        return NOTHING_HEARD
    return replace(transcript, text=text)


def _is_made_up(
    text: str, no_speech: float, confidence: float, audio: NDArray[np.float32], *, looped: bool
) -> bool:
    """Whether the model is unsure of a text and the voice activity detector saw no such thing.

    A short "Thank you." that was really said looks to the model like the one that it writes over
    noise. What the detector clearly hears, somebody said; and where it hears nobody at all, other
    words than those are made up too.
    """
    unsure = looped or no_speech > HALLUCINATION_NO_SPEECH or confidence < HALLUCINATION_CONFIDENCE
    if unsure and is_known_hallucination(text):
        return not detect_speech(audio).is_clear
    return (looped or no_speech > NO_SPEECH_LIMIT) and detect_speech(audio).seconds == 0.0
