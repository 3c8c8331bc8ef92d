"""A language model service in a simulated world: the test writes what the model replies.

`ScriptedModel` is the model: each reply waits for what the test writes. `World` is everybody else:
it hands messages in as the transcription server does and collects what both neighbours are told.
Nothing is timed: what another thread does is waited for.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, TypeVar

from fusion.messages import (
    Commit,
    Message,
    ReplyText,
    SessionEnded,
    SessionStarted,
    Speculation,
)
from fusion.settings import Settings
from fusion.tools import Tool
from language_models.base import Cancellation, ChatMessage, Finish, GenerationRequest, Stream
from llm_service import LanguageModelService

SYSTEM = "Be brief. It is Wednesday, November 25, 2026, 3:40 PM."
"""What a session's language model is told."""

PATIENCE = 20.0  # seconds that another thread may take; a test that waits longer has failed

Kind = TypeVar("Kind")


class ScriptedReply:
    """One reply in the making, and whom it is for."""

    def __init__(self, request: GenerationRequest, cancellation: Cancellation) -> None:
        self.request = request
        self.cancellation = cancellation
        self.question = request.messages[-1].content
        self._items: queue.SimpleQueue[Any] = queue.SimpleQueue()
        cancellation.on_request(lambda: self._items.put(("cancelled", None)))

    def write(self, *pieces: Any) -> ScriptedReply:
        for piece in pieces:
            self._items.put(("piece", piece))
        return self

    def end(self, value: Finish = Finish.STOP) -> None:
        self._items.put(("end", value))

    def fail(self, error: BaseException) -> None:
        self._items.put(("error", error))

    def run(self) -> Stream:
        while True:
            kind, value = self._items.get(timeout=PATIENCE)
            if self.cancellation.requested:
                return Finish.STOP
            if kind == "error":
                raise value
            if kind == "end":
                return value
            yield value


class ScriptedModel:
    """A `LanguageModel` whose replies a test writes. `count` may be replaced."""

    name = "scripted"
    takes_tools = True

    def __init__(self, max_concurrent: int = 2) -> None:
        self.max_concurrent = max_concurrent
        self.changed = threading.Condition()
        self.replies: list[ScriptedReply] = []
        self.prefilled: list[str] = []
        self.count: Callable[[Sequence[ChatMessage]], int] = lambda _: 1

    def warm_up(self) -> None:
        """Nothing to warm."""

    def count_tokens(self, messages: Sequence[ChatMessage], tools: Sequence[Tool] = ()) -> int:
        return self.count(messages)

    def stream(self, request: GenerationRequest, cancellation: Cancellation) -> Stream:
        reply = ScriptedReply(request, cancellation)
        with self.changed:
            self.replies.append(reply)
            self.changed.notify_all()
        return (yield from reply.run())

    def prefill(
        self,
        messages: Sequence[ChatMessage],
        cancellation: Cancellation,
        tools: Sequence[Tool] = (),
    ) -> None:
        with self.changed:
            self.prefilled.append(messages[-1].content)
            self.changed.notify_all()

    def close(self) -> None:
        """Nothing to release."""


class World:
    """The service's neighbours."""

    def __init__(self, model: ScriptedModel | None = None, **settings: Any) -> None:
        self.model = model or ScriptedModel()
        self.sent: list[Message] = []
        self.now = datetime(2026, 11, 25, 15, 40)
        self.service = LanguageModelService(
            self.model, Settings(**settings), self._receive, lambda: self.now
        )

    def _receive(self, message: Message) -> None:
        with self.model.changed:
            self.sent.append(message)
            self.model.changed.notify_all()

    def tell(self, message: Message) -> None:
        self.service.handle(message)

    def start(self, session: str, history: tuple[tuple[str, str], ...] = ()) -> None:
        self.tell(SessionStarted(session, "key", "127.0.0.1", "en", "Be brief.", "", history))

    def end(self, session: str) -> None:
        self.tell(SessionEnded(session))

    def speculate(self, session: str, turn: int, revision: int, text: str) -> ScriptedReply:
        """Have the service work on a revision; the reply, once the model has begun it."""
        self.tell(Speculation(session, turn, revision, text))
        return self.reply_to(text)

    def commit(self, session: str, turn: int, revision: int, text: str) -> None:
        self.tell(Commit(session, turn, revision, text))

    def reply_to(self, question: str) -> ScriptedReply:
        """The last reply to this question, once the model has begun it."""

        def last() -> ScriptedReply | None:
            found = [r for r in self.model.replies if r.question == question]
            return found[-1] if found else None

        return self.until(last)

    def until(self, condition: Callable[[], Kind | None]) -> Kind:
        """What `condition` gives once it is true."""
        with self.model.changed:
            assert self.model.changed.wait_for(condition, PATIENCE), "it never happened"
            found = condition()
        assert found
        return found

    def until_sent(self, kind: type[Kind], **fields: Any) -> Kind:
        """The first message of this kind with these fields, once it was sent."""

        def fits(message: Message) -> bool:
            return isinstance(message, kind) and all(
                getattr(message, name) == value for name, value in fields.items()
            )

        return self.until(lambda: next(filter(fits, self.sent), None))  # type: ignore[return-value]

    def until_running(self, count: int) -> None:
        """Wait until the service has so many generations under way."""
        done = threading.Event()
        for _ in range(int(PATIENCE * 200)):
            if len(self.service._generations.running) == count:
                return
            done.wait(0.005)
        raise AssertionError(f"{len(self.service._generations.running)} generations still run")

    def text(self, session: str, turn: int, revision: int = 1) -> str:
        """All text that was sent of a reply so far."""
        return "".join(
            message.text
            for message in self.sent
            if isinstance(message, ReplyText)
            and (message.session, message.turn, message.revision) == (session, turn, revision)
        )
