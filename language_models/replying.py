"""One reply in the making: passes of the model, and the calls of tools between them.

Runs in the reply's own thread. What it makes goes to the service, which tells the neighbours and
remembers.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from fusion import metrics
from fusion.messages import Message, ReplyThinking, ToolCalled, ToolEnded
from fusion.settings import Settings
from fusion.tools import NO_TOOLS, Tool, ToolCall, ToolOffer, presentable
from language_models.base import ChatMessage, GenerationRequest, LanguageModel, Thinking
from language_models.generations import Generation
from language_models.reading import Reading
from language_models.speed import ReplyClock
from language_models.tool_calls import ToolCalls
from language_models.waiting_words import WaitingWords

# How often the neighbours are told that a model still thinks, or a tool still works.
_PROGRESS_INTERVAL = 1.0

# Passes of a model in one reply that may call tools.
_MOST_ROUNDS = 4

# Seconds that a speculation waits for its commit with the calls that it would like to make.
_COMMIT_PATIENCE = 60.0

CALL_TOKENS = 200
"""More tokens for a pass that may call tools: calls are not said, and have to be whole."""


class ReplyHost(Protocol):
    """Whose replies they are. Every method may be called from any thread."""

    def prompt(
        self, generation: Generation, exchange: Sequence[ChatMessage], tools: tuple[Tool, ...]
    ) -> list[ChatMessage] | None:
        """The prompt, or None if nobody wants the reply any more."""

    def offer(self, generation: Generation) -> ToolOffer:
        """What of its client's tools a reply may call."""

    def language(self, generation: Generation) -> str:
        """The language of the session, as a code; "" where it is not known."""

    def most_tokens(self, generation: Generation) -> int:
        """The longest reply."""

    def grow(self, generation: Generation, piece: str) -> None:
        """The reply goes on with these words."""

    @property
    def tell_speed(self) -> Callable[[float], None]:
        """Takes the tokens a second of each pass, 0 where there were too few to tell."""

    def tell(self, generation: Generation, message: Message) -> None:
        """Tell the neighbours, unless the reply was stopped."""

    def note_exchange(self, generation: Generation, exchange: Sequence[ChatMessage]) -> None:
        """Tools were called in it, and returned this."""

    def complete(self, generation: Generation, answer: str, text: str) -> None:
        """All of it was told: `text`, of which the model remembers `answer` beside the calls."""


