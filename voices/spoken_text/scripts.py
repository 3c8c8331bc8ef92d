"""Which writing a voice can say, and what of a text it cannot.

A phonemizer spells what it does not know ("Chinese letter, Chinese letter"). Such words are left
out of the sound; the text is shown all the same, and the client is told.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from functools import lru_cache

_LATIN = "Latin"
_CHINESE = "Chinese"
_CYRILLIC = "Cyrillic"
_ARABIC = "Arabic"
_DEVANAGARI = "Devanagari"

# By language; all others write Latin. Voices of these say Latin as well, by English rules.
# fmt: off
_SCRIPTS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(["ru", "uk", "be", "bg", "mk", "sr", "kk", "ky", "mn", "tg"], (_CYRILLIC,)),
    **dict.fromkeys(["ar", "fa", "ur", "ps", "sd", "ug"], (_ARABIC,)),
    **dict.fromkeys(["hi", "mr", "ne", "sa", "kok"], (_DEVANAGARI,)),
    "zh": (_CHINESE,), "ja": (_CHINESE, "Hiragana", "Katakana"), "ko": ("Hangul",),
    "el": ("Greek",), "he": ("Hebrew",), "yi": ("Hebrew",), "hy": ("Armenian",),
    "ka": ("Georgian",), "th": ("Thai",), "lo": ("Lao",), "km": ("Khmer",), "my": ("Myanmar",),
    "bn": ("Bengali",), "as": ("Bengali",), "pa": ("Gurmukhi",), "gu": ("Gujarati",),
    "or": ("Oriya",), "ta": ("Tamil",), "te": ("Telugu",), "kn": ("Kannada",),
    "ml": ("Malayalam",), "si": ("Sinhala",), "bo": ("Tibetan",), "am": ("Ethiopic",),
}
# The first word of a character's Unicode name, where it is not the script's.
_NAMES = {"CJK": _CHINESE, "IDEOGRAPHIC": _CHINESE, "KANGXI": _CHINESE, "BOPOMOFO": "Bopomofo"}
# fmt: on
_KNOWN = frozenset(
    [_LATIN, "Bopomofo", "Greek", "Mongolian", "Cherokee", "Thaana", "Syriac"]
    + [script for scripts in _SCRIPTS.values() for script in scripts]
)


def scripts_of(languages: Iterable[str]) -> frozenset[str]:
    """The scripts that voices of these languages can say; empty where nobody knows."""
    found = {script for language in languages for script in _SCRIPTS.get(language, (_LATIN,))}
    return frozenset(found | {_LATIN}) if found else frozenset()


def sayable(text: str, scripts: frozenset[str]) -> tuple[str, tuple[str, ...]]:
    """`text` without what is written in other scripts, and the names of these, sorted."""
    if text.isascii():
        return text, ()
    left_out: set[str] = set()
    kept: list[str] = []
    for character in text:
        script = script_of(character)
        if script is not None and script not in scripts:
            left_out.add(script)
            kept.append(" ")
        elif not (kept and kept[-1] == " " and unicodedata.category(character).startswith("M")):
            # A mark stays with its letter, and goes with it.
            kept.append(character)
    return "".join(kept), tuple(sorted(left_out))


@lru_cache(maxsize=4096)
def script_of(character: str) -> str | None:
    """The script of a letter; None for what every script has."""
    if not unicodedata.category(character).startswith(("L", "M")):
        return None
    first = unicodedata.name(character, "").split(" ")[0].split("-")[0]
    name = _NAMES.get(first, first.capitalize())
    return name if name in _KNOWN else None
