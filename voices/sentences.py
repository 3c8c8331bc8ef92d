"""From a growing reply to clauses that a voice can say: where to cut.

Pure text, no I/O. `ClauseSplitter` decides what is spoken together, `said_part` tells how much of a
clause was played. What is said of a clause is decided in `voices.spoken_text`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import IntEnum

from voices.spoken_text.abbreviations import NUMBERED, table

LONGEST_CLAUSE = 250
"""Characters. Voices lose their melody, and listeners their patience, in longer ones."""


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


class _Cut(IntEnum):
    """How well a text can be cut between two of its words."""

    NEVER = 0
    WORD = 1
    JOINT = 2
    PAUSE = 3
    SENTENCE = 4


# Words that the first, the second and every later clause needs before it may end in such a place.
# The first is short so that sound starts early; the others have its sound to hide behind.
_WORDS_NEEDED = {_Cut.SENTENCE: (1, 4, 4), _Cut.PAUSE: (3, 6, 15), _Cut.JOINT: (6, 12, 30)}

_JOINTS = _set(
    "and or but nor so yet because although though while when where which who whose that if unless "
    "until since as than with without for from to into onto in on at by about after before "
    "between during through under over against around among across behind"
)
_LOOKAHEAD = 1 + max(map(len, _JOINTS))

# After these a full stop ends a sentence only before a capital letter.
_OPEN_ENDED = frozenset(("etc", "a.m", "p.m", "usw", "ecc", "enz", "itd", "itp"))
# In these languages a full stop makes a number an ordinal: "6. Mai".
_DOTTED_ORDINALS = frozenset(("cs", "da", "de", "fi", "hr", "hu", "nb", "sk"))
_DOTTED = re.compile(r"(?:[a-z]{1,2}\.)+[a-z]{1,2}")

_OPENERS = "\"'“‘«([*_`"
_CLOSERS = "\"'”’»)]*_`"
_NEVER_FIRST = frozenset(".,;:!?)]}…%°”’、。！？，；」』）")
_FULL_WIDTH = "。！？，、；"
_PLACE = re.compile(rf"(?<=\s)(?=\S)|(?<=[{_FULL_WIDTH}])(?=\S)")
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\W_]+(?:['’.,:@/-][^\W_]+)*")
_MARKER = re.compile(r"^[ \t>]*(?:[-*+•#]+|\d{1,3}[.)]|[A-Za-z][.)])(?=\s|\Z)", re.MULTILINE)
_FENCE = "```"

# What must stay whole to be understood: code, formulas and tags, while they are open.
_SPAN = re.compile(
    r"`[^`\n]*`|\$\$[^$]*\$\$|\$[^\s\d$](?:[^$\n]*[^\s$])?\$(?!\d)|\\\(.*?\\\)|\\\[.*?\\\]",
    re.DOTALL,
)
_OPEN_SPAN = re.compile(
    r"(?:`[^`\n]{0,100}|\$\$[^$]{0,150}|\$(?=\\|[A-Za-z](?![A-Za-z]{2})|[({|-])[^$\n]{0,120}"
    r"|\\\([^\n]{0,120}|\\\[[^\n]{0,150}|</?[A-Za-z][^<>\n]{0,100})\Z"
)
_OPERATORS = frozenset("+=×÷*/<>≤≥≈≠±^−")
_OPERAND = re.compile(r"(?:[\d)²³%]|(?<![^\W_])[B-HJ-Zb-z])\Z")


class ClauseSplitter:
    """Cuts one reply into clauses while it is being written.

    The pieces, joined, are the reply exactly; each keeps the white space after it. They depend on
    the text alone, never on how it was fed. A code block is one piece, however long; any other
    piece has at most `LONGEST_CLAUSE` characters beside the white space around it.
    """

    def __init__(self, language: str = "en") -> None:
        """`language` is that of the reply, as a code such as "de": it decides the abbreviations."""
        self._abbreviations = _abbreviations(language)
        self._rest = ""
        self._count = 0

    def feed(self, text: str) -> list[str]:
        """Add text; return the clauses that it completed."""
        self._rest += text
        return self._take(finished=False)

    def finish(self) -> list[str]:
        """The reply is complete: return all that is left."""
        pieces = self._take(finished=True)
        if self._rest:
            pieces.append(self._rest)
            self._rest = ""
        return pieces

    def _take(self, finished: bool) -> list[str]:
        pieces = []
        while (cut := self._find_cut(finished)) is not None:
            pieces.append(self._rest[:cut])
            self._rest = self._rest[cut:]
            self._count += 1
        return pieces

    def _find_cut(self, finished: bool) -> int | None:
        return _find_cut(self._rest, self._count, finished, self._abbreviations)


def said_part(text: str, fraction: float) -> str:
    """The leading whole words of a clause of whose sound only `fraction` (0 to 1) was sent.

    Assumes that every character takes the same time, which is near enough for whole words.
    """
    if fraction >= 1:
        return text
    said = fraction * len(text.rstrip())
    end = max((m.end() for m in re.finditer(r"\S+", text) if m.end() <= said), default=0)
    return text[:end]


def _abbreviations(language: str) -> frozenset[str]:
    """The letters before full stops that end no sentence."""
    names = table(language)
    if language in _DOTTED_ORDINALS:
        names = {**names, **{str(day): "" for day in range(1, 32)}}
    return frozenset(part for name in names for part in name.split()) - _OPEN_ENDED


def _find_cut(text: str, index: int, finished: bool, abbreviations: frozenset[str]) -> int | None:
    """Where the clause number `index`, which `text` begins with, ends; None: not known yet.

    Looks at the places in order, and at each only as far ahead as its decision needs, so that more
    text never changes an answer.
    """
    if text.lstrip().startswith(_FENCE):
        return _fence_end(text)
    for at in _places(text):
        before, ahead = text[:at], text[at:]
        if ahead[:3] == _FENCE and before.strip():
            return at
        quality = _cut_quality(text, at, abbreviations)
        words = _count_words(before)
        next_word_is_known = finished or len(ahead) >= _LOOKAHEAD or len(ahead.split(None, 1)) > 1
        is_settled = next_word_is_known or quality not in (_Cut.WORD, _Cut.JOINT)
        if is_settled and words >= _words_needed(quality, index):
            return at
    longest = _start(text) + LONGEST_CLAUSE
    is_too_long = len(text.rstrip()) > longest
    if is_too_long and len(text) > longest + (0 if finished else _LOOKAHEAD):
        return _forced_cut(text, abbreviations)
    return None


def _start(text: str) -> int:
    """Where the first word begins."""
    return len(text) - len(text.lstrip())


def _places(text: str) -> Iterator[int]:
    """Indices among the first `LONGEST_CLAUSE` characters at which another word begins."""
    start = _start(text)
    return (m.start() for m in _PLACE.finditer(text, start + 1, start + LONGEST_CLAUSE + 1))


def _fence_end(text: str) -> int | None:
    """Where the text after a leading code block begins; None: not there yet."""
    closing = text.find(_FENCE, text.index(_FENCE) + len(_FENCE))
    after = re.compile(r"\S").search(text, closing + len(_FENCE)) if closing >= 0 else None
    return after.start() if after else None


def _forced_cut(text: str, abbreviations: frozenset[str]) -> int:
    """The best place in a text that is too long and has no good one."""
    places = list(_places(text))
    late = [at for at in places if at > LONGEST_CLAUSE // 3] or places
    if late:
        return max(late, key=lambda at: (_cut_quality(text, at, abbreviations), at))
    in_a_word = _start(text) + LONGEST_CLAUSE
    return len(text) - len(text[in_a_word:].lstrip())


def _words_needed(quality: _Cut, index: int) -> float:
    needed = _WORDS_NEEDED.get(quality)
    return needed[min(index, len(needed) - 1)] if needed else float("inf")


def _count_words(text: str) -> int:
    return len(_WORD.findall(_MARKER.sub("", text)))


def _cut_quality(text: str, at: int, abbreviations: frozenset[str]) -> _Cut:
    """How well `text` can be cut at `at`, where a word begins.

    Pauses and sentences show in the first character of that word; a joint takes all of it.
    """
    before = text[:at].rstrip()
    first = text[at]
    words = before.split()
    if not words or first in _NEVER_FIRST or before.count("[") > before.count("]"):
        return _Cut.NEVER
    if _is_in_span(before):
        return _Cut.NEVER
    if "\n" in text[len(before) : at]:
        return _Cut.SENTENCE
    if _is_in_term(words, first):
        return _Cut.NEVER
    word = words[-1].lstrip(_OPENERS).rstrip(_CLOSERS)
    match word[-1:]:
        case "?" | "!" | "…" | "。" | "！" | "？":
            return _Cut.PAUSE if first.islower() else _Cut.SENTENCE
        case ".":
            return _after_full_stop(words, word, first, abbreviations)
        case "," | ";" | ":" | "–" | "—" | "，" | "、" | "；":
            return _after_pause(word, first)
        case "-" if word == "-":
            return _Cut.PAUSE
    return _between_words(word, text[at : at + _LOOKAHEAD].split()[0])


def _is_in_span(before: str) -> bool:
    """Whether code, a formula or a tag has begun and not ended."""
    if not any(mark in before for mark in "`$\\<"):
        return False
    return _OPEN_SPAN.search(_SPAN.sub("", before)) is not None


def _is_in_term(words: list[str], first: str) -> bool:
    """Whether the place is beside an operator: "8 - 3 = 5"."""
    if first in _OPERATORS or words[-1] in _OPERATORS:
        return True
    is_dash_next = first in "-–" and words[-1][-1:].isdigit()
    if is_dash_next or words[-1] not in ("-", "–") or len(words) < 2:
        return is_dash_next
    return _OPERAND.search(words[-2]) is not None and (first.isalnum() or first in "($€£.√\\")


def _after_full_stop(
    words: list[str], word: str, first: str, abbreviations: frozenset[str]
) -> _Cut:
    if word.endswith("..."):
        return _Cut.PAUSE if first.islower() else _Cut.SENTENCE
    core = word[:-1].lower()
    if core in _OPEN_ENDED:
        return _Cut.SENTENCE if first.isupper() else _Cut.NEVER
    is_number = core in NUMBERED and first.isdigit()
    if core in abbreviations or is_number or _DOTTED.fullmatch(core) or _is_initial(words, core):
        return _Cut.NEVER
    return _Cut.WORD if first.islower() else _Cut.SENTENCE


def _is_initial(words: list[str], core: str) -> bool:
    """Whether a full stop follows an initial, as in "J. R. R. Tolkien"; not in "So do I."."""
    if len(core) != 1 or not core.isalpha():
        return False
    after_initial = len(words) > 1 and re.fullmatch(r"[^\W\d_]\.", words[-2]) is not None
    return core != "i" or after_initial or len(words) == 1


def _after_pause(word: str, first: str) -> _Cut:
    if word.lower() in ("e.g.,", "i.e.,"):
        return _Cut.NEVER
    in_number = first.isdigit() and word[-2:-1].isdigit()
    return _Cut.NEVER if in_number else _Cut.PAUSE


def _between_words(word: str, following: str) -> _Cut:
    in_number = word[-1:].isdigit() and following[0].isdigit()
    in_name = word[:1].isupper() and following[0].isupper()
    if in_number or in_name:
        return _Cut.NEVER
    return _Cut.JOINT if following.strip(_OPENERS + _CLOSERS).lower() in _JOINTS else _Cut.WORD
