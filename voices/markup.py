"""How written text is read aloud: Markdown, links, symbols and emoji become words or go away."""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Callable

_Rule = tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]]

_CODE_BLOCK = re.compile(r"(```|~~~).*?(?:\1`*|\Z)", re.DOTALL)
_TABLE_RULE = re.compile(r"^\s*\|?\s*:?-{2,}:?\s*(?:\|\s*:?-*:?\s*)*$")
_RULER = re.compile(r"^\s*(?:[-*_=]\s*){3,}$")
_LINE_START = re.compile(r"^\s*(?:>\s*)*(?:#{1,6}\s+|[-*+•]\s+(?:\[[ xX]\]\s+)?)?")
_HEADING = re.compile(r"^\s*#{1,6}\s")
_NUMBERED_ITEM = re.compile(r"^(\d{1,3})[.)]\s+(?=\S)")
_ENDS_AUDIBLY = re.compile(r"[.,;:!?…。！？]['\"”’)\]]*$")

_MARKUP: tuple[_Rule, ...] = (
    (re.compile(r"!?\[([^\[\]]*)\]\([^()\s]*(?:\s+\"[^\"]*\")?\)"), r"\1"),
    (re.compile(r"!?\[([^\[\]]+)\]\[[^\[\]]*\]"), r"\1"),
    (re.compile(r"\[\^?\d+\]"), ""),
    (re.compile(r"<((?:https?|ftp)://[^<>\s]+|mailto:[^<>\s]+)>"), r"\1"),
    (re.compile(r"</?[A-Za-z][^<>]*>"), " "),
    (re.compile(r"\\([\\`*_{}\[\]()#+.!|~>-])"), r"\1"),
)
_EMPHASIS: tuple[_Rule, ...] = (
    (re.compile(r"`+"), ""),
    (re.compile(r"~~"), ""),
    (re.compile(r"(?<=\d)\s*\*\s*(?=\d)"), " × "),
    (re.compile(r"\*+"), ""),
    (re.compile(r"(?<!\w)_+|_+(?!\w)"), ""),
    (re.compile(r"_+"), " "),
    (re.compile(r"(?<!\w)[:;=]-?[)(DPp](?!\w)"), ""),
)
_ADDRESS = re.compile(
    r"(?:(?:https?|ftp)://(?:www\.)?|mailto:|www\.)(?P<address>[^\s<>()\[\]/?#,;]+)"
    r"(?:[/?#][^\s<>()\[\]]*?)?(?=[.,;:!?'\"]*(?:[\s<>()\[\]]|$))"
    r"|(?P<mail>[\w.+-]+@[\w-]+(?:\.[\w-]+)+)"
)

_CURRENCIES = {"$": "dollar", "€": "euro", "£": "pound", "¥": "yen", "₹": "rupee"}
_AMOUNT = r"\d+(?:,\d{3})*(?:\.\d+)?"
_CURRENCY = re.compile(
    rf"(?P<sign>[$€£¥₹])\s?(?P<n>{_AMOUNT})(?P<scale>\s(?:thousand|million|billion|trillion)\b)?"
    rf"|(?P<n2>{_AMOUNT})(?P<scale2>)\s?(?P<sign2>[$€£¥₹])(?!\s?\d)"
)
_FRACTIONS = {
    "1/2": "one half",
    "1/3": "one third",
    "2/3": "two thirds",
    "1/4": "one quarter",
    "3/4": "three quarters",
}
_VULGAR = {"½": "1/2", "⅓": "1/3", "⅔": "2/3", "¼": "1/4", "¾": "3/4"}


def _spoken_amount(match: re.Match[str]) -> str:
    number = match["n"] or match["n2"]
    scale = match["scale"] or ""
    name = _CURRENCIES[match["sign"] or match["sign2"]]
    plural = "" if name == "yen" or (number == "1" and not scale) else "s"
    return f"{number}{scale} {name}{plural}"


def _spoken_fraction(match: re.Match[str]) -> str:
    return _FRACTIONS.get(match[0], f"{match[1]} over {match[2]}")


