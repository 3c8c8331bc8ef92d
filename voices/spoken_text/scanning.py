"""One pass over a text: at each place the first rule that fits is the only one that acts.

What a rule has said is never read again, so no rule can spoil another's work.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

DASH = r"[-–—−]"
"""What stands between the ends of a range, and before what is taken away."""

Say = Callable[[re.Match[str]], "str | None"]


@dataclass(frozen=True)
class Rule:
    """A form of writing and how it is said; None: this is something else after all.

    Every repetition in `pattern` is bounded, so that reading takes linear time.
    """

    pattern: re.Pattern[str]
    say: Say


def rule(pattern: str, say: Say, flags: int = 0) -> Rule:
    return Rule(re.compile(pattern, flags), say)


# Raised, lowered and broken numbers are no letters, though Python takes them for some.
_WORD = re.compile(r"[^\W\d_²³¹⁰-₉¼-¾⅐-⅞]+")


class Scanner:
    """Reads a text by rules for places where a number, a word and anything else begins."""

    def __init__(
        self, numbers: Sequence[Rule], words: Sequence[Rule], symbols: Sequence[Rule]
    ) -> None:
        self._numbers = numbers
        self._words = words
        self._symbols = symbols

    def read(self, text: str) -> str:
        said = []
        at = 0
        while at < len(text):
            words, at = self._next(text, at)
            said.append(words)
        return "".join(said)

    def _next(self, text: str, at: int) -> tuple[str, int]:
        character = text[at]
        is_fraction = character in ".," and text[at + 1 : at + 2].isdecimal()
        if character.isdecimal() or is_fraction:
            rules = self._numbers
        else:
            rules = self._words if character.isalpha() else self._symbols
        for candidate in rules:
            match = candidate.pattern.match(text, at)
            if match is None or match.end() == at:
                continue
            said = candidate.say(match)
            if said is not None:
                return said, match.end()
        word = _WORD.match(text, at)
        end = word.end() if word else at + 1
        return text[at:end], end
