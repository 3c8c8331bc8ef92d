"""One pass of a language model over a prompt: what is said of its text, and what it calls."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterator

from fusion.errors import ModelError
from fusion.tools import ToolCall
from language_models.base import (
    THINKING,
    Cancellation,
    Finish,
    GenerationRequest,
    LanguageModel,
    Thinking,
)
from language_models.library_errors import guarded_stream
from language_models.reply_filter import ReplyFilter
from language_models.tool_text import ToolCallFilter

MOST_CALLS = 4
"""Calls in one pass; what a model wants beyond them is not done."""


class Reading:
    """Reads one stream to its end. `text` and `calls` are what came of it."""

    def __init__(
        self,
        model: LanguageModel,
        request: GenerationRequest,
        cancellation: Cancellation,
        max_tokens: int,
    ) -> None:
        """`max_tokens` is for what is said; the request may have more, for calls."""
        self._model = model
        self._request = request
        self._cancellation = cancellation
        self._reply = ReplyFilter(max_tokens)
        self._written = ToolCallFilter([tool.name for tool in request.tools])
        self.calls: tuple[ToolCall, ...] = ()

    @property
    def text(self) -> str:
        return self._reply.text

    @property
    def wants_to_call(self) -> bool:
        """Whether a call began of which nothing came."""
        return self._written.began and not self.calls

    def pieces(self) -> Iterator[str | Thinking]:
        """What may be said, as it comes; THINKING while the model thinks.

        Nothing more comes once it was cancelled. Raises ModelError where nothing came of a prompt
        without tools: with them, there is another try.
        """
        made: list[ToolCall] = []
        cut = yield from self._read(made)
        if self._cancellation.requested:
            return
        rest, found = self._written.finish()
        self.calls = tuple(made or found)[:MOST_CALLS] if self._request.tools else ()
        cut = cut and not self.calls
        if words := self._push(rest) + self._reply.finish(cut=cut):
            yield words
        if not self.text and not self.calls and not self._request.tools:
            raise ModelError(self._reply.why_empty(cut=cut))

    def _read(self, made: list[ToolCall]) -> Generator[str | Thinking, None, bool]:
        """Read the stream; return whether it ended for want of tokens."""
        stream = guarded_stream(self._model, self._request, self._cancellation)
        with contextlib.closing(stream):
            while not self._reply.ended:
                try:
                    piece = next(stream)
                except StopIteration as end:
                    return end.value is Finish.LENGTH
                if isinstance(piece, ToolCall):
                    made.append(piece)
                elif isinstance(piece, Thinking):
                    self._reply.think()
                else:
                    yield self._push(self._written.push(piece))
                if self._reply.thinking:
                    yield THINKING
        return False

    def _push(self, words: str) -> str:
        return self._reply.push(words) if words else ""
