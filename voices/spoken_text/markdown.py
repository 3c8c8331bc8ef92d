"""Markdown to plain text: what its marks mean to a listener is kept, the marks are not.

A piece of a reply is read by itself, so emphasis may begin in one piece and end in another: marks
that have no partner are dropped like those that have.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import zip_longest

from markdown_it import MarkdownIt
from markdown_it.rules_inline import StateInline
from markdown_it.token import Token
from mdit_py_plugins.dollarmath import dollarmath_plugin

from voices.spoken_text.formulas import BARE
from voices.spoken_text.formulas import plain as plain_formula

_LINE_MARK = re.compile(r"^[ \t]*(?:>[ \t]*)+(?=[\d.]+\s*\S)", re.MULTILINE)
_TABLE_RULE = re.compile(r"^\s*\|?\s*:?-{2,}:?\s*(?:\|\s*:?-*:?\s*){0,40}$")
_RULER = re.compile(r"^\s*(?:[-*_=]\s*){3,}$")
_ENDS_AUDIBLY = re.compile(r"[.,;:!?…。！？،؟।]['\"”’)\]]*$")
_CHECKBOX = re.compile(r"^\[[ xX]\]\s+")
_BULLET = re.compile(r"^[•◦▪‣]\s*")

_REFERENCE_LINK = re.compile(r"!?\[([^\[\]]{1,200})\]\[[^\[\]]{0,200}\]")
_FOOTNOTE = re.compile(r"\[\^?\d{1,3}\]|\[\^\w{1,20}\]")
_STRAY_MARKS = re.compile(
    r"(?<=\d)\s?\*\s?(?=\d)(?P<times>)|(?<=\s)\*(?=\s)(?P<alone>)|\*+|~~|`+|(?<!\w)_+|_+(?!\w)"
)
_TAG = re.compile(r"</?\s*([A-Za-z][\w.-]*)[^<>]*>|<!.*?>|<\?.*?>", re.DOTALL)
_TAG_WORD = re.compile(r"\s+(?:tags?|elements?|Tags?|Elemente?n?|balises?|etiquetas?)\b")

_BREAKS = frozenset(["br", "hr", "p", "li", "tr", "div"])
# Tags that models write to shape text, and never to speak of them when they touch a word.
_SHAPING = frozenset(
    [
        "a",
        "abbr",
        "b",
        "big",
        "br",
        "center",
        "cite",
        "code",
        "del",
        "em",
        "font",
        "hr",
        "i",
        "img",
        "ins",
        "kbd",
        "li",
        "mark",
        "ol",
        "p",
        "q",
        "s",
        "small",
        "span",
        "strike",
        "strong",
        "sub",
        "summary",
        "details",
        "sup",
        "table",
        "tbody",
        "td",
        "th",
        "thead",
        "tr",
        "tt",
        "u",
        "ul",
        "var",
    ]
)


def plain(text: str) -> str:
    """One line of the lines of `text`; every line that stands for itself ends in a full stop."""
    text = _LINE_MARK.sub(lambda m: m[0].replace(">", "\\>"), text)
    lines = [(line.strip(), ended) for line, ended in _lines(_PARSER.parse(text))]
    spoken = []
    for number, (line, ended) in enumerate(lines):
        if not line or _TABLE_RULE.match(line) or _RULER.match(line):
            continue
        line = _BULLET.sub("", _CHECKBOX.sub("", line))
        if line.startswith("|") or line.endswith("|"):
            line = ", ".join(filter(None, map(str.strip, line.strip("|").split("|"))))
        stands_alone = ended or number < len(lines) - 1 or text.endswith("\n")
        if stands_alone and line and not _ENDS_AUDIBLY.search(line):
            line += "."
        spoken.append(line)
    return " ".join(filter(None, spoken))


def _lines(tokens: list[Token]) -> Iterator[tuple[str, bool]]:
    """Each line of the text, and whether it ends by its own form, as a heading does."""
    marker = ""
    heading = False
    for token in tokens:
        if token.type == "list_item_open" and token.info:
            # "2024. It was" is a sentence's end, cut off from its sentence.
            marker = f"{token.info}, " if len(token.info) <= 3 else f"{token.info}. "
        elif token.type == "list_item_close" and marker:
            yield marker.rstrip(", ") + ".", False
            marker = ""
        elif token.type == "heading_open":
            heading = True
        elif token.type == "heading_close":
            heading = False
        elif token.type in ("math_block", "math_block_label"):
            yield plain_formula(token.content), False
        elif token.type == "inline":
            *first, last = (marker + _inline(token.children or [])).split("\n")
            marker = ""
            yield from ((line, False) for line in first)
            yield last, heading


def _inline(tokens: list[Token]) -> str:
    parts = []
    for token, following in zip_longest(tokens, tokens[1:]):
        if token.type == "text":
            parts.append(_text(token.content))
        elif token.type == "code_inline":
            parts.append(token.content)
        elif token.type in ("math_inline", "math_inline_double"):
            parts.append(plain_formula(token.content))
        elif token.type == "image":
            parts.append(_inline(token.children or []) or token.content)
        elif token.type in ("softbreak", "hardbreak"):
            parts.append("\n")
        elif token.type == "html_inline":
            before = parts[-1] if parts else ""
            parts.append(_tag(token.content, before, following))
    return "".join(parts)


def _text(text: str) -> str:
    text = _FOOTNOTE.sub("", _REFERENCE_LINK.sub(r"\1", text))
    return _STRAY_MARKS.sub(_stray, text)


def _stray(match: re.Match[str]) -> str:
    if match["times"] is not None:
        return " × "
    return "*" if match["alone"] is not None else ""


def _tag(tag: str, before: str, following: Token | None) -> str:
    """Nothing for a tag that shapes the text; its name where the text is about it."""
    match = _TAG.fullmatch(tag)
    if match is None or match[1] is None:
        return " "
    name = match[1].lower()
    after = following.content if following is not None and following.type == "text" else ""
    if name in _SHAPING:
        stands_alone = (not before or before[-1:].isspace()) and after[:1].isspace()
        is_spoken_of = _TAG_WORD.match(after) is not None
        if not is_spoken_of and (not stands_alone or name in _BREAKS or tag.startswith("</")):
            return "\n" if name in ("br", "hr", "p", "li", "tr") and before else " "
        if not is_spoken_of:
            return " "
    return f" {match[1]} "


def _power(state: StateInline, silent: bool) -> bool:
    """`2**10` and `x**2` are powers, no emphasis."""
    match = _POWER.match(state.src, state.pos - 1) if state.pos else None
    if match is None or match.end() > state.posMax:
        return False
    if not silent:
        state.pending += "^"
    state.pos += 2
    return True


def _product(state: StateInline, silent: bool) -> bool:
    """`3*4*5` is a product, no emphasis."""
    match = _PRODUCT.match(state.src, state.pos - 1) if state.pos else None
    if match is None or match.end() > state.posMax:
        return False
    if not silent:
        state.pending += " × "
    state.pos += 1
    return True


def _bracket_math(state: StateInline, silent: bool) -> bool:
    r"""LaTeX's own `\(...\)` and `\[...\]`, which Markdown takes for escaped brackets."""
    match = _BRACKET_MATH.match(state.src, state.pos)
    if match is None or match.end() > state.posMax:
        return False
    if not silent:
        token = state.push("math_inline", "math", 0)
        token.content = match[1] if match[1] is not None else match[2]
    state.pos = match.end()
    return True


