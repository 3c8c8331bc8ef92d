"""The grammar of numbers that count: money, measures, ranges, powers, fractions, differences."""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal

from num2words import num2words

from voices.spoken_text.amounts import Amounts, Number
from voices.spoken_text.lexicon import Lexicon
from voices.spoken_text.scanning import Rule, rule

_DASH = r"[-–—−]"
_OPERATORS = "+−*×÷·=^√"
_TAKEN_FROM = re.compile(r"[^\W_)]\s[-–−]\s$")
_VULGAR = {
    "½": (1, 2), "⅓": (1, 3), "⅔": (2, 3), "¼": (1, 4), "¾": (3, 4), "⅕": (1, 5),
    "⅖": (2, 5), "⅗": (3, 5), "⅘": (4, 5), "⅙": (1, 6), "⅚": (5, 6), "⅛": (1, 8),
    "⅜": (3, 8), "⅝": (5, 8), "⅞": (7, 8),
}
_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ", "0123456789+-n")
_RAISED = "⁰¹²³⁴-⁹⁺⁻ⁿ"

# A unit that is also a word, or the tail of a decade ("1990s"), is one only in these forms.
_TOUCHING_ONLY = frozenset(("in",))
_APART_ONLY = frozenset(("s",))
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


class Quantities:
    """The rules of one language. `read` reads an exponent like any other text."""

    def __init__(
        self, amounts: Amounts, lexicon: Lexicon | None, read: Callable[[str], str]
    ) -> None:
        self._amounts = amounts
        self._words = lexicon
        self._read = read
        self._is_english = amounts.language == "en"
        self._number = amounts.pattern
        self._operand = re.compile(rf"{self._number}|[A-Za-z](?![^\W_])|[(√]")
        self._equation = re.compile(
            rf"(?:\s?[-+−–*×÷/·^]\s?(?:{self._number}|[A-Za-z](?![^\W_]))){{0,6}}\s?[=≈≠≤≥]"
        )

    # -- rules ---------------------------------------------------------------------------------

    def rules(self) -> list[Rule]:
        """For places where a number begins, the most special ones first."""
        number, unit = self._number, self._amounts.unit_pattern
        money, scale = self._amounts.currency_pattern, self._amounts.scale_pattern
        per = rf"(?:\s?/\s?(?P<per>{unit}|[^\W\d_]{{2,20}}))?"
        rules = [
            rule(
                rf"(?P<a>{number})(?P<as>{scale})?(?:\s?{_DASH}\s?(?P<b>{number})(?P<bs>{scale})?)?"
                rf"[ \u00a0]?(?P<currency>{money})(?![^\W_]){per}",
                self._money,
            ),
            rule(
                rf"(?P<a>{number})(?:(?P<sign>{_DASH})|\s(?P<spaced>{_DASH})\s)(?=[\w(.,√])",
                self._difference,
            ),
            rule(rf"(?P<a>{number}){_DASH}(?P<unit>{unit})", self._attribute),
            rule(
                rf"(?P<a>{number})\s?(?P<au>{unit})?\s?{_DASH}\s?(?P<b>{number})"
                rf"(?P<gap>[ \u00a0]?)(?P<unit>{unit}){per}",
                self._range_of_units,
            ),
            rule(r"(?P<feet>\d{1,2})['′’](?P<inches>\d{1,2})(?:\"|″|”)", self._height),
            rule(rf"(?P<a>{number})(?P<gap>[ \u00a0]?)(?P<unit>{unit}){per}", self._measure),
            rule(
                rf"(?P<a>{number})(?P<as>{scale})\s?{_DASH}\s?(?P<b>{number})(?P<bs>{scale})",
                self._scaled_range,
            ),
            rule(rf"(?P<a>{number})(?P<as>{scale})", self._scaled),
        ]
        if self._words is None:
            return [*rules, rule(number, self._plain)]
        exponent = r"\{(?P<group>[^{}]{1,60})\}|(?P<exponent>[-−+]?\d{1,9}|[A-Za-z](?![^\W_]))"
        return [
            rules[0],
            rule(
                rf"(?P<a>{number})[eE](?P<exponent>[-+−]?\d{{1,4}})(?![\w.]*\w)"
                rf"(?:[ \u00a0](?P<unit>{unit}))?",
                self._scientific,
            ),
            rule(
                rf"(?P<base>{number})(?:\s?\^\s?(?:{exponent})|(?P<raised>[{_RAISED}]{{1,12}}))",
                self._power,
            ),
            *rules[1:],
            rule(rf"(?P<whole>\d{{1,6}})\s?(?P<vulgar>[{''.join(_VULGAR)}])", self._mixed_vulgar),
            rule(
                r"(?P<whole>\d{1,4})[ \u00a0](?P<a>[1-9]\d?)[/⁄](?P<b>[1-9]\d?)(?![\d/])"
                rf"(?:[ \u00a0](?P<unit>{unit}))?",
                self._mixed,
            ),
            rule(
                rf"(?P<a>\d{{1,4}})[/⁄](?P<b>\d{{1,4}})(?![\d/])(?:[ \u00a0](?P<unit>{unit}))?",
                self._fraction,
            ),
            rule(rf"(?P<a>{number})\s?(?P<dash>{_DASH})\s?(?P<b>{number})", self._range),
            rule(
                rf"(?P<a>{number})(?P<gap>[ \u00a0])(?P<noun>[^\W\d_]{{2,24}})/(?P<per>[^\W\d_]{{2,20}})",
                self._counted_per,
            ),
            rule(rf"(?P<a>{number})\s?[xX]\s?(?={number})", self._product),
            rule(rf"(?P<a>{number})[xX](?![^\W_])(?!\s?[=+−*/^])", self._product),
            rule(number, self._plain),
        ]

    def symbols(self) -> list[Rule]:
        """For places where a sign begins."""
        number, scale = self._number, self._amounts.scale_pattern
        money = self._amounts.currency_pattern
        unit = self._amounts.unit_pattern
        rules = [
            rule(
                rf"(?P<currency>{money})[ \u00a0]?(?P<sign>[-−])?(?P<a>{number})(?P<as>{scale})?"
                rf"(?:\s?{_DASH}\s?(?:{money})?(?P<b>{number})(?P<bs>{scale})?)?"
                rf"(?:\s?/\s?(?P<per>{unit}|[^\W\d_]{{2,20}}))?",
                self._money,
            )
        ]
        if self._words is not None:
            rules += [
                rule(rf"[-−–](?={money}?[ \u00a0]?{number})", self._negative),
                rule(rf"[{''.join(_VULGAR)}]", lambda m: self._part(*_VULGAR[m[0]])),
            ]
        return rules

    def letters(self) -> list[Rule]:
        """For places where a letter begins: powers of variables, currency codes, differences."""
        rules = self.symbols()[:1]
        if self._words is None:
            return rules
        exponent = r"\{(?P<group>[^{}]{1,60})\}|(?P<exponent>[-−+]?\d{1,9}|[A-Za-z](?![^\W_]))"
        return [
            *rules,
            rule(
                r"(?<![^\W_])(?P<base>[A-Za-zα-ωΑ-Ω]{1,3})"
                rf"(?:\s?\^\s?(?:{exponent})|(?P<raised>[{_RAISED}]{{1,12}}))",
                self._power,
            ),
            rule(
                rf"(?<![^\W_])(?P<a>[A-Za-z])\s{_DASH}\s(?=\d|\(|[A-Za-z](?![^\W_]))",
                lambda m: f"{m['a']} {self._lexicon.minus} ",
            ),
        ]

    @property
    def _lexicon(self) -> Lexicon:
        if self._words is None:
            raise LookupError(f"no words for {self._amounts.language}")
        return self._words

    # -- money ---------------------------------------------------------------------------------

    def _money(self, match: re.Match[str]) -> str | None:
        minor = self._words.minor if self._words else ""
        is_code = match["currency"].isalpha()
        before = match.string[match.start() - 1 : match.start()]
        if is_code and before.isalnum():
            return None
        first, first_scale = self._amount(match["a"], match["as"] or match["bs"])
        currency, is_scaled = match["currency"], first_scale
        if match["b"] is None:
            said = self._amounts.money(first, currency, minor=minor, is_scaled=is_scaled)
            sign = (
                f"{self._lexicon.minus} " if self._words and match.groupdict().get("sign") else ""
            )
            return sign + said + self._per(match["per"])
        last, is_scaled = self._amount(match["b"], match["bs"])
        joined = self._joined_range(first, last, match["as"], match["bs"])
        said = self._amounts.money(
            Number(last.spoken, last.value), currency, minor=minor, is_scaled=is_scaled
        )
        return joined + said + self._per(match["per"])

    def _amount(self, written: str, scale: str | None) -> tuple[Number, bool]:
        number = self._amounts.number(written)
        if scale is None:
            return number, False
        return self._amounts.scaled(number, scale), True

    def _joined_range(
        self, first: Number, last: Number, first_scale: str | None, last_scale: str | None
    ) -> str:
        """The first end of a range and the word after it; a scale of both is said once."""
        spoken = first.spoken
        if first_scale is None and last_scale is not None:
            spoken = spoken.split(" ")[0]
        return f"{spoken} {self._to} "

    @property
    def _to(self) -> str:
        return self._words.to if self._words else "-"

    def _per(self, written: str | None) -> str:
        if written is None:
            return ""
        name = self._amounts.unit_name(written, Decimal(1)) or written
        return f" {self._words.per if self._words else '/'} {name}"

    # -- measures ------------------------------------------------------------------------------

    def _fits(self, unit: str, gap: str, written: str, following: str) -> bool:
        if unit in _TOUCHING_ONLY:
            return not gap or not re.match(r"\s?[^\W_]", following)
        return not (unit in _APART_ONLY and not gap and len(written) > 3)

    def _measure(self, match: re.Match[str]) -> str | None:
        if not self._fits(match["unit"], match["gap"], match["a"], match.string[match.end() :][:2]):
            return None
        number = self._amounts.number(match["a"])
        return self._amounts.with_unit(number, match["unit"]) + self._per(match["per"])

    def _attribute(self, match: re.Match[str]) -> str | None:
        """A "5-km run": the unit is one, whatever the number."""
        if not self._is_english or match["unit"] in ("in", "s", "h", "t", "m", "V", "N", "W", "J"):
            return None
        name = self._amounts.unit_name(match["unit"], Decimal(1))
        return f"{self._amounts.number(match['a']).spoken} {name}"

    def _range_of_units(self, match: re.Match[str]) -> str | None:
        if not self._fits(match["unit"], match["gap"], match["b"], match.string[match.end() :][:2]):
            return None
        first, last = self._amounts.number(match["a"]), self._amounts.number(match["b"])
        said = self._amounts.with_unit(last, match["unit"]) + self._per(match["per"])
        start = first.spoken
        if match["au"] and match["au"] != match["unit"]:
            start = self._amounts.with_unit(first, match["au"])
        return f"{start} {self._to} {said}"

    def _height(self, match: re.Match[str]) -> str:
        feet, inches = Number(match["feet"], Decimal(match["feet"])), match["inches"]
        said = self._amounts.with_unit(Number(inches, Decimal(inches)), "in")
        return f"{self._amounts.with_unit(feet, 'ft')} {said or inches}"

    def _counted_per(self, match: re.Match[str]) -> str | None:
        """As in "60 miles/hour"; "5 cats/dogs" is an alternative."""
        per, noun = match["per"].lower(), match["noun"]
        is_rate = per in self._amounts.times_of_day
        if self._is_english and not is_rate:
            is_rate = noun.endswith("s") and not per.endswith("s")
        if not is_rate:
            return None
        spoken = self._amounts.number(match["a"]).spoken
        return f"{spoken} {noun} {self._lexicon.per} {match['per']}"

    # -- large numbers and ranges --------------------------------------------------------------

    def _scaled(self, match: re.Match[str]) -> str | None:
        if match["as"].strip() in ("m", "b", "B", "T", "mm") and not self._is_english:
            return None
        # "4K" is how sharp a picture is.
        if match[0] in ("4K", "8K", "2K"):
            return f"{match[0][0]} K"
        return self._amounts.scaled(self._amounts.number(match["a"]), match["as"]).spoken

    def _scaled_range(self, match: re.Match[str]) -> str:
        first, _ = self._amount(match["a"], match["as"])
        last, _ = self._amount(match["b"], match["bs"])
        return f"{first.spoken} {self._to} {last.spoken}"

    def _range(self, match: re.Match[str]) -> str | None:
        """Two numbers with a dash between them: a range, unless it is a number of another kind."""
        written, dash = match["a"], match["dash"]
        following = match.string[match.end() : match.end() + 2]
        if following[:1] in ("-", "–", ":") and following[1:].isdigit():
            return None
        first, last = self._amounts.number(written), self._amounts.number(match["b"])
        is_spaced = len(match[0]) > len(written) + len(match["b"]) + 1
        falls = first.value > last.value
        is_score = falls and max(first.value, last.value) < 100 and not is_spaced
        is_short_year = len(written) == 4 and len(match["b"]) == 2
        if dash == "−" or (falls and not (is_score or is_short_year)):
            return None
        return f"{first.spoken} {self._to} {last.spoken}"

    # -- arithmetic ----------------------------------------------------------------------------

    def _difference(self, match: re.Match[str]) -> str | None:
        """A number from which something is taken, with the minus; a range is none."""
        if self._words is None:
            return None
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
        return f"{self._amounts.number(match['a']).spoken} {self._lexicon.minus} "

    def _negative(self, match: re.Match[str]) -> str | None:
        before = match.string[max(0, match.start() - 1) : match.start()]
        if before and (before.isalnum() or before in ")]"):
            return f" {self._lexicon.minus} " if match[0] == "−" else None
        return f"{self._lexicon.minus} "

    def _scientific(self, match: re.Match[str]) -> str:
        exponent = self._signed(match["exponent"])
        ten = self._lexicon.power.format(base="10", exponent=exponent)
        return f"{self._amounts.number(match['a']).spoken} {self._lexicon.times} {ten}" + (
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
            base = " ".join(base) if len(base) < 3 else base
        else:
            base = self._amounts.number(base).spoken
        return self.raised(base, exponent)

    def raised(self, base: str, exponent: str) -> str:
        """`base` to the power of `exponent`, which is written."""
        if exponent == "2":
            return self._lexicon.squared.format(base=base).strip()
        if exponent == "3":
            return self._lexicon.cubed.format(base=base).strip()
        signed = re.fullmatch(r"[-−+]?\d{1,9}", exponent)
        spoken = self._signed(exponent) if signed else self._read(exponent).strip()
        return self._lexicon.power.format(base=base, exponent=spoken).strip()

    def _signed(self, written: str) -> str:
        number = self._amounts.number(written.lstrip("-−+")).spoken
        return f"{self._lexicon.minus} {number}" if written[0] in "-−" else number

    def _product(self, match: re.Match[str]) -> str:
        return f"{self._amounts.number(match['a']).spoken} {self._lexicon.times} "

    # -- fractions -----------------------------------------------------------------------------

    def _fraction(self, match: re.Match[str]) -> str | None:
        above, below = int(match["a"]), int(match["b"])
        known = {(24, 7), (9, 11), (7, 7), (50, 50), (20, 20)}
        if (above, below) in known:
            return f"{match['a']} {match['b']}"
        return self._part(above, below) + self._unit_of_part(match["unit"], Decimal(above))

    def _unit_of_part(self, unit: str | None, value: Decimal) -> str:
        return f" {self._amounts.unit_name(unit, value)}" if unit else ""

    def _mixed(self, match: re.Match[str]) -> str | None:
        above, below = int(match["a"]), int(match["b"])
        if above >= below:
            return None
        said = f"{match['whole']} {self._lexicon.conjunction} {self._part(above, below)}"
        return said + self._unit_of_part(match["unit"], Decimal("1.5"))

    def _mixed_vulgar(self, match: re.Match[str]) -> str:
        part = self._part(*_VULGAR[match["vulgar"]])
        return f"{match['whole']} {self._lexicon.conjunction} {part}"

    def _part(self, above: int, below: int) -> str:
        if (above, below) == (1, 2):
            return self._lexicon.half
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
        return self._lexicon.over.format(above=above, below=below)

    def _plain(self, match: re.Match[str]) -> str:
        return self._amounts.number(match[0]).spoken


def _ordinal_part(below: int) -> tuple[str, str]:
    name = str(num2words(below, lang="en", to="ordinal"))
    return name, f"{name}s"
