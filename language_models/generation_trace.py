"""What an operator sees of one generation: how long it waited, its first token, its end."""

from __future__ import annotations

import time

from fusion import tracing


class GenerationTrace:
    """The spans of a generation, which begins to wait now.

    `parent` is the turn's context, empty where nothing is traced.
    """

    def __init__(self, parent: str, *, speculative: bool) -> None:
        self._since = time.monotonic()
        self._span = tracing.begin("reply", self._since, parent)
        self._span.note(speculative=speculative)
        self.context = self._span.context

    def started(self) -> None:
        """Its turn came: the model begins."""
        self._until_now("queue")

    def first_text(self) -> None:
        """The first piece of its text is there."""
        self._until_now("first token")

    def end(self, ending: str, pieces: int) -> None:
        """It is complete, stopped or failed, after so many pieces of text."""
        self._span.end(time.monotonic(), ending=ending, pieces=pieces)

    def _until_now(self, name: str) -> None:
        began, self._since = self._since, time.monotonic()
        tracing.span(name, began, self._since, self.context)
