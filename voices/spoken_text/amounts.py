"""Numbers, units and money in words of a language, after the Unicode CLDR (by Babel)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property, lru_cache
from typing import Literal

from babel import Locale, UnknownLocaleError
from babel.numbers import format_compact_decimal, get_currency_name
from babel.units import UnknownUnitError, format_unit
from num2words import num2words

_LONGEST_READ_AS_NUMBER = 15
"""Digits; a longer number (an identifier, a card's) is read digit by digit."""

_LOCALES = {"cmn": "zh", "yue": "zh", "no": "nb", "iw": "he", "pt-pt": "pt_PT", "pt-br": "pt_BR"}

_WORDED_DECIMALS = frozenset(("ru", "uk"))
"""Languages whose decimals espeak-ng misreads ("3,14" as "three and one fourteen")."""

# fmt: off
_UNITS = {
    "%": "concentr-percent", "‰": "concentr-permille", "ppm": "concentr-permillion",
    "km": "length-kilometer", "m": "length-meter", "dm": "length-decimeter",
    "cm": "length-centimeter", "mm": "length-millimeter", "μm": "length-micrometer",
    "µm": "length-micrometer", "nm": "length-nanometer", "mi": "length-mile", "yd": "length-yard",
    "ft": "length-foot", "in": "length-inch", "″": "length-inch", "′": "length-foot",
    "kg": "mass-kilogram", "g": "mass-gram", "mg": "mass-milligram", "μg": "mass-microgram",
    "µg": "mass-microgram", "mcg": "mass-microgram", "lb": "mass-pound", "lbs": "mass-pound",
    "oz": "mass-ounce", "t": "mass-tonne",
    "l": "volume-liter", "L": "volume-liter", "ml": "volume-milliliter", "mL": "volume-milliliter",
    "cl": "volume-centiliter", "dl": "volume-deciliter", "hl": "volume-hectoliter",
    "gal": "volume-gallon", "qt": "volume-quart", "tsp": "volume-teaspoon",
    "tbsp": "volume-tablespoon",
    "h": "duration-hour", "hr": "duration-hour", "hrs": "duration-hour", "min": "duration-minute",
    "mins": "duration-minute", "s": "duration-second", "sec": "duration-second",
    "secs": "duration-second", "ms": "duration-millisecond", "μs": "duration-microsecond",
    "µs": "duration-microsecond", "ns": "duration-nanosecond", "yr": "duration-year",
    "yrs": "duration-year",
    "°C": "temperature-celsius", "° C": "temperature-celsius", "℃": "temperature-celsius",
    "°F": "temperature-fahrenheit", "° F": "temperature-fahrenheit", "℉": "temperature-fahrenheit",
    "ºC": "temperature-celsius", "ºF": "temperature-fahrenheit", "°": "angle-degree",
    "km/h": "speed-kilometer-per-hour", "kmh": "speed-kilometer-per-hour",
    "kph": "speed-kilometer-per-hour", "mph": "speed-mile-per-hour",
    "m/s": "speed-meter-per-second",
    "m/s²": "acceleration-meter-per-square-second", "m/s^2": "acceleration-meter-per-square-second",
    "mpg": "consumption-mile-per-gallon",
    "m²": "area-square-meter", "m^2": "area-square-meter", "m2": "area-square-meter",
    "km²": "area-square-kilometer", "km^2": "area-square-kilometer",
    "km2": "area-square-kilometer", "cm²": "area-square-centimeter",
    "cm^2": "area-square-centimeter", "ft²": "area-square-foot", "ft^2": "area-square-foot",
    "sq ft": "area-square-foot", "mi²": "area-square-mile", "ha": "area-hectare",
    "m³": "volume-cubic-meter", "m^3": "volume-cubic-meter", "m3": "volume-cubic-meter",
    "cm³": "volume-cubic-centimeter", "cm^3": "volume-cubic-centimeter",
    "cm3": "volume-cubic-centimeter", "km³": "volume-cubic-kilometer", "ft³": "volume-cubic-foot",
    "bit": "digital-bit", "kB": "digital-kilobyte", "KB": "digital-kilobyte",
    "MB": "digital-megabyte", "GB": "digital-gigabyte", "TB": "digital-terabyte",
    "PB": "digital-petabyte", "Mbit": "digital-megabit", "Gbit": "digital-gigabit",
    "Hz": "frequency-hertz", "kHz": "frequency-kilohertz", "MHz": "frequency-megahertz",
    "GHz": "frequency-gigahertz",
    "W": "power-watt", "mW": "power-milliwatt", "kW": "power-kilowatt", "MW": "power-megawatt",
    "GW": "power-gigawatt", "hp": "power-horsepower", "V": "electric-volt",
    "mA": "electric-milliampere", "Ω": "electric-ohm", "kWh": "energy-kilowatt-hour",
    "J": "energy-joule", "kJ": "energy-kilojoule", "kcal": "energy-kilocalorie",
    "N": "force-newton", "Pa": "pressure-pascal", "kPa": "pressure-kilopascal",
    "hPa": "pressure-hectopascal", "psi": "pressure-pound-force-per-square-inch",
    "px": "graphics-pixel", "MP": "graphics-megapixel", "dpi": "graphics-dot-per-inch",
}
# What the CLDR has no words for: one and many.
_ENGLISH_UNITS = {
    "Mbps": ("megabit per second", "megabits per second"),
    "Mb/s": ("megabit per second", "megabits per second"),
    "Mbit/s": ("megabit per second", "megabits per second"),
    "Gbps": ("gigabit per second", "gigabits per second"),
    "kbps": ("kilobit per second", "kilobits per second"),
    "mAh": ("milliamp hour", "milliamp hours"), "Wh": ("watt hour", "watt hours"),
    "MWh": ("megawatt hour", "megawatt hours"), "kV": ("kilovolt", "kilovolts"),
    "mV": ("millivolt", "millivolts"), "dB": ("decibel", "decibels"),
    "rpm": ("revolution per minute", "revolutions per minute"),
    "fps": ("frame per second", "frames per second"),
    "bpm": ("beat per minute", "beats per minute"), "°": ("degree", "degrees"), "¢": ("cent",
    "cents"),
}
# The CLDR of the library lacks these. The mark is the number's place.
_CHINESE_UNITS = {
    "%": "百分之#", "km": "#公里", "m": "#米", "cm": "#厘米", "mm": "#毫米", "kg": "#公斤",
    "g": "#克", "l": "#升", "L": "#升", "ml": "#毫升", "mL": "#毫升", "h": "#小时", "min": "#分钟",
    "s": "#秒", "GB": "#GB", "MB": "#MB", "m²": "#平方米", "°": "#度",
}
_CURRENCIES = {
    "US$": "USD", "CA$": "CAD", "C$": "CAD", "AU$": "AUD", "A$": "AUD", "NZ$": "NZD",
    "HK$": "HKD", "R$": "BRL", "$": "USD", "€": "EUR", "£": "GBP", "¥": "JPY", "₹": "INR",
    "₽": "RUB", "₩": "KRW", "₺": "TRY", "₴": "UAH", "₪": "ILS", "₫": "VND", "฿": "THB",
    "zł": "PLN", "Kč": "CZK", "руб.": "RUB", "руб": "RUB", "грн": "UAH", "元": "CNY", "円": "JPY",
    "EUR": "EUR", "USD": "USD", "GBP": "GBP", "CHF": "CHF", "JPY": "JPY", "CNY": "CNY",
    "CAD": "CAD", "AUD": "AUD", "INR": "INR", "PLN": "PLN", "SEK": "SEK", "BRL": "BRL",
}
# What the language itself writes for these.
_OWN_SYMBOLS = {
    "ru": {
        "км": "km", "м": "m", "см": "cm", "мм": "mm", "кг": "kg", "г": "g", "мг": "mg", "т": "t",
        "л": "l", "мл": "ml", "ч": "h", "мин": "min", "с": "s", "сек": "s", "км/ч": "km/h",
        "м/с": "m/s", "м²": "m²", "км²": "km²", "м³": "m³", "ГБ": "GB", "МБ": "MB", "кВт": "kW",
        "Вт": "W", "ккал": "kcal", "°С": "°C", "Гц": "Hz",
    },
}
_OWN_SYMBOLS["de"] = {
    "Min": "min", "Min.": "min", "Std": "h", "Std.": "h", "Sek": "s", "Sek.": "s",
}
_OWN_SYMBOLS["uk"] = {
    **_OWN_SYMBOLS["ru"], "год": "h", "хв": "min", "км/год": "km/h",
}
# What people say where the CLDR gives the full name ("US dollars"): one and many.
_SHORT_NAMES = {
    "en": {"USD": ("dollar", "dollars"), "GBP": ("pound", "pounds"), "JPY": ("yen", "yen"),
           "INR": ("rupee", "rupees")},
    "de": {"USD": ("Dollar", "Dollar"), "GBP": ("Pfund", "Pfund"), "JPY": ("Yen", "Yen")},
    "es": {"USD": ("dólar", "dólares"), "GBP": ("libra", "libras"), "JPY": ("yen", "yenes")},
    "fr": {"USD": ("dollar", "dollars"), "GBP": ("livre", "livres"), "JPY": ("yen", "yens")},
    "it": {"USD": ("dollaro", "dollari"), "GBP": ("sterlina", "sterline"), "JPY": ("yen", "yen")},
    "pt": {"USD": ("dólar", "dólares"), "GBP": ("libra", "libras"), "EUR": ("euro", "euros")},
    "nl": {"USD": ("dollar", "dollar"), "GBP": ("pond", "pond"), "JPY": ("yen", "yen")},
}
_SMALL_CHANGE = {"USD": ("cent", "cents"), "CAD": ("cent", "cents"), "AUD": ("cent", "cents"),
                 "EUR": ("cent", "cents"), "GBP": ("penny", "pence")}
_NO_CENTS = frozenset(("JPY", "KRW", "VND"))
_OF_MILLIONS = {"es": "de ", "pt": "de ", "fr": "de ", "it": "di "}
_SCALES = {
    "k": 3, "K": 3, "M": 6, "m": 6, "mm": 6, "mn": 6, "mln": 6, "Mio": 6, "Mio.": 6, "B": 9,
    "b": 9, "bn": 9, "Bn": 9, "mrd": 9, "Mrd": 9, "Mrd.": 9, "T": 12, "tn": 12,
}
# fmt: on


# Nobody says in Russian that a rouble is Russian.
_NATIONALITY = re.compile(r"^российск\w+\s|\s(?:polsk|brasileir)\w+$")


@dataclass(frozen=True)
class Number:
    """A number as the voice gets it, and its value."""

    spoken: str
    value: Decimal


@lru_cache(maxsize=64)
def amounts_of(language: str) -> Amounts:
    """The amounts of a language, by its code ("de", "en-GB"); made once."""
    return Amounts(language)


def base_language(language: str) -> str:
    """The language of a code, without country and script: "en" of "en-GB", "zh" of "cmn"."""
    code = language.replace("_", "-").lower()
    code = code.partition("-")[0]
    return _LOCALES.get(code, code)


def digits(text: str) -> str:
    """The digits of `text`, to be read one by one."""
    return " ".join(re.findall(r"\d", text))


def _alternatives(words: list[str]) -> str:
    """A pattern for any of these, the longest first; one that nothing fits where there are none."""
    return "|".join(map(re.escape, sorted(words, key=len, reverse=True))) or "(?!)"


class Amounts:
    """How numbers are written and amounts are called in one language."""

    def __init__(self, language: str) -> None:
        self.language = base_language(language)
        self._locale = _locale(language)
        self._is_english = self.language == "en"
        symbols = self._locale.number_symbols.get("latn", {}) if self._locale else {}
        self.decimal = "," if symbols.get("decimal") == "," else "."
        point, comma = (r"\.", ",") if self.decimal == "." else (",", r"\.")
        signs = [comma, r"\u00a0", r"\u202f", r"\u2009", "’"] + (
            [] if self.decimal == "." else [" "]
        )
        # One sign groups a whole number.
        grouped = "|".join(rf"\d{{1,3}}(?:{sign}\d{{3}}){{1,8}}(?!\d)" for sign in signs)
        whole = rf"{grouped}|\d{{1,3}}(?: \d{{3}}){{2,8}}(?!\d)|\d{{1,60}}"
        # A decimal point is understood in every language, a comma only where it is one.
        fraction = r"\.\d{1,40}" if self.decimal == "." else r"[.,]\d{1,40}"
        bare = rf"{point}\d{{1,40}}" if self.decimal == "." else r"[.,]\d{1,40}"
        self.pattern = rf"(?:(?:{whole})(?:{fraction})?|(?<![\w.,]){bare})"
        """A number as it is written, without a sign. Matches no part of a longer one."""
        cents = r"\d{1,7},\d{2}(?![\d,])|" if self.decimal == "." else ""
        self.price_pattern = rf"(?:{cents}{self.pattern})"
        """The same for money, whose cents stand after a comma in texts of any language."""

    def number(self, written: str) -> Number:
        """Read what `pattern` matched."""
        text = re.sub(r"[\s’]", "", written)
        if self.decimal == ".":
            is_price = re.fullmatch(r"\d{1,7},\d\d", text) is not None
            text = text.replace(",", "." if is_price else "")
        elif re.fullmatch(r"\d{1,3}(?:\.\d{3})+(?:,\d*)?", text):
            text = text.replace(".", "")
        # Of several signs only the last can be the decimal one.
        *groups, last = re.split("[.,]", text)
        whole, fraction = ("".join(groups), last) if groups else (last, "")
        # What is longer is no amount: its end is enough to tell one from many.
        kept = whole[-_LONGEST_READ_AS_NUMBER:] or "0"
        value = Decimal(f"{kept}.{fraction[:9]}" if fraction else kept)
        is_code = len(whole) > 1 and whole.startswith("0") and not fraction
        if len(whole) > _LONGEST_READ_AS_NUMBER or is_code:
            spoken = digits(whole)
            return Number(f"{spoken}{self.decimal}{fraction}" if fraction else spoken, value)
        if fraction and self.language in _WORDED_DECIMALS and len(fraction) <= 6:
            return Number(str(num2words(value, lang=self.language)), value)
        return Number((whole or "0") + (self.decimal + fraction if fraction else ""), value)

    # -- units ---------------------------------------------------------------------------------

    @cached_property
    def unit_pattern(self) -> str:
        """Unit symbols, longest first. A letter or digit after one makes it a word."""
        symbols = [*_UNITS, *_OWN_SYMBOLS.get(self.language, {})]
        symbols = [symbol for symbol in symbols if self.unit_name(symbol, Decimal(5))]
        if self._is_english:
            symbols += _ENGLISH_UNITS
        return rf"(?:{_alternatives(symbols)})(?![^\W_])" if symbols else r"(?!)"

    def unit_name(self, symbol: str, value: Decimal) -> str:
        """What `value` units are called ("kilometers"); "" where the language has no word."""
        if self._is_english and symbol in _ENGLISH_UNITS:
            return _ENGLISH_UNITS[symbol][0 if value == 1 else 1]
        one = "\ue000"
        return self._with_unit(symbol, value, one).replace(one, "").strip()

    def with_unit(self, number: Number, symbol: str) -> str:
        """The number with its unit ("5 kilometers", "摂氏 5 度")."""
        if self._is_english and symbol in _ENGLISH_UNITS:
            return f"{number.spoken} {self.unit_name(symbol, number.value)}"
        return self._with_unit(symbol, number.value, number.spoken)

    def _with_unit(self, symbol: str, value: Decimal, spoken: str) -> str:
        """`spoken` in the unit's pattern for `value`; "" where the CLDR has none."""
        if self.language == "zh" and symbol in _CHINESE_UNITS:
            return _CHINESE_UNITS[symbol].replace("#", spoken)
        symbol = _OWN_SYMBOLS.get(self.language, {}).get(symbol, symbol)
        unit = _UNITS.get(symbol)
        if self._locale is None or unit is None:
            return ""
        try:
            text = format_unit(value, unit, "long", format="0.####", locale=self._locale)
        except UnknownUnitError:
            return ""
        match = re.search(r"\d[\d.,\u066b]*", text)
        if match is None or unit in text or "/" in text:
            return ""
        text = f"{text[: match.start()]}{spoken}{text[match.end() :]}"
        return re.sub(r"[\u00a0\u202f]", " ", text)

    @cached_property
    def times_of_day(self) -> frozenset[str]:
        """What hours, days and the like are called, one each; a slash before one is "per"."""
        if self._locale is None:
            return frozenset()
        names = ("second", "minute", "hour", "day", "week", "month", "year", "night")
        found = set()
        for name in names:
            text = format_unit(1, f"duration-{name}", "long", locale=self._locale)
            if "-" not in text:
                found.add(re.sub(r"[\d\s\u00a0]+", "", text).lower())
        return frozenset(found)

    # -- money and large numbers ---------------------------------------------------------------

    @cached_property
    def currency_pattern(self) -> str:
        return rf"(?:{_alternatives(list(_CURRENCIES))})"

    @cached_property
    def scale_pattern(self) -> str:
        """What multiplies a number: `k`, `M`, `bn`, and the language's words."""
        return (
            rf"(?:[ \u00a0]?(?:{_alternatives(list(_SCALES))})(?![^\W_])"
            rf"|[ \u00a0](?:{_alternatives(list(self._scale_words))})(?![^\W_]))"
        )

    @cached_property
    def _scale_words(self) -> dict[str, int]:
        words = {"thousand": 3, "million": 6, "billion": 9, "trillion": 12}
        if self._locale is None:
            return words
        if not self._is_english:
            words = {}
        for power in (3, 6, 9, 12):
            for count in (1, Decimal("1.5"), 2, 5):
                text = self._compact(Decimal(count) * 10**power)
                word = re.sub(r"^[\d.,\s\u00a0]+", "", text)
                if word and re.fullmatch(r"[^\W\d_]{2,}", word):
                    words.setdefault(word, power)
        return words

    def scaled(self, number: Number, scale: str) -> Number:
        """The number times its scale, in words: "1.5" and "M" to "1.5 million"."""
        name = scale.strip()
        if name in self._scale_words:
            value = number.value.scaleb(self._scale_words[name])
            return Number(f"{number.spoken} {name}", value)
        value = number.value.scaleb(_SCALES[name])
        if _SCALES[name] == 3 and self.decimal in number.spoken and value == int(value):
            # Nobody says "2.4 thousand".
            return Number(str(int(value)), Decimal(int(value)))
        return Number(self._compact(value) or f"{number.spoken} {name}", value)

    def _compact(self, value: Decimal) -> str:
        if self._locale is None:
            return ""
        has_words = "long" in self._locale.compact_decimal_formats
        kind: Literal["long", "short"] = "long" if has_words else "short"
        try:
            text = format_compact_decimal(
                value, format_type=kind, locale=self._locale, fraction_digits=6
            )
        except KeyError:
            return ""
        return text.replace("\u00a0", " ")

    def money(self, number: Number, currency: str, *, minor: str, is_scaled: bool) -> str:
        """An amount of money; `minor` is what stands between its major and its minor unit."""
        code = _CURRENCIES[currency]
        name = self._currency_name(code, number.value)
        if is_scaled:
            of = _OF_MILLIONS.get(self.language, "") if number.value >= 10**6 else ""
            if self.language == "fr" and name[0] in "aeiouyAEIOUY":
                of = of.replace("de ", "d’")
            return f"{number.spoken} {of}{name}"
        whole, _, cents = number.spoken.partition(self.decimal)
        if len(cents) != 2 or code in _NO_CENTS or not (whole.isdigit() and minor):
            return f"{number.spoken} {name}"
        change = str(int(cents))
        if self._is_english and code in _SMALL_CHANGE:
            change += f" {_SMALL_CHANGE[code][0 if change == '1' else 1]}"
            if whole == "0":
                return change
        if int(cents) == 0:
            return f"{whole} {self._currency_name(code, Decimal(whole))}"
        if whole == "0":
            return f"{number.spoken} {name}"
        return f"{whole} {self._currency_name(code, Decimal(whole))} {minor} {change}"

    def _currency_name(self, code: str, value: Decimal) -> str:
        short = _SHORT_NAMES.get(self.language, {}).get(code)
        if short is not None:
            return short[0 if value == 1 else 1]
        if self._locale is None:
            return code
        # Babel counts by whole numbers: 2.5 is many in all languages.
        count = value if value == value.to_integral_value() else Decimal("2.5")
        name = str(get_currency_name(code, count=float(count), locale=self._locale))
        return _NATIONALITY.sub("", name) if code in ("RUB", "PLN", "BRL") else name


def _locale(language: str) -> Locale | None:
    code = language.replace("_", "-").lower()
    for name in (_LOCALES.get(code), base_language(language)):
        try:
            if name:
                return Locale.parse(name)
        except (UnknownLocaleError, ValueError):
            continue
    return None