def _bare_math(state: StateInline, silent: bool) -> bool:
    r"""`\frac{1}{2}` and the like, which a model wrote without dollars around it."""
    match = _BARE_MATH.match(state.src, state.pos)
    if match is None or match.end() > state.posMax:
        return False
    if not silent:
        token = state.push("math_inline", "math", 0)
        token.content = match[0]
    state.pos = match.end()
    return True


_BARE_MATH = re.compile(BARE + r"(?:\{[^{}]{0,60}\}){0,2}")
_POWER = re.compile(r"(?:\d|\)|(?<![^\W_])[A-Za-z])\*\*(?=-?\d|[a-z]\b)")
_PRODUCT = re.compile(r"\d\*(?=\d)")
_BRACKET_MATH = re.compile(r"\\\((.{1,400}?)\\\)|\\\[(.{1,400}?)\\\]", re.DOTALL)


def _parser() -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"html": True}).enable("strikethrough")
    # What Markdown makes of indented lines, underlined ones and raw blocks is too far from speech.
    parser.disable(["code", "lheading", "html_block", "reference"])
    dollarmath_plugin(parser, allow_space=False, allow_digits=False, double_inline=True)
    parser.inline.ruler.before("escape", "bracket_math", _bracket_math)
    parser.inline.ruler.before("escape", "bare_math", _bare_math)
    parser.inline.ruler.before("emphasis", "power", _power)
    parser.inline.ruler.before("power", "product", _product)
    return parser


_PARSER = _parser()
