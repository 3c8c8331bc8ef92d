"""Signs and addresses: what is said for them, or that nothing is."""

from __future__ import annotations

import re
import unicodedata
from decimal import Decimal

from voices.spoken_text.amounts import Amounts
from voices.spoken_text.lexicon import Lexicon
from voices.spoken_text.scanning import Rule, rule

_ADDRESS = (
    r"(?:(?:https?|ftp)://(?:www\.)?|mailto:|www\.)(?P<address>[^\s<>()\[\]/?#,;]{1,200})"
    r"(?:[/?#](?:[^\s<>()\[\]]|\([^\s<>()]{0,100}\)){0,1000}?)?(?=[.,;:!?'\"]{0,3}(?:[\s<>)\[\]]|$))"
)
_MAIL = r"(?P<mail>[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,5})"
_DOMAIN = (
    r"(?<![\w@.])(?P<address>(?:[a-z0-9-]{1,63}\.){1,4}(?:com|org|net|edu|gov|io|de|fr|es|it|nl|uk|"
    r"eu|ai|dev|app|co))(?:/[\w./?=&%-]{0,200})?(?![\w@])"
)
_FACE = r"(?<!\w)(?:[:;=]-?[)(DPp]|[xX:]D)(?!\w)"
_HEART = re.compile(r"(?:\b[A-HJ-Zb-z]|\d|\))\s$")

# The Unicode categories of emoji and their joiners, of other pictures and of what no font shows.
_SILENT_CATEGORIES = frozenset(("So", "Sk", "Cf", "Cc", "Cs", "Co", "Cn"))
_KEPT = frozenset("°^`\n\t\u200c")
_EMOJI_PARTS = frozenset("\ufe0e\ufe0f\u20e3")
_SUBSCRIPTS = str.maketrans("₀₁₂₃₄₅₆₇₈₉", "0123456789")
_UNIT_SIGNS = frozenset("℃℉№")

_LEFTOVERS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"[/\\|^~@#<>{}\[\]=*_`•·∕]+"), " "),
    (re.compile(r"\s*[–—]\s*|\s+--?\s+"), ", "),
    (re.compile(r"([!?,;:])\1+"), r"\1"),
    (re.compile(r"\.{4,}"), "..."),
    (re.compile(r"\(\s*\)|\"\s*\"|“\s*”|«\s*»|「\s*」|『\s*』|（\s*）"), " "),
    (re.compile(r"\s+"), " "),
    (re.compile(r" (?=[.,;:!?)]+(?:[\s\"'”’]|$))"), ""),
    (re.compile(r"[,;:]+(?=[.!?](?!\w))"), ""),
    (re.compile(r"(?<=[,;:])[,.](?!\d)"), ""),
)


def without_pictures(text: str) -> str:
    """The text without emoji, control characters and what else no voice can say."""
    return "".join(map(_audible, text))


def without_leftovers(text: str) -> str:
    """The text without signs that nothing was said for; "" where nothing is left to say."""
    for pattern, replacement in _LEFTOVERS:
        text = pattern.sub(replacement, text)
    text = text.strip().lstrip(",;:.!?) ").strip()
    return text if any(map(str.isalnum, text)) else ""


def _audible(character: str) -> str:
    if character in _KEPT or character in _UNIT_SIGNS:
        return character
    category = unicodedata.category(character)
    if character in _EMOJI_PARTS or category in _SILENT_CATEGORIES:
        return " " if category in ("So", "Cc") else ""
    return character


