"""Words that are not said as they are written: abbreviations, initials, Roman numerals, slashes."""

from __future__ import annotations

import re

from num2words import num2words

from voices.spoken_text.abbreviations import NUMBERED, table
from voices.spoken_text.amounts import Amounts
from voices.spoken_text.lexicon import LETTERS, Lexicon
from voices.spoken_text.scanning import Rule, rule

_ROMAN = (
    r"(?=[IVXLCDM]{1,12}(?![^\W_]))M{0,3}(?:CM|CD|D?C{0,3})(?:XC|XL|L?X{0,3})(?:IX|IV|V?I{0,3})"
)
_VALUES = {"I": 1, "V": 5, "X": 10, "L": 50, "C": 100, "D": 500, "M": 1000}
_PLAIN_ROMAN = re.compile(r"[IVX]{2,}")
# What a single letter after it counts.
_COUNTED = re.compile(
    r"\b(?:War|Chapter|Part|Volume|Phase|Act|Type|Stage|Class|Level|Book|Kapitel|Band|Teil|"
    r"Weltkrieg|Chapitre|Capítulo|Capitolo)\s$"
)
_RULERS = re.compile(
    r"\b(?:Henry|Louis|Elizabeth|George|Edward|Charles|William|James|Richard|Philip|Napoleon|"
    r"Nicholas|Alexander|Catherine|Peter|Paul|John|Benedict|Pius|Francis|Leo|Gregory|Innocent|"
    r"Urban|Clement|Ramesses|Ramses|Ptolemy|Otto|Frederick|Leopold|Gustaf|Carl|Christian|Juan|"
    r"Alfonso|Ferdinand|Isabella|Mary|Harald|Olaf|Haakon|Margrethe|Cleopatra|Darius|Xerxes|Ivan|"
    r"Constantine|Theodosius|Mehmed|Selim|Murad|Ludwig|Friedrich|Wilhelm|Heinrich|Karl|Georg|"
    r"Franz|Johannes|Katharina|Elisabeth|Benedikt|Papst|Pope|King|Queen)\s$"
)
_REGNAL_LETTER = re.compile(
    r"\b(?:Elizabeth|Charles|Francis|Henry|George|James|Mary|Karl|Franz)\s$"
)
_DOTTED = r"(?:[^\W\d_]\.){2,400}(?:[^\W\d_](?![^\W_]))?"
_INITIAL = r"(?P<initial>[^\W\d_])\.(?=\s(?:[^\W\d_]\.|[^\W\d_]{2}))"
_SAID_TOGETHER = frozenset(
    ("and/or", "either/or", "und/oder", "et/ou", "y/o", "e/o", "e/ou", "en/of")
)
_ENGLISH_SLASHES = {
    "w/o": "without",
    "b/c": "because",
    "n/a": "not applicable",
    "c/o": "care of",
    "w/": "with",
}
_SUBSCRIPTS = "₀₁₂₃₄₅₆₇₈₉"
_ATOM = rf"[A-Z][a-z]?[{_SUBSCRIPTS}]{{0,3}}"
_FORMULA = rf"(?:{_ATOM}|[()]){{1,12}}(?<=[{_SUBSCRIPTS}])(?:{_ATOM}){{0,6}}"


