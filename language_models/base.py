"""The one interface of every language model."""

from __future__ import annotations

import enum
import threading
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from fusion.tools import Tool, ToolCall


@dataclass(frozen=True)
class ChatMessage:
    """One part of a conversation.

    An assistant's may have `calls` of tools; what each returned follows as a message of the role
    tool, with that call's id and the tool's name.
    """

    role: Literal["system", "user", "assistant", "tool"]
    content: str
    calls: tuple[ToolCall, ...] = ()
    call_id: str = ""
    name: str = ""


@dataclass(frozen=True)
class GenerationRequest:
    """What to answer, and how. `temperature` 0 is greedy decoding.

    `tools` may be called; with `must_call` one of them has to be.
    """

    messages: tuple[ChatMessage, ...]
    max_tokens: int = 100
    temperature: float = 0.0
    top_p: float = 1.0
    tools: tuple[Tool, ...] = ()
    must_call: bool = False


class Finish(enum.Enum):
    """Why a stream of text ended."""

    STOP = "stop"
    """The model came to its end, or the stream was cancelled."""

    LENGTH = "length"
    """No token was left: the text may break off anywhere."""


class Thinking(enum.Enum):
    """What a stream yields in place of text while the model thinks and says nothing."""

    THINKING = "thinking"


THINKING = Thinking.THINKING

Stream = Generator[str | Thinking | ToolCall, None, Finish]
"""A reply in the making: pieces of text and calls of tools, then why it ended."""


class Cancellation:
    """Tells a generation in another thread to stop.

    A model polls `requested` between tokens; one that waits on something else registers what
    ends that wait with `on_request`.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._callbacks: list[Callable[[], None]] = []
        self._requested = False

    @property
    def requested(self) -> bool:
        return self._requested

    def request(self) -> None:
        """Ask for the stop. Safe from any thread, any number of times."""
        with self._lock:
            if self._requested:
                return
            self._requested = True
            callbacks = list(self._callbacks)
        for callback in callbacks:
            callback()

    def on_request(self, callback: Callable[[], None]) -> None:
        """Call `callback` at the stop, or at once when it was asked for already."""
        with self._lock:
            if not self._requested:
                self._callbacks.append(callback)
                return
        callback()


class LanguageModel(Protocol):
    """A loaded language model. Constructed by its own file's `load(settings)`."""

    name: str
    """For logs, e.g. "llama_cpp: SmolLM2-135M-Instruct.Q4_1.gguf"."""

    max_concurrent: int
    """How many generations it serves together; each runs in its own thread."""

    @property
    def takes_tools(self) -> bool:
        """Whether its chat template has a place for tools. One that has none is offered none."""

    def warm_up(self) -> None:
        """Generate a few tokens so that the first reply is not slow."""

    def count_tokens(self, messages: Sequence[ChatMessage], tools: Sequence[Tool] = ()) -> int:
        """Length in tokens of the prompt that these messages become."""

    def stream(self, request: GenerationRequest, cancellation: Cancellation) -> Stream:
        """Yield the model's text piece by piece, never half a character; return why it ended.

        The text is what the model wrote: what of it is said (no `<think>` tags, no role labels) is
        decided by `reply_filter` for all models, and calls in it are found by `tool_text`; what a
        library takes out by itself is yielded as a `ToolCall`, whole. Ends early, without an error,
        within about a token of `cancellation`. Raises ModelError with a sentence for the client
        when the reply cannot be made.
        """

    def prefill(
        self,
        messages: Sequence[ChatMessage],
        cancellation: Cancellation,
        tools: Sequence[Tool] = (),
    ) -> None:
        """Read a prompt whose last message is still growing into the cache, where there is one.

        Does nothing for a model that has no prompt cache.
        """

    def close(self) -> None:
        """Release the model. Idempotent."""


def patience(reply_timeout: float) -> float:
    """Seconds that a library may go without progress before it counts as hung.

    Less than a person's patience, so that a restarted process can still answer within it.
    """
    return max(5.0, 0.8 * reply_timeout)
