"""The grammar of arithmetic: differences, powers, products, fractions."""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal

from num2words import num2words

from voices.spoken_text.amounts import Amounts
from voices.spoken_text.lexicon import LETTERS, Lexicon
from voices.spoken_text.scanning import DASH, Rule, rule

_OPERATORS = "+−*×÷·=^√"
_TAKEN_FROM = re.compile(r"[^\W_)]\s[-–−]\s$")
_VULGAR = {
    "½": (1, 2),
    "⅓": (1, 3),
    "⅔": (2, 3),
    "¼": (1, 4),
    "¾": (3, 4),
    "⅕": (1, 5),
    "⅖": (2, 5),
    "⅗": (3, 5),
    "⅘": (4, 5),
    "⅙": (1, 6),
    "⅚": (5, 6),
    "⅛": (1, 8),
    "⅜": (3, 8),
    "⅝": (5, 8),
    "⅞": (7, 8),
}
_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ", "0123456789+-n")
_RAISED = "⁰¹²³⁴-⁹⁺⁻ⁿ"

_ENGLISH_FRACTIONS = {2: ("half", "halves"), 4: ("quarter", "quarters")}
# fmt: off
_PARTS = {
    "de": {(1, 3): "ein Drittel", (2, 3): "zwei Drittel", (1, 4): "ein Viertel",
           (3, 4): "drei Viertel"},
    "es": {(1, 3): "un tercio", (2, 3): "dos tercios", (1, 4): "un cuarto", (3, 4): "tres cuartos"},
    "fr": {(1, 3): "un tiers", (2, 3): "deux tiers", (1, 4): "un quart", (3, 4): "trois quarts"},
    "it": {(1, 3): "un terzo", (2, 3): "due terzi", (1, 4): "un quarto", (3, 4): "tre quarti"},
    "pt": {(1, 3): "um terço", (2, 3): "dois terços", (1, 4): "um quarto", (3, 4): "três quartos"},
    "nl": {(1, 3): "een derde", (2, 3): "twee derde", (1, 4): "een kwart", (3, 4): "drie kwart"},
    "pl": {(1, 3): "jedna trzecia", (2, 3): "dwie trzecie", (1, 4): "jedna czwarta",
           (3, 4): "trzy czwarte"},
    "ru": {(1, 3): "одна третья", (2, 3): "две третьих", (1, 4): "одна четвёртая",
           (3, 4): "три четвёртых"},
    "sv": {(1, 3): "en tredjedel", (2, 3): "två tredjedelar", (1, 4): "en fjärdedel",
           (3, 4): "tre fjärdedelar"},
}
# fmt: on
# Scores and ratings, which are no parts of something.
_OUT_OF = frozenset((10, 100))


