"""Words as transcripts and speech are compared by. Pure text."""

from __future__ import annotations

import re
import unicodedata


def word_set(words: str) -> frozenset[str]:
    return frozenset(words.split())


def plain_words(text: str) -> list[str]:
    """Lower-case words without accents, apostrophes and punctuation."""
    decomposed = unicodedata.normalize("NFKD", text.lower())
    plain = "".join(c for c in decomposed if not unicodedata.combining(c) and c not in "'’")
    return re.findall(r"[^\W_]+", plain)
