"""Numbers that name something: dates, times, telephone numbers, versions, identifiers, years."""

from __future__ import annotations

import datetime
import re

from babel.dates import format_date, get_month_names
from num2words import num2words

from voices.spoken_text.amounts import Amounts, digits
from voices.spoken_text.lexicon import Lexicon
from voices.spoken_text.scanning import Rule, rule

_CALL_WORDS = re.compile(
    r"(?:call|calls|dial|phone|telephone|tel|number|fax|hotline|mobile|cell|number is|ID|id|card|"
    r"code|account|Telefon|Nummer|Anruf|téléphone|numéro|teléfono|número|telefono|numero)\W{1,3}$"
)
_VERSION_WORDS = re.compile(
    r"(?:version|Version|versión|versione|versão|versie|release|v|Python|iOS|iPadOS|Android|macOS|"
    r"Node|Node\.js|Java|PHP|Ruby|Ubuntu|Debian|Kernel|Linux|Go|Rust|Firefox|Chrome|Windows|HTML|"
    r"CSS|Swift|Kotlin|PostgreSQL|MySQL|Bluetooth|USB|HTTP|TLS|Section|Chapter|section|chapter)\s$"
)
_YEAR_WORDS = {
    "en": re.compile(
        r"(?:\b(?:in|since|from|by|until|till|around|before|after|during|of|year|circa|to|early|"
        r"late|mid|and|born|spring|summer|autumn|fall|winter|January|February|March|April|May|"
        r"June|July|August|September|October|November|December)"
        r"|(?:uary|ary|ch|il|May|ne|ly|st|ber) \d{1,2}(?:st|nd|rd|th)?,)\s$"
        r"|\((?:born\s)?$",
        re.IGNORECASE,
    ),
    "de": re.compile(
        r"\b(?:Jahre?|Jahres|seit|von|bis|um|Januar|Februar|März|April|Mai|Juni|Juli|August|"
        r"September|Oktober|November|Dezember|Anno)\s$"
    ),
}
_NO_YEAR = re.compile(
    r"\s?(?:[°%$€£]|(?:km|m|kg|g|people|miles|meters|metres|kilometers|dollars|euros|pounds|hours|"
    r"minutes|seconds|calories|words|feet|steps|times|points|degrees|Euro|Meter|Menschen|Stunden)\b)"
)
_DECADE_WORDS = re.compile(r"(?:\b(?:the|his|her|my|their|our|early|late|mid)[\s-]?|[’'])$")
_DATIVE = re.compile(r"\b(?:am|im|vom|zum|dem|den|beim|des)\s$", re.IGNORECASE)
_ARTICLE = re.compile(r"\b(?:der|die|das)\s$", re.IGNORECASE)
_INTERNATIONAL = r"\+\d{1,3}(?:[\s.\-/]?\(?\d{1,5}\)?){2,6}(?!\d)"
_LOCAL = r"(?:1[-\s.])?(?:\(\d{3}\)\s?|\d{3}[-.\s])\d{3}[-.]\d{4}(?![-\d])"


