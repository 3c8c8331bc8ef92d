"""Words that the decoder repeats though nobody said them again. Pure text.

A decoder that does not see the end of the speech writes its last words again: "Stop. Stop.",
"99.5% 99.5% 99.5%", "Mix 1 1 1 1 1". People repeat themselves too ("no no no no"), but no faster
than they can speak: what tells the two apart is how long the speech was.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

FASTEST_SPEECH = 20.0
"""Spelled letters in a second of speech that nobody exceeds: the fastest of 43 recordings of people
has 19.6, most have 12 to 16."""

_SYLLABIC = "\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"
"""Japanese kana, Chinese characters, Korean syllables: written without spaces between words."""

_WORD = re.compile(rf"[{_SYLLABIC}]|[^\s{_SYLLABIC}]+")

_SPOKEN_LENGTH = {"%": 7, "$": 7, "€": 5, "£": 6, "&": 3, "°": 7}
"""Letters of the words that are said for a sign."""

_DIGIT, _SYLLABLE = 4, 2
"""Letters of a digit's name (with that of its ten or hundred, it is longer), and of a syllable."""


@dataclass(frozen=True)
class Repetition:
    """The text ends with the same words `times` times or more.

    `once` is the text without the repeats, `words` how many words are repeated.
    """

    once: str
    words: int
    times: int


def find_repetition(text: str) -> Repetition | None:
    """Find the longest end of the text that is made of one phrase, said at least twice.

    The last repeat may be cut off, also inside a word.
    """
    found = [match for match in _WORD.finditer(text) if _plain(match[0])]
    words = [_plain(match[0]) for match in found]
    run = _longest_run(words)
    if run is None:
        return None
    start, period = run
    end = found[start + period].start()
    return Repetition(text[:end].rstrip(), period, (len(words) - start) // period)


def spoken_length(text: str) -> float:
    """How many letters the text has when it is spelled as it is said: "99%" as 8 + 7."""
    return sum(_letters(character) for character in text)


def is_too_fast(text: str, seconds: float) -> bool:
    """Whether nobody can say the text in so many seconds of speech."""
    return spoken_length(text) > FASTEST_SPEECH * seconds


def _plain(word: str) -> str:
    return "".join(c for c in word.lower() if c.isalnum())


def _letters(character: str) -> int:
    if character.isdigit():
        return _DIGIT
    if re.match(f"[{_SYLLABIC}]", character):
        return _SYLLABLE
    return 1 if character.isalpha() else _SPOKEN_LENGTH.get(character, 0)


def _longest_run(words: list[str]) -> tuple[int, int] | None:
    """Where the run at the end begins and how many words it repeats, as few as describe it."""
    best: tuple[int, int] | None = None
    for period in range(1, len(words) // 2 + 1):
        start = len(words) - period
        while start > 0 and _follows(words, start - 1, period):
            start -= 1
        if len(words) - start >= 2 * period and (best is None or start < best[0]):
            best = start, period
    return best


def _follows(words: list[str], first: int, period: int) -> bool:
    """Whether a word comes back one period later; of the very last one its beginning is enough."""
    word, again = words[first], words[first + period]
    return word == again or (first + period == len(words) - 1 and word.startswith(again))