class Symbols:
    """The rules of one language."""

    def __init__(self, amounts: Amounts, lexicon: Lexicon | None) -> None:
        self._amounts = amounts
        self._lexicon = lexicon
        self._is_english = amounts.language == "en"

    def addresses(self) -> list[Rule]:
        """For places where a letter or a digit begins, before all others."""
        return [
            rule(_ADDRESS, self._address, re.IGNORECASE),
            rule(rf"(?<![\w.+-]){_MAIL}", self._mail),
            rule(_DOMAIN, self._address),
        ]

    def faces(self) -> list[Rule]:
        """For places where a sign begins: faces and hearts made of signs."""
        return [rule(_FACE, lambda m: ""), rule(r"<3+(?![\w.])", self._heart)]

    def rules(self) -> list[Rule]:
        """For places where a sign begins."""
        rules = [rule(r"[%‰]", self._percent)]
        words = self._lexicon
        if words is None:
            return rules

        def minus(match: re.Match[str]) -> str:
            return f" {words.minus} "

        return [
            *rules,
            rule(r"#(?=\d)", lambda m: f"{words.number} "),
            rule(r"#(?=\w)", lambda m: "hashtag " if self._is_english else ""),
            rule(r"(?<![\w.])\.(?=[A-Za-z]{2})", lambda m: f" {words.dot} "),
            rule(r"§\s?(?=\d)", self._section),
            rule(r"№\s?", lambda m: f"{words.number} "),
            rule(r"&{1,2}", lambda m: f" {words.conjunction} "),
            rule(r"\+-|\+/-|±", lambda m: f" {words.plus_minus} "),
            rule(r"\+(?=\s?[\w(√])|(?<=\w)\s?\+(?!/?-)|\+(?=\s)", lambda m: f" {words.plus} "),
            rule(r"≠|!=", lambda m: f" {words.not_equal} "),
            rule(r"(?:<=|≤)", lambda m: f" {words.at_most} "),
            rule(r"(?:>=|≥)", lambda m: f" {words.at_least} "),
            rule(r"(?:→|->|=>|⇒)", lambda m: f" {words.to} "),
            rule(r"==?|＝", lambda m: f" {words.equals} "),
            rule(r"(?<=\d)\s?\*\s?(?=\d)|[×·⋅](?=\s?[\w(√])", lambda m: f" {words.times} "),
            rule(r"÷|(?<=[\d)] )/(?= [\d(])", lambda m: f" {words.divided_by} "),
            rule(r"∕", self._over),
            rule(r"√\s?", lambda m: f" {words.root} "),
            rule(r"<(?=\s?[\w.$€£])", lambda m: f" {words.less} "),
            rule(r">(?=\s?[\w.$€£])", lambda m: f" {words.greater} "),
            rule(r"(?<!\w)~\s?(?=[\d$€£])|[≈∼]", lambda m: f" {words.about} "),
            rule(r"(?<=\w)\s?@\s?(?=\w)", lambda m: f" {words.at} "),
            rule(r"(?<=[\w)])\^\s?\{?([^{}\s]{1,40})\}?", self._raised),
            rule(r"[₀-₉]{1,9}", lambda m: f" {m[0].translate(_SUBSCRIPTS)}"),
            rule(r"[²³]", lambda m: self._power("2" if m[0] == "²" else "3")),
            rule(r"°", lambda m: f" {self._degrees} "),
            rule(r"[∞∑∫∏]", self._mathematical),
            rule(r"−\s?", minus),
            rule(r"(?<=[=(±×÷+] )[-–](?=[A-Za-z(]\b)|(?<=[=(±×÷+])[-–](?=[A-Za-z(])", minus),
            rule(r"(?:(?<=\))|(?<=[²³])|(?<=\^\d)|(?<=\^\w))\s[-–]\s(?=[\w(])", minus),
        ]

    @property
    def _degrees(self) -> str:
        return self._amounts.unit_name("°", Decimal(5))

    def _address(self, match: re.Match[str]) -> str:
        return self._dotted(match["address"])

    def _mail(self, match: re.Match[str]) -> str:
        return self._dotted(match["mail"])

    def _dotted(self, address: str) -> str:
        words = self._lexicon
        if words is None:
            return address
        return re.sub(r"\.(?=\w)", f" {words.dot} ", address).replace("@", f" {words.at} ")

    def _heart(self, match: re.Match[str]) -> str | None:
        """ "I <3 you" is a heart, "x <3" a comparison."""
        before = match.string[max(0, match.start() - 3) : match.start()]
        if _HEART.search(before):
            return None
        said = "love" if self._is_english and re.search(r"\S\s$", before) else ""
        return said if match.string[match.end() :].strip(" .!?") else ""

    def _percent(self, match: re.Match[str]) -> str:
        name = self._amounts.unit_name(match[0], Decimal(5))
        return f" {name}" if name and self._lexicon else match[0]

    def _over(self, match: re.Match[str]) -> str | None:
        assert self._lexicon is not None
        return " " + self._lexicon.over.format(above="", below="").strip() + " "

    def _raised(self, match: re.Match[str]) -> str:
        exponent = match[1]
        if exponent in ("2", "3"):
            return self._power(exponent)
        assert self._lexicon is not None
        sign = exponent[0] in "-−"
        said = f"{self._lexicon.minus} {exponent[1:]}" if sign else exponent
        return " " + self._lexicon.power.format(base="", exponent=said).strip()

    def _power(self, exponent: str) -> str:
        assert self._lexicon is not None
        form = self._lexicon.squared if exponent == "2" else self._lexicon.cubed
        return " " + form.format(base="").strip()

    def _section(self, match: re.Match[str]) -> str:
        return {"en": "section ", "de": "Paragraph "}.get(self._amounts.language, "")

    def _mathematical(self, match: re.Match[str]) -> str:
        names = {"∞": "infinity", "∑": "the sum of", "∫": "the integral of", "∏": "the product of"}
        return f" {names[match[0]]} " if self._is_english else " "
