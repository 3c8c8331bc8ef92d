"""The grammar of amounts: money, measures, large numbers, ranges."""

from __future__ import annotations

import re
from decimal import Decimal

from voices.spoken_text.amounts import Amounts, Number
from voices.spoken_text.lexicon import Lexicon
from voices.spoken_text.scanning import DASH, Rule, rule

_QUOTE = re.compile(r"(?<!\d)\"")
# A unit that is also a word, or the tail of a decade ("1990s"), is one only in these forms.
_TOUCHING_ONLY = frozenset(("in",))
_APART_ONLY = frozenset(("s",))


class Quantities:
    """The rules of one language."""

    def __init__(self, amounts: Amounts, lexicon: Lexicon | None) -> None:
        self._amounts = amounts
        self._words = lexicon
        self._is_english = amounts.language == "en"
        per = rf"{amounts.unit_pattern}|[^\W\d_]{{2,20}}"
        self._per_pattern = rf"(?:\s?/\s?(?P<per>{per}))?"

    # -- rules ---------------------------------------------------------------------------------

    def money(self) -> list[Rule]:
        """For places where a number begins, before its sign: "20 €/month"."""
        number, scale = self._amounts.price_pattern, self._amounts.scale_pattern
        ends = rf"(?:\s?{DASH}\s?(?P<b>{number})(?P<bs>{scale})?)?"
        currency = rf"[ \u00a0]?(?P<currency>{self._amounts.currency_pattern})(?![^\W_])"
        amount = rf"(?P<a>{number})(?P<as>{scale})?{ends}{currency}{self._per_pattern}"
        return [rule(amount, self._money)]

    def signed_money(self) -> list[Rule]:
        """For places where a sign or a currency's code begins: "$120K-$150K", "USD 5"."""
        number, scale = self._amounts.price_pattern, self._amounts.scale_pattern
        currency = self._amounts.currency_pattern
        amount = rf"(?P<sign>[-−])?(?P<a>{number})(?P<as>{scale})?"
        ends = rf"(?:\s?{DASH}\s?(?:{currency})?(?P<b>{number})(?P<bs>{scale})?)?"
        whole = rf"(?P<currency>{currency})[ \u00a0]?{amount}{ends}{self._per_pattern}"
        return [rule(whole, self._money)]

    def measures(self) -> list[Rule]:
        """For places where a number begins: with units, and large ones."""
        number, unit = self._amounts.pattern, self._amounts.unit_pattern
        scale, per = self._amounts.scale_pattern, self._per_pattern
        measure = rf"(?P<gap>[ \u00a0]?)(?P<unit>{unit}){per}"
        first, last = rf"(?P<a>{number})(?P<as>{scale})", rf"(?P<b>{number})(?P<bs>{scale})"
        return [
            rule(rf"(?P<a>{number}){DASH}(?P<unit>{unit})", self._attribute),
            rule(
                rf"(?P<a>{number})\s?(?P<au>{unit})?\s?{DASH}\s?(?P<b>{number}){measure}",
                self._range_of_units,
            ),
            rule(r"(?P<feet>\d{1,2})['′’](?P<inches>\d{1,2})(?:\"|″|”)", self._height),
            rule(rf"(?P<a>{number})(?P<inch>[\"″])(?!\w)", self._inches),
            rule(rf"(?P<a>{number}){measure}", self._measure),
            rule(rf"{first}\s?{DASH}\s?{last}", self._scaled_range),
            rule(first, self._scaled),
        ]

    def ranges(self) -> list[Rule]:
        """For places where a number begins, after all else."""
        if self._words is None:
            return []
        number = self._amounts.pattern
        noun = r"[ \u00a0](?P<noun>[^\W\d_]{2,24})/(?P<per>[^\W\d_]{2,20})"
        return [
            rule(rf"(?P<a>{number})\s?(?P<dash>{DASH})\s?(?P<b>{number})", self._range),
            rule(rf"(?P<a>{number}){noun}", self._counted_per),
        ]

    def plain(self) -> list[Rule]:
        """A number by itself."""
        return [rule(self._amounts.pattern, lambda m: self._amounts.number(m[0]).spoken)]

    def rates(self) -> list[Rule]:
        """For places where a letter begins: "per kg"."""
        if self._words is None:
            return []
        unit = r"[ \u00a0](?P<unit>[^\W\d_]{2,4})(?![^\W_])"
        return [rule(rf"(?<![^\W_]){self._words.per}{unit}", self._per_unit)]

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
        return not (unit in _APART_ONLY and not gap and re.fullmatch(r"\d{4}", written))

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

    def _inches(self, match: re.Match[str]) -> str | None:
        """A mark after a number that closes no quotation: a 27" monitor."""
        if match["inch"] == '"' and len(_QUOTE.findall(match.string[: match.start()])) % 2:
            return None
        number = self._amounts.number(match["a"])
        return self._amounts.with_unit(number, "in") or None

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

    def _per_unit(self, match: re.Match[str]) -> str | None:
        if match["unit"] in ("in", "min"):
            return None
        name = self._amounts.unit_name(match["unit"], Decimal(1))
        return f"{self._lexicon.per} {name}" if name else None

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