class Words:
    """The rules of one language, for places where a letter begins."""

    def __init__(self, amounts: Amounts, lexicon: Lexicon | None) -> None:
        self._amounts = amounts
        self._lexicon = lexicon
        self._language = amounts.language
        self._abbreviations = table(self._language)

    def rules(self) -> list[Rule]:
        rules = [
            rule(_FORMULA, self._formula),
            rule(r"(?<!\w)[nN]°\s?(?=\d)", self._number_sign),
        ]
        if self._abbreviations:
            names = sorted(self._abbreviations, key=len, reverse=True)
            either = "|".join(re.escape(name).replace(r"\ ", r"\s?") for name in names)
            rules.append(rule(rf"(?<![^\W_])(?P<short>{either})\.", self._abbreviation, re.I))
        numbered = "|".join(NUMBERED)
        if self._language == "en":
            rules += [
                rule(rf"(?<![^\W_])(?P<short>{numbered})\.\s?(?=\d)", self._numbered, re.I),
                rule(r"(?<![^\W_])(?:w/o|b/c|n/a|c/o|w/)(?![^\W_])", self._shorthand, re.I),
                rule(r"(?<=\d )(?P<half>[ap])\.\s?m\.", lambda m: m["half"].upper() + "M"),
                rule(r"(?<![^\W_])[CF]#(?!\w)", lambda m: f"{m[0][0]} sharp"),
            ]
        return [
            *rules,
            rule(rf"(?<!\w){_DOTTED}", self._dotted),
            rule(rf"(?<!\w){_INITIAL}", self._initial),
            rule(rf"(?<!\w){_ROMAN}(?P<stop>\.(?=[\s,;)]))?", self._roman),
            rule(r"(?<![^\W\d_])[α-ωΑ-Ω](?![α-ωά-ώ])(?![²³^])", self._greek_letter),
            rule(rf"(?<!\w)(?:{self._bare_units})", self._bare_unit),
            rule(r"(?<!\w)[^\W\d_]{1,30}(?:\s?/\s?[^\W\d_]{1,30}){1,6}(?![\w/])", self._slashed),
            rule(r"(?<![^\W_])C\+\+", self._plus_plus),
        ]

    # -- abbreviations -------------------------------------------------------------------------

    def _abbreviation(self, match: re.Match[str]) -> str | None:
        name = re.sub(r"\s", " ", match["short"].lower())
        said = self._abbreviations.get(name) or self._abbreviations.get(name.replace(" ", ""))
        if said is None and " " not in name:
            said = next(
                (v for k, v in self._abbreviations.items() if k.replace(" ", "") == name), None
            )
        if said is None:
            return None
        rest = match.string[match.end() :]
        before = match.string[: match.start()]
        if self._language == "en":
            if (
                name == "st"
                and re.search(r"[^\W\d_]\s$", before)
                and not re.match(r"\s[A-Z]", rest)
            ):
                said = "Street"
            if name in ("sec", "mar", "sun", "dec", "ms", "est", "co") and match["short"].islower():
                return None
        # A word at a sentence's end keeps its full stop.
        return f"{said}." if self._ends_sentence(name, rest) else said

    def _ends_sentence(self, name: str, rest: str) -> bool:
        if not rest.strip("\"'”’»)] "):
            return True
        may_end = name in ("etc", "usw", "ecc", "enz", "itd", "itp", "inc", "ltd", "co", "corp")
        return may_end and re.match(r"['\"”’)]?\s[^\W\d_a-z]", rest) is not None

    def _numbered(self, match: re.Match[str]) -> str:
        said = NUMBERED[match["short"].lower()]
        return f"{said.capitalize() if match['short'][0].isupper() else said} "

    def _shorthand(self, match: re.Match[str]) -> str:
        return _ENGLISH_SLASHES[match[0].lower()]

    def _dotted(self, match: re.Match[str]) -> str:
        """ "U.S.": the letters by themselves. A full stop stays only where a text ends."""
        letters = re.findall(r"[^\W\d_]", match[0])
        said = "".join(letters) if len(letters) <= 5 else " ".join(letters)
        if len(letters) == 2 and letters[0].islower():
            said = " ".join(letters)
        ends = match[0].endswith(".") and not match.string[match.end() :].strip("\"'”’»)] ")
        return f"{said}." if ends else said

    def _initial(self, match: re.Match[str]) -> str | None:
        """ "J. R. R. Tolkien"; "So do I. And" is a sentence's end."""
        before = match.string[: match.start()]
        letter = match["initial"]
        if not letter.isupper() or (letter == "I" and re.search(r"[a-z]\s$", before)):
            return None
        is_name = re.match(r"\s(?:[^\W\d_]\.|[^\W\d_a-z])", match.string[match.end() :])
        return letter if is_name else None

    # -- Roman numerals ------------------------------------------------------------------------

    def _roman(self, match: re.Match[str]) -> str | None:
        """ "World War II", "Louis XIV"; "I", "MIX" and "CD" are none."""
        numeral = match[0].rstrip(".")
        if not numeral:
            return None
        before = match.string[max(0, match.start() - 24) : match.start()]
        is_ruler = _RULERS.search(before) is not None
        if len(numeral) == 1:
            counts = _COUNTED.search(before) and numeral in "IVX"
            rest = match.string[match.end() : match.end() + 8]
            regnal = numeral in "IVX" and _REGNAL_LETTER.search(before)
            regnal = regnal and re.match(r"\s?(?:[.,;:)]|$|of\b|was\b|von\b|de\b)", rest)
            if not (counts or regnal):
                return None
        elif not _PLAIN_ROMAN.fullmatch(numeral):
            after_name = re.search(r"\b[A-Z][a-z]+\s$", before)
            if not (len(numeral) >= 4 and (after_name or len(numeral) >= 5)):
                return None
        value = _value(numeral)
        if self._language == "en" and match.string[match.end() :].startswith(" century"):
            return str(num2words(value, lang="en", to="ordinal"))
        stop = match["stop"] or ""
        if is_ruler and self._language in ("en", "de", "it", "nl"):
            return self._regnal(value) + (stop if self._language == "en" else "")
        return f"{value}{stop}"

    def _regnal(self, value: int) -> str:
        name = str(num2words(value, lang=self._language, to="ordinal"))
        if self._language == "de":
            return f"der {name.capitalize()}"
        return {"en": f"the {name}", "nl": f"de {name}"}.get(self._language, name)

    # -- letters, formulas, slashes ------------------------------------------------------------

    def _greek_letter(self, match: re.Match[str]) -> str | None:
        if self._language in ("el", "zh", "ja", "ko"):
            return None
        before = match.string[match.start() - 1 : match.start()]
        after = match.string[match.end() : match.end() + 1]
        name = LETTERS.get(match[0], match[0])
        return f"{' ' if before.isdigit() else ''}{name}{' ' if after.isalnum() else ''}"

    def _number_sign(self, match: re.Match[str]) -> str | None:
        return f"{self._lexicon.number} " if self._lexicon else None

    def _formula(self, match: re.Match[str]) -> str | None:
        """ "H₂O", "CO₂": letters and digits one by one."""
        if not any(character in _SUBSCRIPTS for character in match[0]):
            return None
        parts = re.findall(rf"[A-Z][a-z]?|[{_SUBSCRIPTS}]+", match[0])
        return " ".join(
            "".join(str(_SUBSCRIPTS.index(c)) if c in _SUBSCRIPTS else c for c in part)
            for part in parts
        )

    @property
    def _bare_units(self) -> str:
        return r"km/h|m/s|Mb/s|[kcm]?m[²³]|ft[²³]|m/s²"

    def _bare_unit(self, match: re.Match[str]) -> str | None:
        rest = match.string[match.end() : match.end() + 1]
        if rest.isalnum():
            return None
        return self._amounts.unit_name(match[0], self._amounts.number("5").value) or None

    def _slashed(self, match: re.Match[str]) -> str | None:
        """ "he/she" is an alternative, "Either/or" and "AC/DC" are said as they stand."""
        words = re.split(r"\s?/\s?", match[0])
        before = match.string[match.start() - 1 : match.start()]
        if before in ("/", "\\", "."):
            return None
        if "/".join(words).lower() in _SAID_TOGETHER or any(word.isupper() for word in words):
            return " ".join(words)
        if self._lexicon is None:
            return " ".join(words)
        if any(
            self._amounts.unit_name(word, self._amounts.number("5").value) for word in words[:1]
        ):
            per = [
                self._amounts.unit_name(w, self._amounts.number("1").value) or w for w in words[1:]
            ]
            first = self._amounts.unit_name(words[0], self._amounts.number("5").value)
            return f" {self._lexicon.per} ".join([first, *per])
        return f" {self._lexicon.alternative} ".join(words)

    def _plus_plus(self, match: re.Match[str]) -> str | None:
        plus = self._lexicon.plus if self._lexicon else ""
        return f"C {plus} {plus}" if plus else None


def _value(numeral: str) -> int:
    values = [_VALUES[letter] for letter in numeral]
    following = [*values[1:], 0]
    return sum(-one if one < after else one for one, after in zip(values, following, strict=True))
