"""What WhisperSpeech can say in one go, and where a longer text is cut. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator

CHARACTERS_PER_SECOND = 15
"""The speed that the library is asked for; its own default."""

LONGEST_TEXT = 400
"""Characters. The library stops after 30 s, which are 450 characters at the speed above."""
LONGEST_TEXT_BYTES = 540
"""Bytes of UTF-8. The library drops what goes beyond 549 without a word."""

_PLACES_TO_CUT = tuple(
    re.compile(pattern)
    for pattern in (r"[.!?…]+[\"'”’»)\]]*\s|[。！？]", r"[:;,]\s|[、，；]", r"\s")
)


def split_text(text: str) -> Iterator[str]:
    """Cut a text into pieces that the library can say whole, best after a sentence."""
    while text := text.strip():
        end = _fitting(text)
        if end < len(text):
            kinds = ([m.end() for m in p.finditer(text, 0, end)] for p in _PLACES_TO_CUT)
            end = next(filter(None, kinds), [end])[-1]
        yield text[:end].strip()
        text = text[end:]


def _fitting(text: str) -> int:
    """How many leading characters of `text` keep to the limits."""
    start = text[:LONGEST_TEXT].encode("utf-8", "replace")[:LONGEST_TEXT_BYTES]
    return len(start.decode("utf-8", "ignore"))
