"""What no voice is given, because a phonemizer breaks over it or drops the rest in silence.

espeak-ng 1.52 writes past the end of a buffer at about a hundred letters with full stops between
them ("A.B.C.…"), and says only the first 190 or so sounds of any one word.
"""

from __future__ import annotations

import re

LONGEST_WORD = 60
"""Characters; a longer word is cut. The longest German ones in use have about 45."""
LONGEST_TEXT = 1200
"""Characters in all: about four times a clause, as "%" becomes "percent"."""

# Writing without spaces between its words (Thai, Khmer, kana, Chinese) is no long word.
_WITHOUT_SPACES = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3000-\u30ff\u3400-\u9fff\uff00-\uffef"
_LETTER = rf"[^\s{_WITHOUT_SPACES}]"
_LONG_WORD = re.compile(rf"{_LETTER}{{{LONGEST_WORD}}}(?={_LETTER})")
_DOTTED_RUN = re.compile(r"(?:[^\W_]{1,3}\.){4,}")


def bounded(text: str) -> str:
    """`text` with shorter words, no long runs of dotted letters, and not endless."""
    text = _DOTTED_RUN.sub(lambda match: match[0].replace(".", " "), text)
    text = _LONG_WORD.sub(r"\g<0> ", text)
    if len(text) <= LONGEST_TEXT:
        return text.strip()
    return text[:LONGEST_TEXT].rpartition(" ")[0].strip()
