"""What of a language model's text is said: one filter for all models. Pure.

`clean` is the rule, for a whole text or for a beginning of one: no thinking, no role label at the
start, no second role, no sentence twice. What a beginning gives is certain: it is the beginning of
what every longer text gives. `ReplyFilter` applies it to a stream, wherever that is cut, and ends a
reply that ran out of tokens with its last whole sentence.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from language_models.thinking import without_thinking

# Names under which models begin their own lines, as they were trained on transcripts.
_OWN_LABELS = frozenset(
    {
        *("a", "ai", "answer", "assistant", "bot", "chatbot", "model", "output", "reply"),
        *("response", "antwort", "assistent", "asistente", "assistente", "respuesta", "réponse"),
    }
)
# A line that begins so is another turn of the conversation, which the model goes on inventing.
_OTHER_LABELS = frozenset({"user", "human", "question", "q", "person", "assistant", "ai"})
_LONGEST_LABEL = 24  # characters, with the marks around it

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_SENTENCE_END = re.compile(r"[.!?…]+[\"'”’»)\]*_]*(?=\s|\Z)|[。！？]+[」』”’）]*|\n+")
_NO_END = re.compile(
    r"(?:\b(?:Dr|Mr|Mrs|Ms|Prof|St|vs|approx|bzw|ca|Hr|Fr|Sra?|Mme|[^\W\d_])"
    r"|\b(?:\w\.)+\w|\A\s*\d{1,3})\.\Z"
)
_NUMBERED = re.compile(r"\b(?:[Nn]o|[Nn]r)\.\s+\d")
_WORD = re.compile(r"\w+(?:['’]\w+)*")


@dataclass(frozen=True)
class Clean:
    """`text` may be said. `ended`: nothing that comes after it will be."""

    text: str
    thinking: bool = False
    thought: bool = False
    opened_before: bool = False
    ended: bool = False


def clean(raw: str, *, complete: bool, cut: bool = False) -> Clean:
    """What may be said of a model's text, of which more may come unless it is `complete`."""
    parts = without_thinking(_well_formed(raw, complete), complete=complete, cut=cut)
    text = _without_label(parts.reply, complete)
    text, second_role = _until_second_role(text, complete)
    text, repeated = _until_repetition(text, complete or second_role)
    ended = second_role or repeated
    return Clean(text.rstrip(), parts.thinking, parts.thought, parts.opened_before, ended)


class ReplyFilter:
    """Turns the pieces of a model's stream into what is said, and `text` into all of it.

    A reply that was cut at its last token ends with its last whole sentence, so `text` may be less
    than what went out. From half of the `max_tokens` on only whole sentences go out, which makes
    that rare. (By then the voice has much to say still.)
    """

    def __init__(self, max_tokens: int) -> None:
        self._max_tokens = max_tokens
        self._raw = ""
        self._made = 0  # pieces of the reply, which are about its tokens
        self._so_far = Clean("")
        self._thought = self._thinking = False
        self.text = ""

    @property
    def thinking(self) -> bool:
        """Whether the model thinks just now."""
        return self._thinking

    @property
    def ended(self) -> bool:
        """The model need not go on: nothing more would be said."""
        return self._so_far.ended or self._made >= self._max_tokens

    @property
    def thought(self) -> bool:
        """Whether the model has thought at all."""
        return self._thought or self._so_far.thought

    def think(self) -> None:
        """The model thinks, apart from its text."""
        self._thought = self._thinking = True

    def push(self, piece: str) -> str:
        """What may be said now, after one more piece."""
        self._raw += piece
        self._so_far = so_far = clean(self._raw, complete=False)
        self._thinking = so_far.thinking
        self._made += bool(so_far.text)
        text = so_far.text
        if 2 * self._made >= self._max_tokens:
            text = text[: max(last_sentence_end(text, False), len(self.text))]
        return self._let_out(text)

    def finish(self, *, cut: bool) -> str:
        """What is left, once nothing more comes; `cut`: as no token was left for it."""
        cut = cut or (self._made >= self._max_tokens and not self._so_far.ended)
        self._so_far = done = clean(self._raw, complete=True, cut=cut)
        text = done.text
        if cut and not done.ended:
            text = self._whole_sentences(text)
        return self._let_out(text)

    def why_empty(self, *, cut: bool) -> str:
        """The sentence for a person whose question got no words in answer."""
        if self.thought and cut:
            return (
                f"The language model spent all its {self._max_tokens} tokens on thinking and gave "
                "no answer: switch its thinking off, or raise --max_new_tokens."
            )
        if self.thought:
            return "The language model thought about it and then gave no answer. Please ask again."
        return "The language model gave an empty answer. Please ask in other words."

    def _whole_sentences(self, text: str) -> str:
        """`text` up to its last whole sentence, or to the last whole word if it has none."""
        if end := last_sentence_end(text, True):
            return text[:end]
        return text.rpartition(" ")[0] or text

    def _let_out(self, text: str) -> str:
        """Take `text` for the whole reply so far; what of it is new."""
        before, self.text = self.text, text
        if text.startswith(before):
            return text[len(before) :]
        return "" if before.startswith(text) else text