class Replying:
    """Makes a reply. It is told what its calls of tools come to (`tool_calls.Observer`)."""

    def __init__(
        self,
        host: ReplyHost,
        generation: Generation,
        model: LanguageModel,
        settings: Settings,
        tool_calls: ToolCalls,
    ) -> None:
        self._host = host
        self._generation = generation
        self._model = model
        self._settings = settings
        self._tool_calls = tool_calls
        self._waiting = WaitingWords(host.language(generation))
        self._progress_at = -math.inf
        self._paused = False
        self._before = ""
        """What was told before the latest pass, with a space after it where it goes on."""

    def make(self) -> None:
        """Make it, to its end or until it is stopped. Raises ModelError."""
        generation, exchange = self._generation, list[ChatMessage]()
        rounds_left, must_call = _MOST_ROUNDS, self._host.offer(generation).required
        while True:
            offer = self._host.offer(generation) if rounds_left else NO_TOOLS
            tools = self._tool_calls.offered(offer) if rounds_left else ()
            messages = self._host.prompt(generation, exchange, tools)
            if messages is None:
                return
            reading = self._read(messages, tools, must_call=must_call)
            if generation.cancellation.requested:
                return
            wanted = reading.calls if offer.parallel else reading.calls[:1]
            calls = _without_made(wanted, messages)
            handed = bool(calls) and offer.ends_reply and self._hand_over(calls, offer)
            if handed or (reading.text and not wanted):
                break
            # A small model that wrote empty tags is kept to a call; one in circles has to answer.
            must_call = reading.wants_to_call and not must_call
            rounds_left = rounds_left - 1 if calls or must_call else 0
            if not calls:
                continue
            done = self._call(reading.text, calls, offer)
            if done is None:
                return
            exchange += done
            self._host.note_exchange(generation, exchange)
        whole = generation.told if self._paused else self._before + reading.text
        self._host.complete(generation, reading.text, whole)

    def _read(
        self, messages: Sequence[ChatMessage], tools: tuple[Tool, ...], *, must_call: bool
    ) -> Reading:
        """One pass of the model: tell what it says as it comes."""
        began, clock = time.monotonic(), ReplyClock()
        most = self._host.most_tokens(self._generation)
        request = GenerationRequest(
            messages=tuple(messages),
            max_tokens=most + (CALL_TOKENS if tools else 0),
            temperature=self._settings.temperature,
            top_p=self._settings.top_p,
            tools=tools,
            must_call=must_call,
        )
        reading = Reading(self._model, request, self._generation.cancellation, most)
        for piece in reading.pieces():
            if isinstance(piece, Thinking):
                self._progress()
            else:
                clock.piece(time.monotonic())
                self._say(piece)
        self._host.tell_speed(clock.speed())
        metrics.called("generation", time.monotonic() - began)
        return reading

    def _hand_over(self, calls: Sequence[ToolCall], offer: ToolOffer) -> bool:
        """Leave calls of the client's to it; False where there are none that can be made."""
        own = {tool.name for tool in offer.tools}
        good, _ = self._tool_calls.checked(calls, offer)
        handed = [call for call in good if call.name in own]
        for call in handed:
            self.called(call, by_server=False)
        return bool(handed)

    def _call(
        self, said: str, calls: Sequence[ToolCall], offer: ToolOffer
    ) -> list[ChatMessage] | None:
        """Carry out calls, once the turn is committed; None if the reply was stopped meanwhile."""
        generation = self._generation
        if not generation.committed.wait(_COMMIT_PATIENCE):
            generation.cancellation.request()  # a commit that still comes begins anew
            return None
        self._paused = True
        self._waiting.begin(spoke=bool(said))
        return self._tool_calls.run(
            generation.session, said, calls, offer, generation.cancellation, self
        )

    def _say(self, words: str) -> None:
        """Go on with these words; after a pause they do not run into those before it."""
        if words and self._paused:
            told, self._paused = self._generation.told, False
            space = " " if told and not told[-1].isspace() else ""
            self._before, words = told + space, space + words
        self._host.grow(self._generation, words)

    def _progress(self) -> None:
        now = time.monotonic()
        if now - self._progress_at >= _PROGRESS_INTERVAL:
            self._progress_at = now
            self._host.tell(self._generation, ReplyThinking(*self._generation.key, now))

    # -- what calls come to --------------------------------------------------------------------

    def called(self, call: ToolCall, by_server: bool) -> None:
        self._host.tell(
            self._generation, ToolCalled(*self._generation.key, call, by_server=by_server)
        )

    def ended(self, call: ToolCall, error: str) -> None:
        self._host.tell(self._generation, ToolEnded(*self._generation.key, call, error))

    def waits(self, seconds: float) -> None:
        """So that nobody hears silence, the reply says that it takes a while."""
        if words := self._waiting.due(seconds):
            self._say(words)
            self._paused = True
            self._progress_at = -math.inf  # so that the voice says them now
        self._progress()


def _without_made(
    calls: Sequence[ToolCall], messages: Sequence[ChatMessage]
) -> tuple[ToolCall, ...]:
    """Calls less those that were made since the last question already, word for word."""
    asked = [at for at, message in enumerate(messages) if message.role == "user"]
    since = messages[asked[-1] if asked else 0 :]
    made = {(call.name, _canonical(call)) for message in since for call in message.calls}
    return tuple(call for call in calls if (call.name, _canonical(call)) not in made)


def _canonical(call: ToolCall) -> str:
    return json.dumps(json.loads(presentable(call).arguments), sort_keys=True)