_ENGLISH: tuple[_Rule, ...] = (
    (_CURRENCY, _spoken_amount),
    (re.compile(r"(?<=\d)([½⅓⅔¼¾])"), lambda m: " and " + _FRACTIONS[_VULGAR[m[1]]]),
    (re.compile(r"[½⅓⅔¼¾]"), lambda m: _FRACTIONS[_VULGAR[m[0]]]),
    (re.compile(r"\b24/7\b"), "24 7"),
    (re.compile(r"(?<![\d/])(\d+)/(\d+)(?![\d/])"), _spoken_fraction),
    (re.compile(r"\bkm/h\b"), "kilometers per hour"),
    (re.compile(r"\bm/s\b"), "meters per second"),
    (re.compile(r"\band/or\b"), "and or"),
    (re.compile(r"\bw/o\b"), "without"),
    (re.compile(r"(?<=[a-z])\s?/\s?(?=[a-z])"), " or "),
    (re.compile(r"\s*°\s*C\b"), " degrees Celsius"),
    (re.compile(r"\s*°\s*F\b"), " degrees Fahrenheit"),
    (re.compile(r"\s*°"), " degrees"),
    (re.compile(r"\s?%"), " percent"),
    (re.compile(r"\s*&\s*"), " and "),
    (re.compile(r"\b([CF])#"), r"\1 sharp"),
    (re.compile(r"#(?=\d)"), "number "),
    (re.compile(r"#(?=\w)"), "hashtag "),
    (re.compile(r"(?<=\d)\s?[–−-]\s?(?=\d)(?!\d+-)(?<!-\d\d-)"), " to "),
    (re.compile(r"(?:(?<=\s)|^)[−-](?=\d)"), "minus "),
    (re.compile(r"(?<!\w)~\s?(?=\d)"), "about "),
    (re.compile(r"≈"), " about "),
    (re.compile(r"(?<=\w)²"), " squared"),
    (re.compile(r"(?<=\w)³"), " cubed"),
    (re.compile(r"(?<=\w)\^(?=\w)"), " to the power of "),
    (re.compile(r"\s*\+\s*"), " plus "),
    (re.compile(r"\s*(?:==?|＝)\s*"), " equals "),
    (re.compile(r"\s*×\s*"), " times "),
    (re.compile(r"\s*÷\s*"), " divided by "),
    (re.compile(r"\s*±\s*"), " plus or minus "),
    (re.compile(r"\s*(?:≤|<=)\s*"), " at most "),
    (re.compile(r"\s*(?:≥|>=)\s*"), " at least "),
    (re.compile(r"\s*(?:→|->|=>)\s*"), " to "),
    (re.compile(r"(?<=\w)\s*<\s*(?=\w)"), " less than "),
    (re.compile(r"(?<=\w)\s*>\s*(?=\w)"), " greater than "),
    (re.compile(r"(?<=\w)\s*@\s*(?=\w)"), " at "),
)
_LEFTOVERS: tuple[_Rule, ...] = (
    (re.compile(r"[/\\|^~@#<>{}\[\]=*_•·]+"), " "),
    (re.compile(r"\s*[–—]\s*|\s+--?\s+"), ", "),
    (re.compile(r"([!?,;:])\1+"), r"\1"),
    (re.compile(r"\.{4,}"), "..."),
    (re.compile(r"\(\s*\)|\"\s*\""), " "),
    (re.compile(r"\s+"), " "),
    (re.compile(r" +(?=[.,;:!?)])"), ""),
    (re.compile(r"(?<=[,;:])[,.](?!\d)"), ""),
)

# The unicode categories of emoji and their joiners, of other pictures and of what no font shows.
_SILENT_CATEGORIES = frozenset(("So", "Sk", "Cf", "Cc", "Cs", "Co", "Cn"))
_KEPT = frozenset("°\n\t")
_EMOJI_PARTS = frozenset("\ufe0e\ufe0f\u20e3")


def speakable(text: str, language: str = "en") -> str:
    """What a voice should say of `text`, which may be Markdown; "" where nothing is to be said.

    Code blocks, pictures, addresses' paths and emoji are not read. Symbols become English words
    for `language` "en"; the voices of other languages read those that they know.
    """
    english = language.partition("-")[0].lower() == "en"
    text = _CODE_BLOCK.sub("\n", html.unescape(text))
    text = _apply(_MARKUP, text)
    text = _ADDRESS.sub(_spoken_address if english else _bare_address, text)
    text = _join_lines(text)
    text = _apply(_EMPHASIS, text)
    text = "".join(map(_audible, text))
    if english:
        text = _apply(_ENGLISH, text)
    text = _apply(_LEFTOVERS, text).strip().lstrip(",;:.!?) ").strip()
    return text if any(map(str.isalnum, text)) else ""


def _apply(rules: tuple[_Rule, ...], text: str) -> str:
    for pattern, replacement in rules:
        text = pattern.sub(replacement, text)
    return text


def _bare_address(match: re.Match[str]) -> str:
    return match["address"] or match["mail"]


def _spoken_address(match: re.Match[str]) -> str:
    return re.sub(r"\.(?=\w)", " dot ", _bare_address(match)).replace("@", " at ")


def _join_lines(text: str) -> str:
    """One line of the lines of a text: every line that stands for itself ends in a full stop."""
    lines = text.split("\n")
    spoken = []
    for number, line in enumerate(lines):
        if _TABLE_RULE.match(line) or _RULER.match(line):
            continue
        stands_alone = number < len(lines) - 1 or _HEADING.match(line) is not None
        content = _LINE_START.sub("", line, count=1)
        content = _NUMBERED_ITEM.sub(r"\1, ", content).strip()
        if content.startswith("|") or content.endswith("|"):
            content = ", ".join(filter(None, map(str.strip, content.strip("|").split("|"))))
        bare = content.rstrip("*_`~ ")
        if stands_alone and bare and not _ENDS_AUDIBLY.search(bare):
            content = bare + "."
        spoken.append(content)
    return " ".join(filter(None, spoken))


def _audible(character: str) -> str:
    if character in _KEPT:
        return character
    if character in _EMOJI_PARTS or unicodedata.category(character) in _SILENT_CATEGORIES:
        return " " if unicodedata.category(character) in ("So", "Cc") else ""
    return character