def last_sentence_end(text: str, complete: bool) -> int:
    """Where the last whole sentence of a text ends; 0 if it has none."""
    ends = [end for _, end, whole in _sentences(text, complete, closed=False) if whole]
    return ends[-1] if ends else 0


def _well_formed(raw: str, complete: bool) -> str:
    """Without control characters and halves of characters, which no channel and no voice takes.

    A server may send the two halves of an emoji (a surrogate pair) in two pieces.
    """
    if not complete and raw and "\ud800" <= raw[-1] <= "\udbff":
        raw = raw[:-1]
    if any("\ud800" <= letter <= "\udfff" for letter in raw):
        raw = raw.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return _CONTROL.sub("", raw)


def _label(text: str) -> str:
    return text.strip("*_# \t").casefold()


def _may_become(start: str, labels: frozenset[str]) -> bool:
    name = _label(start)
    return len(start) <= _LONGEST_LABEL and any(label.startswith(name) for label in labels)


def _without_label(text: str, complete: bool) -> str:
    """Without role labels at the start: "A: ", "**Assistant:** "."""
    while True:
        text = text.lstrip()
        name, colon, rest = text.partition(":")
        if not colon:
            return "" if not complete and _may_become(text, _OWN_LABELS) else text
        if len(name) > _LONGEST_LABEL or _label(name) not in _OWN_LABELS:
            return text
        text = rest.lstrip("*_")


def _until_second_role(text: str, complete: bool) -> tuple[str, bool]:
    """Up to a line that begins as another turn of the conversation; whether there was one."""
    for newline in re.finditer(r"\n\s*", text):
        name, colon, _ = text[newline.end() :].partition(":")
        if colon and len(name) <= _LONGEST_LABEL and _label(name) in _OTHER_LABELS:
            return text[: newline.start()], True
        if not colon and not complete and _may_become(name, _OTHER_LABELS):
            return text[: newline.start()], False
    return text, False


def _until_repetition(text: str, complete: bool) -> tuple[str, bool]:
    """Up to a sentence that was said before, word for word; whether there was one.

    One word may be said twice in a row ("No. No!"). A sentence that begins as an earlier one did
    waits until it goes on otherwise.
    """
    said: list[str] = []
    for start, end, whole in _sentences(text, complete):
        words = " ".join(_WORD.findall(text[start:end].casefold()))
        if not whole and not complete and any(earlier.startswith(words) for earlier in said):
            return text[:start], False
        if whole and words and said.count(words) >= (1 if " " in words else 2):
            return text[:start], True
        said.append(words)
    return text, False


def _sentences(text: str, complete: bool, closed: bool = True) -> Iterator[tuple[int, int, bool]]:
    """Start and end of each sentence, and whether it is whole.

    A mark at the very end of a text that is not complete may be within a number or a word. Of a
    complete text the last sentence is whole also without a mark if `closed`.
    """
    start = 0
    for mark in _SENTENCE_END.finditer(text):
        if mark.end() == len(text) and not complete and mark.group()[-1] not in "。！？\n":
            break
        if mark.group()[0] == "." and _within_sentence(text, start, mark.start()):
            continue
        yield start, mark.end(), True
        start = mark.end()
    if text[start:].strip():
        yield start, len(text), complete and closed


def _within_sentence(text: str, start: int, stop: int) -> bool:
    """Whether the full stop at `stop` follows an abbreviation, an initial or an item's number."""
    if _NO_END.search(text[start : stop + 1]):
        return True
    word = max(start, stop - 2)
    return _NUMBERED.match(text, word) is not None
