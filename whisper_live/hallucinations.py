"""The phrases that Whisper is known to write where nobody said a word. Pure text.

It learned them from subtitles of films: they stand under music, applause and silence. People say
some of them too, so a phrase alone proves nothing; who asks also knows what else there was.
"""

from __future__ import annotations

from whisper_live.words import plain_words

PHRASES = frozenset(
    (
        *("you", "so", "the", "bye", "bye bye", "thanks", "thank you"),
        *("thank you very much", "thank you so much"),
        *("thank you for watching", "thanks for watching"),
        *("thank you for listening", "thanks for listening"),
        "thanks for watching and see you next time",
        "please subscribe",
        "subtitles by the amara org community",
    )
)
"""In lower case and without punctuation, as `plain_words` leaves them."""


def is_known_hallucination(text: str) -> bool:
    """Whether `text` is one of the phrases and nothing else."""
    return " ".join(plain_words(text)) in PHRASES