class Arithmetic:
    """The rules of one language. `read` reads an exponent like any other text."""

    def __init__(self, amounts: Amounts, lexicon: Lexicon, read: Callable[[str], str]) -> None:
        self._amounts = amounts
        self._words = lexicon
        self._read = read
        self._is_english = amounts.language == "en"
        number, variable = amounts.pattern, r"[A-Za-z](?![^\W_])"
        self._operand = re.compile(rf"{number}|{variable}|[(√]")
        self._equation = re.compile(
            rf"(?:\s?[-+−–*×÷/·^]\s?(?:{number}|{variable})){{0,6}}\s?[=≈≠≤≥]"
        )
        exponent = rf"\{{(?P<group>[^{{}}]{{1,60}})\}}|(?P<exponent>[-−+]?\d{{1,9}}|{variable})"
        self._exponent = rf"(?:\s?\^\s?(?:{exponent})|(?P<raised>[{_RAISED}]{{1,12}}))"
        # "open 24/7 in summer" has no inches.
        self._unit = rf"(?:[ \u00a0](?P<unit>(?!in\s[^\W_]){amounts.unit_pattern}))?"

    # -- rules ---------------------------------------------------------------------------------

    def terms(self) -> list[Rule]:
        """For places where a number begins: what is a part of a term."""
        number = self._amounts.pattern
        sign = rf"(?:(?P<sign>{DASH})|\s(?P<spaced>{DASH})\s)(?=[\w(.,√])"
        power_of_ten = r"[eE](?P<exponent>[-+−]?\d{1,4})(?![\w.]*\w)"
        return [
            rule(rf"(?P<a>{number}){power_of_ten}{self._unit}", self._scientific),
            rule(rf"(?P<base>{number}){self._exponent}{self._unit}", self._power),
            rule(rf"(?P<a>{number}){sign}", self._difference),
        ]

    def parts(self) -> list[Rule]:
        """For places where a number begins: fractions, ratings and multiples."""
        number = self._amounts.pattern
        vulgar = rf"(?P<vulgar>[{''.join(_VULGAR)}])"
        fraction = r"(?P<a>[1-9]\d?)[/⁄](?P<b>[1-9]\d?)(?![\d/])"
        return [
            rule(rf"(?P<whole>\d{{1,6}})\s?{vulgar}", self._mixed_vulgar),
            rule(rf"(?P<whole>\d{{1,4}})[ \u00a0]{fraction}{self._unit}", self._mixed),
            rule(rf"(?P<a>\d{{1,4}})[/⁄](?P<b>\d{{1,4}})(?![\d/]){self._unit}", self._fraction),
            rule(rf"(?P<a>{number})/(?P<b>\d{{1,3}})(?![\d/])", self._rating),
            rule(rf"(?P<a>{number})\s?[xX]\s?(?={number})", self._product),
            rule(rf"(?P<a>{number})x(?![^\W_])(?!\s?[=+−*/^])", self._multiple),
        ]

    def symbols(self) -> list[Rule]:
        """For places where a sign begins."""
        money = self._amounts.currency_pattern
        return [
            rule(rf"[-−–](?={money}?[ \u00a0]?{self._amounts.pattern})", self._negative),
            rule(rf"[{''.join(_VULGAR)}]", lambda m: self._part(*_VULGAR[m[0]])),
        ]

    def variables(self) -> list[Rule]:
        """For places where a letter begins."""
        operand = r"(?=\d|\(|[A-Za-z](?![^\W_]))"
        return [
            rule(rf"(?<![A-Za-z0-9])(?P<base>[A-Za-zα-ωΑ-Ω]{{1,3}}){self._exponent}", self._power),
            rule(
                rf"(?<![^\W_])(?P<a>[A-Za-z])\s{DASH}\s{operand}",
                lambda m: f"{m['a']} {self._words.minus} ",
            ),
        ]

    # -- arithmetic ----------------------------------------------------------------------------

    def _difference(self, match: re.Match[str]) -> str | None:
        """A number from which something is taken, with the minus; a range is none."""
        text, sign = match.string, match["sign"] or match["spaced"]
        operand = self._operand.match(text, match.end())
        if operand is None:
            return None
        before = text[max(0, match.start() - 4) : match.start()]
        is_term = (
            before.rstrip()[-1:] in _OPERATORS if before.strip() else False
        ) or _TAKEN_FROM.search(before)
        is_equation = self._equation.match(text, operand.end())
        is_spaced = text[match.end() - 1].isspace()
        is_variable = operand[0].isalpha() and is_spaced and operand[0] not in "aAI"
        falls = False
        if operand[0][0].isdigit() and is_spaced and sign != "—":
            falls = self._amounts.number(match["a"]).value > self._amounts.number(operand[0]).value
        if not (is_term or is_equation or is_variable or falls or sign == "−"):
            return None
        return f"{self._amounts.number(match['a']).spoken} {self._words.minus} "

    def _negative(self, match: re.Match[str]) -> str | None:
        before = match.string[max(0, match.start() - 1) : match.start()]
        if before and (before.isalnum() or before in ")]"):
            return f" {self._words.minus} " if match[0] == "−" else None
        return f"{self._words.minus} "

    def _scientific(self, match: re.Match[str]) -> str:
        exponent = self._signed(match["exponent"])
        ten = self._words.power.format(base="10", exponent=exponent)
        return f"{self._amounts.number(match['a']).spoken} {self._words.times} {ten}" + (
            self._unit_of_part(match["unit"], Decimal(5))
        )

    def _power(self, match: re.Match[str]) -> str | None:
        raised = match["raised"]
        if raised is None:
            exponent = (match["group"] or match["exponent"]).strip()
        else:
            exponent = raised.translate(_SUPERSCRIPTS)
        base = match["base"]
        if base[0].isalpha():
            # Letters that stand together are factors, but for the names of functions.
            parts = [LETTERS.get(letter, letter) for letter in base]
            base = " ".join(parts) if len(base) < 3 else "".join(parts)
        else:
            base = self._amounts.number(base).spoken
        unit = match.groupdict().get("unit")
        return self.raised(base, exponent) + self._unit_of_part(unit, Decimal(5))

    def raised(self, base: str, exponent: str) -> str:
        """`base` to the power of `exponent`, which is written."""
        if exponent == "2":
            return self._words.squared.format(base=base).strip()
        if exponent == "3":
            return self._words.cubed.format(base=base).strip()
        signed = re.fullmatch(r"[-−+]?\d{1,9}", exponent)
        spoken = self._signed(exponent) if signed else self._read(exponent).strip()
        return self._words.power.format(base=base, exponent=spoken).strip()

    def _signed(self, written: str) -> str:
        number = self._amounts.number(written.lstrip("-−+")).spoken
        return f"{self._words.minus} {number}" if written[0] in "-−" else number

    def _multiple(self, match: re.Match[str]) -> str | None:
        """ "2x faster", but "y = 2x"."""
        before = match.string[max(0, match.start() - 2) : match.start()].strip()
        return None if before[-1:] in tuple("-+−=*/^(") else self._product(match).rstrip()

    def _product(self, match: re.Match[str]) -> str:
        return f"{self._amounts.number(match['a']).spoken} {self._words.times} "

    # -- fractions -----------------------------------------------------------------------------

    def _fraction(self, match: re.Match[str]) -> str | None:
        above, below = int(match["a"]), int(match["b"])
        known = {(24, 7), (9, 11), (7, 11), (7, 7), (50, 50), (20, 20)}
        if (above, below) in known:
            unit = self._unit_of_part(match["unit"], Decimal(below))
            return f"{match['a']} {match['b']}{unit}"
        if self._is_english and re.match(r"\s(?:stars?|points?)\b", match.string[match.end() :]):
            return f"{above} out of {below}"
        return self._part(above, below) + self._part_of(match["unit"])

    def _rating(self, match: re.Match[str]) -> str:
        above, below = self._amounts.number(match["a"]).spoken, match["b"]
        if self._is_english:
            return f"{above} out of {below}"
        return self._words.over.format(above=above, below=below)

    def _part_of(self, unit: str | None) -> str:
        """ "3/4 km" is three quarters of a kilometer."""
        if unit is None:
            return ""
        name = self._amounts.unit_name(unit, Decimal(1))
        if not self._is_english:
            return f" {name}"
        return f" of {'an' if name[0] in 'aeio' or name == 'hour' else 'a'} {name}"

    def _unit_of_part(self, unit: str | None, value: Decimal) -> str:
        return f" {self._amounts.unit_name(unit, value)}" if unit else ""

    def _mixed(self, match: re.Match[str]) -> str | None:
        above, below = int(match["a"]), int(match["b"])
        if above >= below:
            return None
        said = f"{match['whole']} {self._words.conjunction} {self._part(above, below)}"
        return said + self._unit_of_part(match["unit"], Decimal("1.5"))

    def _mixed_vulgar(self, match: re.Match[str]) -> str:
        part = self._part(*_VULGAR[match["vulgar"]])
        return f"{match['whole']} {self._words.conjunction} {part}"

    def _part(self, above: int, below: int) -> str:
        if (above, below) == (1, 2):
            return self._words.half
        if self._is_english and 0 < above < below <= 100:
            if below in _OUT_OF:
                return f"{above} out of {below}"
            one, many = _ENGLISH_FRACTIONS.get(below) or _ordinal_part(below)
            return f"one {one}" if above == 1 else f"{above} {many}"
        if self._is_english and above == below and below in _OUT_OF:
            return f"{above} out of {below}"
        known = _PARTS.get(self._amounts.language, {}).get((above, below))
        if known is not None:
            return known
        return self._words.over.format(above=above, below=below)


def _ordinal_part(below: int) -> tuple[str, str]:
    name = str(num2words(below, lang="en", to="ordinal"))
    return name, f"{name}s"
