"""From written text to what a voice is to say, clause by clause.

One way, in this order: Markdown to plain text (`markdown.py`, with `formulas.py`), then one pass in
which the first rule that fits a place is the only one that acts (`scanning.py`): addresses and
signs (`symbols.py`), dates, times and identifiers (`codes.py`), amounts (`quantities.py`), words
(`words.py`); then what the voice's scripts cannot write is left out (`scripts.py`), and what is
left is bounded (`limits.py`).
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from fusion.languages import language_name
from voices.spoken_text import limits, markdown, scripts, symbols
from voices.spoken_text.amounts import amounts_of, base_language
from voices.spoken_text.arithmetic import Arithmetic
from voices.spoken_text.codes import Codes
from voices.spoken_text.lexicon import LEXICONS
from voices.spoken_text.quantities import Quantities
from voices.spoken_text.scanning import Scanner
from voices.spoken_text.symbols import Symbols
from voices.spoken_text.words import Words

LONGEST_WRITTEN = 4000
"""Characters of one clause that are read; the splitter's clauses have 250, code apart."""

_CODE_BLOCK = re.compile(r"(```|~~~).*?(?:\1`*|\Z)", re.DOTALL)


@dataclass(frozen=True)
class Spoken:
    """What is said of a clause: the words, and the scripts of what the voice cannot say."""

    words: str
    left_out: tuple[str, ...] = ()


class SpokenText:
    """Reads clauses of `language` aloud for a voice of `languages`.

    Args:
        language: what the text is written in ("de", "en-GB"); "" takes the voice's first.
        languages: what the voice speaks; empty where that is not known, and all is given to it.
    """

    def __init__(self, language: str = "en", languages: Iterable[str] = ()) -> None:
        known = self._languages = tuple(base_language(one) for one in languages)
        self.language = base_language(language or next(iter(known), "en"))
        self._scanner = _scanner(self.language)
        # A voice of several languages speaks one at a time.
        self._scripts = scripts.scripts_of([self.language] if known else [])
        self.is_spoken = not known or self.language in known

    def in_language(self, language: str) -> SpokenText:
        """The same voice with a text of another language; "" leaves it as it is."""
        code = base_language(language) if language else self.language
        return self if code == self.language else SpokenText(code, self._languages)

    def read(self, text: str) -> Spoken:
        """What to say of a clause; no words where nothing is to be said. Never raises.

        A language that the voice does not speak is left out as a whole: it would be spelled, or
        read by the rules of another one.
        """
        if not self.is_spoken:
            return Spoken("", (language_name(self.language),) if text.strip() else ())
        text = _CODE_BLOCK.sub("\n", text)[:LONGEST_WRITTEN]
        text = markdown.plain(text)
        text = symbols.without_pictures(html.unescape(text))
        text = self._scanner.read(text)
        left_out: tuple[str, ...] = ()
        if self._scripts:
            text, left_out = scripts.sayable(text, self._scripts)
        return Spoken(limits.bounded(symbols.without_leftovers(text)), left_out)


def speakable(text: str, language: str = "en") -> str:
    """What a voice should say of `text`, whatever the voice; "" where nothing is to be said."""
    return SpokenText(language).read(text).words


@lru_cache(maxsize=32)
def _scanner(language: str) -> Scanner:
    lexicon = LEXICONS.get(language)
    counted = amounts_of(language)
    quantities, codes = Quantities(counted, lexicon), Codes(counted, lexicon)
    signs, words = Symbols(counted, lexicon), Words(counted, lexicon)
    arithmetic = Arithmetic(counted, lexicon, lambda text: scanner.read(text)) if lexicon else None
    addresses = signs.addresses()
    scanner = Scanner(
        numbers=[
            *addresses,
            *codes.rules(),
            *quantities.money(),
            *(arithmetic.terms() if arithmetic else ()),
            *quantities.measures(),
            *(arithmetic.parts() if arithmetic else ()),
            *quantities.ranges(),
            *quantities.plain(),
        ],
        words=[
            *addresses,
            *quantities.signed_money(),
            *quantities.rates(),
            *codes.letters(),
            *words.rules(),
            *(arithmetic.variables() if arithmetic else ()),
        ],
        symbols=[
            *codes.symbols(),
            *signs.faces(),
            *quantities.signed_money(),
            *(arithmetic.symbols() if arithmetic else ()),
            *signs.rules(),
        ],
    )
    return scanner
