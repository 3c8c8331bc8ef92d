"""What an answer costs the voice."""

from __future__ import annotations

from fusion.capacity import ANSWER_SECONDS, TurnCost, cost_of
from voices.base import Voice

_SENTENCE = "It was opened in the spring of 1883, and many people use it every day."


def turn_cost(voice: Voice) -> TurnCost:
    """Speak a sentence to nobody, and reckon with an answer of the usual length.

    Raises ModelError when the voice fails.
    """
    samples = 0

    def speak() -> None:
        nonlocal samples
        language = next(iter(voice.languages), "en")
        samples = sum(len(sound) for sound in voice.synthesize(_SENTENCE, language=language))

    cost = cost_of(speak, voice.max_concurrent)
    seconds = samples / voice.sample_rate
    return cost.times(ANSWER_SECONDS / max(seconds, 1.0))
