"""Token ids in, text out, as they come: never half a character."""

from __future__ import annotations

from collections.abc import Callable, Sequence

REPLACEMENT = "\ufffd"


class Detokenizer:
    """Turn a growing list of token ids into pieces of text that add up to the whole.

    One token may be part of a character (byte-level vocabularies) and may lose its leading space
    when it is decoded alone (SentencePiece), so each piece is the difference between two decodings
    that begin at the same, earlier token. That start moves on with the text, so a long reply costs
    no more for each token than a short one.

    `decode` turns ids into text and writes U+FFFD for bytes that are no character (yet).
    """

    def __init__(self, decode: Callable[[Sequence[int]], str]) -> None:
        self._decode = decode
        self._ids: list[int] = []
        self._start = 0
        self._shown = 0

    def push(self, ids: Sequence[int]) -> str:
        """The text that became certain with these further tokens; may be empty."""
        self._ids.extend(ids)
        before = self._decode(self._ids[self._start : self._shown])
        now = self._decode(self._ids[self._start :])
        if len(now) <= len(before) or now.endswith(REPLACEMENT):
            return ""
        self._start, self._shown = self._shown, len(self._ids)
        return now[len(before) :]

    def finish(self) -> str:
        """What is left when no more tokens come, without a character that was cut short."""
        before = self._decode(self._ids[self._start : self._shown])
        now = self._decode(self._ids[self._start :]).rstrip(REPLACEMENT)
        self._start = self._shown = len(self._ids)
        return now[len(before) :]