class Codes:
    """The rules of one language."""

    def __init__(self, amounts: Amounts, lexicon: Lexicon | None) -> None:
        self._amounts = amounts
        self._words = lexicon
        self._language = amounts.language
        self._months: list[str] = []
        if lexicon is not None:
            self._months = list(get_month_names("wide", locale=self._language).values())

    def rules(self) -> list[Rule]:
        """For places where a digit begins; before those of quantities."""
        identifiers = [
            rule(r"(?:\d{4}[ \-]){2,4}\d{1,4}(?![-\d])", self._groups),
            rule(_LOCAL, self._groups),
            rule(r"0\d{1,5}[ /\-](?:\d{2,8}[ \-]){0,4}\d{2,8}(?![-\d.,])", self._groups),
            rule(r"(?P<a>\d{3,5})-(?P<b>\d{4})(?![-\d])", self._pair),
            rule(r"\d{1,8}(?:-\d{1,8}){2,8}(?![-\d])", self._many),
        ]
        if self._words is None:
            return identifiers
        is_german = self._language == "de"
        return [
            rule(r"(?P<year>\d{4})-(?P<month>\d\d)-(?P<day>\d\d)(?!\d|-\d|\s?=)", self._date),
            rule(r"(?P<year>\d{4})/(?P<month>\d{1,2})/(?P<day>\d{1,2})(?![\d/])", self._date),
            rule(r"(?P<a>\d{1,2})/(?P<b>\d{1,2})/(?P<year>\d{4})(?![\d/])", self._slashed_date),
            rule(
                r"(?P<day>\d{1,2})\.\s?(?P<month>\d{1,2})\.\s?(?P<year>\d{4})(?!\d|\.\d)",
                self._date,
            ),
            *identifiers,
            rule(
                r"(?P<hour>\d{1,2}):(?P<minute>\d\d)(?::(?P<second>\d\d))?(?!:?\d)"
                r"(?P<rest>\s?(?P<half>[ap])\.?\s?m(?P<stop>\.)?(?!\w)|\sUhr\b|\suur\b|\s?h(?!\w))?",
                self._time,
            ),
            rule(
                r"(?P<hour>\d{1,2})\s?(?P<half>[ap])\.?m(?P<stop>\.)?(?!\w)", self._half_day, re.I
            ),
            rule(r"(?P<hour>\d{1,2})h(?P<minute>\d\d)(?!\w)", self._time_by_letter),
            rule(
                r"(?P<a>\d{1,5}(?:\.\d{1,4})?):(?P<b>\d{1,5}(?:\.\d{1,4})?)(?![:\d])", self._ratio
            ),
            rule(r"\d{1,3}(?:\.\d{1,3}){3}(?![\d.]*\d)", self._address),
            rule(r"\d{1,6}(?:\.\d{1,6}){2,6}(?!\.?\d)", self._version),
            rule(r"\d{1,3}\.\d{1,3}(?![\d.,]*\d)", self._short_version),
            rule(r"(?P<n>\d{2}|\d{4})s(?!\w)", self._decade),
            rule(
                r"(?P<n>[12]\d{3})\s?[-–—]\s?(?P<end>[12]\d{3}|\d\d)(?![\d.,:]*\d|-\d)", self._years
            ),
            rule(r"(?P<n>[12]\d{3})(?![\d.,]*\d|[^\W_])", self._year),
            rule(rf"(?P<day>\d{{1,2}})\.\s(?={'|'.join(self._months)})", self._dotted_day),
            *([rule(r"(?P<day>\d{1,2})\.\s(?=[^\W\d_])", self._ordinal)] if is_german else []),
        ]

    def symbols(self) -> list[Rule]:
        """For places where a sign begins."""
        to_time = r"[-–—]\s?(?=\d{1,2}(?::\d\d|\s?[ap]\.?m\b))"
        until = [rule(r"\s?" + to_time, self._until)] if self._words else []
        return [
            *until,
            rule(_INTERNATIONAL, self._international),
            rule(rf"(?=\(){_LOCAL}", self._groups),
        ]

    def letters(self) -> list[Rule]:
        """For places where a letter begins."""
        if self._words is None or not self._words.version:
            return []
        return [rule(r"(?<!\w)[vV](?P<version>\d{1,6}(?:\.\d{1,6}){0,5})(?![\w.]*\w)", self._named)]

    # -- identifiers ---------------------------------------------------------------------------

    def _groups(self, match: re.Match[str]) -> str:
        """Digits one by one, with a short pause after each group."""
        return ", ".join(digits(group) for group in re.findall(r"\d+", match[0]))

    def _international(self, match: re.Match[str]) -> str | None:
        if sum(map(str.isdigit, match[0])) < 7:
            return None
        plus = f"{self._words.plus} " if self._words else "+"
        return plus + self._groups(match)

    def _pair(self, match: re.Match[str]) -> str | None:
        """ "555-1234" is a telephone number, "1990-1995" and "500-1500" are ranges."""
        a, b = match["a"], match["b"]
        called = _CALL_WORDS.search(match.string[max(0, match.start() - 16) : match.start()])
        is_equation = re.match(r"\s?=", match.string[match.end() : match.end() + 2])
        if is_equation or match.string[match.end() : match.end() + 1] in ("%", "°"):
            return None
        if len(a) == 4:
            are_years = all(1000 <= int(year) <= 2100 for year in (a, b))
            is_range = int(a) < int(b) and (are_years or (a[-1] in "05" and b[-1] in "05"))
            return None if is_range and not (called and not are_years) else self._groups(match)
        if a == "555" or len(a) == 5 or (called and a[0] in "23456789") or int(a) >= int(b):
            return self._groups(match)
        return None

    def _many(self, match: re.Match[str]) -> str | None:
        if re.match(r"\s?=", match.string[match.end() : match.end() + 2]):
            return None
        groups = match[0].split("-")
        if all(len(group) <= 2 for group in groups):
            return ", ".join(str(int(group)) for group in groups)
        return self._groups(match)

    # -- versions ------------------------------------------------------------------------------

    @property
    def _lexicon(self) -> Lexicon:
        if self._words is None:
            raise LookupError(f"no words for {self._language}")
        return self._words

    def _address(self, match: re.Match[str]) -> str | None:
        if any(int(part) > 255 for part in match[0].split(".")):
            return None
        return f" {self._lexicon.dot} ".join(match[0].split("."))

    def _version(self, match: re.Match[str]) -> str | None:
        parts = match[0].split(".")
        if self._amounts.decimal == "," and all(len(part) == 3 for part in parts[1:]):
            return None
        return self._dotted(match[0])

    def _short_version(self, match: re.Match[str]) -> str | None:
        before = match.string[max(0, match.start() - 16) : match.start()]
        return self._dotted(match[0]) if _VERSION_WORDS.search(before) else None

    def _named(self, match: re.Match[str]) -> str:
        return f"{self._lexicon.version} {self._dotted(match['version'])}"

    def _dotted(self, version: str) -> str:
        return f" {self._lexicon.point} ".join(version.split("."))

    # -- dates and times -----------------------------------------------------------------------

    def _date(self, match: re.Match[str]) -> str | None:
        return self._on(match, int(match["year"]), int(match["month"]), int(match["day"]))

    def _slashed_date(self, match: re.Match[str]) -> str | None:
        """Month first in English, as Americans write; the day where that can be no month."""
        first, second = int(match["a"]), int(match["b"])
        if self._language == "en" and first <= 12:
            return self._on(match, int(match["year"]), first, second)
        return self._on(match, int(match["year"]), second, first)

    def _on(self, match: re.Match[str], year: int, month: int, day: int) -> str | None:
        try:
            date = datetime.date(year, month, day)
        except ValueError:
            return None
        if self._language == "de":
            number = self._german_day(match, day)
            return f"{number} {self._months[month - 1]} {self._spoken_year(year)}"
        if self._language == "en":
            return f"{self._months[month - 1]} {day}, {self._spoken_year(year)}"
        text = format_date(date, "long", locale=self._language)
        return text.removesuffix(" г.").removesuffix(" р.").replace(". ", " ")

    def _german_day(self, match: re.Match[str], day: int) -> str:
        name = str(num2words(day, lang="de", to="ordinal"))
        before = match.string[max(0, match.start() - 8) : match.start()]
        if _DATIVE.search(before):
            return f"{name}n"
        return name if _ARTICLE.search(before) else f"{name}r"

    def _dotted_day(self, match: re.Match[str]) -> str:
        """ "6. Mai": the full stop makes an ordinal, and would be a pause."""
        day = int(match["day"])
        if self._language == "de" and 0 < day < 32:
            return f"{self._german_day(match, day)} "
        return f"{match['day']} "

    def _ordinal(self, match: re.Match[str]) -> str | None:
        """ "der 2. Weltkrieg"; a number at a sentence's end has no article before it."""
        before = match.string[max(0, match.start() - 8) : match.start()]
        if not (_ARTICLE.search(before) or _DATIVE.search(before)):
            return None
        return f"{self._german_day(match, int(match['day']))} "

    def _year(self, match: re.Match[str]) -> str | None:
        pattern = _YEAR_WORDS.get(self._language)
        text = match.string
        if pattern is None or not 1000 < int(match["n"]) < 2100:
            return None
        before = text[max(0, match.start() - 14) : match.start()]
        if not pattern.search(before) or _NO_YEAR.match(text, match.end()):
            return None
        return self._spoken_year(int(match["n"]))

    def _years(self, match: re.Match[str]) -> str | None:
        """ "1990–1995"; "1500-2000 words" and "1000-1500" are other ranges."""
        first, last = int(match["n"]), int(match["end"])
        if last < 100:
            last += first - first % 100
        if re.match(r"\s?=", match.string[match.end() : match.end() + 2]):
            return None
        are_round = first % 100 == 0 and last % 100 == 0
        if not 1000 < first < last < 2100 or are_round or _NO_YEAR.match(match.string, match.end()):
            return None
        ends = match["end"] if len(match["end"]) == 2 else self._spoken_year(last)
        return f"{self._spoken_year(first)} {self._lexicon.to} {ends}"

    def _spoken_year(self, year: int) -> str:
        if self._language not in _YEAR_WORDS or (2000 <= year < 2010 and self._language == "en"):
            return str(year)
        return str(num2words(year, lang=self._language, to="year"))

    def _decade(self, match: re.Match[str]) -> str | None:
        number = match["n"]
        before = match.string[max(0, match.start() - 8) : match.start()]
        is_century = len(number) == 4 and number[-1] == "0" and 1000 < int(number) < 2100
        is_short = len(number) == 2 and number[-1] == "0" and _DECADE_WORDS.search(before)
        if self._language != "en" or int(number) == 0 or not (is_century or is_short):
            return None
        name = self._spoken_year(int(number)) if is_century else str(num2words(int(number)))
        if name.isdigit():
            name = str(num2words(int(name)))
        return f"{name[:-1]}ies" if name.endswith("y") else f"{name}s"

    def _time(self, match: re.Match[str]) -> str | None:
        hour, minute = int(match["hour"]), int(match["minute"])
        if hour > 24 or minute > 59:
            return None
        if match["half"]:
            return self._with_half_day(match, str(hour), minute)
        said = self._at(hour, minute)
        if match["second"]:
            said = f"{said} {int(match['second'])}"
        return said

    def _time_by_letter(self, match: re.Match[str]) -> str | None:
        hour, minute = int(match["hour"]), int(match["minute"])
        return self._at(hour, minute) if hour <= 24 and minute < 60 else None

    def _at(self, hour: int, minute: int) -> str:
        if minute == 0:
            # "13 o'clock" is nothing that anybody says.
            if self._language == "en" and not 1 <= hour <= 12:
                return f"{hour} hundred" if hour else "midnight"
            return self._lexicon.full_hour.format(hour=hour)
        return self._lexicon.time.format(hour=hour, minute=self._minute(minute))

    def _minute(self, minute: int) -> str:
        return f"oh {minute}" if self._language == "en" and minute < 10 else str(minute)

    def _until(self, match: re.Match[str]) -> str | None:
        """Between two times of day."""
        before = match.string[max(0, match.start() - 5) : match.start()]
        is_time = re.search(r"(?:\d|[ap]\.?m\.?)\s?$", before, re.IGNORECASE)
        return f" {self._lexicon.to} " if is_time else None

    def _half_day(self, match: re.Match[str]) -> str | None:
        return self._with_half_day(match, match["hour"], 0)

    def _with_half_day(self, match: re.Match[str], hour: str, minute: int) -> str:
        half = match["half"].upper() + "M"
        rest = match.string[match.end() :].lstrip()
        ends = match["stop"] and (not rest or rest[0].isupper())
        return f"{hour} {self._minute(minute) + ' ' if minute else ''}{half}{'.' if ends else ''}"

    def _ratio(self, match: re.Match[str]) -> str:
        return f"{match['a']} {self._lexicon.ratio or self._lexicon.to} {match['b']}"
