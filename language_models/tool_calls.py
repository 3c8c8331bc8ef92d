"""Carries out what a model calls: asks the client or a server of tools, and waits, never for ever.

A call ends in exactly one outcome: what was returned, or why it failed. Both are told to the model,
which goes on from there, and the end of each call to the client.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from fusion.messages import ToolResult
from fusion.settings import Settings
from fusion.tools import (
    Tool,
    ToolCall,
    ToolError,
    ToolOffer,
    bounded_output,
    checked_call,
    presentable,
)
from language_models.base import Cancellation, ChatMessage

_TICK = 0.25


@dataclass(frozen=True)
class Outcome:
    """What a call came to; with an `error`, a sentence, there is no output."""

    output: str = ""
    error: str = ""

    def told(self) -> str:
        """What the model is told."""
        return f"Error: {self.error}" if self.error else self.output


class ServerTools(Protocol):
    """Tools that this program carries out itself. Safe from any thread."""

    @property
    def tools(self) -> tuple[Tool, ...]:
        """What there is now."""

    def start(
        self, call: ToolCall, done: Callable[[Outcome], None], cancellation: Cancellation
    ) -> None:
        """Begin a call and return; `done` is called once, from any thread."""

    async def close(self) -> None:
        """End what serves them."""


class NoServerTools:
    """Where no server of tools is named."""

    tools: tuple[Tool, ...] = ()

    def start(
        self, call: ToolCall, done: Callable[[Outcome], None], cancellation: Cancellation
    ) -> None:
        done(Outcome(error=f"There is no tool {call.name}."))

    async def close(self) -> None:
        pass


def server_tools_of(settings: Settings) -> ServerTools:
    """The tools of the servers that the settings name. Called in the event loop that serves."""
    if not settings.mcp_server_list:
        return NoServerTools()
    from language_models.mcp_tools import McpTools  # an extra: only who names a server needs it

    return McpTools(settings.mcp_server_list)


class Observer(Protocol):
    """Who is told how the calls of a reply go on. Called in the reply's own thread."""

    def called(self, call: ToolCall, by_server: bool) -> None:
        """A call begins."""

    def ended(self, call: ToolCall, error: str) -> None:
        """A call is over."""

    def waits(self, seconds: float) -> None:
        """For so long the latest calls have been under way. Several times a second."""


class ToolCalls:
    """Everybody's calls. Safe from any thread."""

    def __init__(self, server_tools: ServerTools, timeout: float) -> None:
        """`timeout` is how many seconds a call may take."""
        self._server = server_tools
        self._timeout = timeout
        self._lock = threading.Lock()
        self._awaited: dict[tuple[str, str], Callable[[Outcome], None]] = {}

    def offered(self, offer: ToolOffer) -> tuple[Tool, ...]:
        """What a model may call: the client's tools, and the server's of other names."""
        if offer.choice == "none":
            return ()
        own = {tool.name for tool in offer.tools}
        if offer.required:
            return offer.tools
        return (*offer.tools, *(tool for tool in self._server.tools if tool.name not in own))

    def deliver(self, result: ToolResult) -> None:
        """A client says what a call returned. Nobody waits for one that is over."""
        with self._lock:
            done = self._awaited.pop((result.session, result.call_id), None)
        if done is not None:
            output = bounded_output(result.output)
            failed = output.strip() or "The tool failed."
            done(Outcome(error=failed) if result.failed else Outcome(output))

    def checked(
        self, calls: Sequence[ToolCall], offer: ToolOffer
    ) -> tuple[list[ToolCall], dict[str, Outcome]]:
        """Calls that can be carried out, and by their ids the outcomes of those that cannot."""
        good: list[ToolCall] = []
        bad: dict[str, Outcome] = {}
        for call in calls:
            try:
                good.append(checked_call(call, self.offered(offer)))
            except ToolError as error:
                bad[call.id] = Outcome(error=str(error))
        return good, bad

    def run(
        self,
        session: str,
        said: str,
        calls: Sequence[ToolCall],
        offer: ToolOffer,
        cancellation: Cancellation,
        observer: Observer,
    ) -> list[ChatMessage] | None:
        """Carry out calls at once, and return them with their results, as a prompt takes them.

        `said` is what the model said before them. None once it was cancelled: then nothing more is
        told of them.
        """
        good, outcomes = self.checked(calls, offer)
        for call in calls:
            if call.id in outcomes:
                observer.ended(call, outcomes[call.id].error)
        arrivals: queue.SimpleQueue[tuple[ToolCall, Outcome] | None] = queue.SimpleQueue()
        cancellation.on_request(lambda: arrivals.put(None))
        given_up = Cancellation()
        try:
            for call in good:
                self._begin(session, call, offer, arrivals, given_up, observer)
            done = self._collect(good, arrivals, cancellation, observer)
        finally:
            given_up.request()
            with self._lock:
                for call in good:
                    self._awaited.pop((session, call.id), None)
        if done is None:
            return None
        outcomes |= done
        shown = [presentable(call) for call in calls]
        return [
            ChatMessage("assistant", said, tuple(shown)),
            *(
                ChatMessage("tool", outcomes[call.id].told(), call_id=call.id, name=call.name)
                for call in shown
            ),
        ]

    def _begin(
        self,
        session: str,
        call: ToolCall,
        offer: ToolOffer,
        arrivals: queue.SimpleQueue[tuple[ToolCall, Outcome] | None],
        given_up: Cancellation,
        observer: Observer,
    ) -> None:
        def done(outcome: Outcome) -> None:
            arrivals.put((call, outcome))

        by_server = all(tool.name != call.name for tool in offer.tools)
        if not by_server:
            with self._lock:
                self._awaited[session, call.id] = done
        observer.called(call, by_server)
        if by_server:
            self._server.start(call, done, given_up)

    def _collect(
        self,
        calls: Sequence[ToolCall],
        arrivals: queue.SimpleQueue[tuple[ToolCall, Outcome] | None],
        cancellation: Cancellation,
        observer: Observer,
    ) -> dict[str, Outcome] | None:
        """The outcomes, each as soon as it comes or is given up; None once cancelled."""
        outcomes: dict[str, Outcome] = {}
        began = time.monotonic()
        while len(outcomes) < len(calls) and not cancellation.requested:
            waited = time.monotonic() - began
            if waited >= self._timeout:
                for call in calls:
                    if call.id not in outcomes:
                        error = f"The tool did not answer within {self._timeout:g} s."
                        outcomes[call.id] = Outcome(error=error)
                        observer.ended(call, error)
                break
            observer.waits(waited)
            try:
                arrival = arrivals.get(timeout=min(_TICK, self._timeout - waited))
            except queue.Empty:
                continue
            if arrival is not None and arrival[0].id not in outcomes:
                call, outcomes[call.id] = arrival[0], arrival[1]
                observer.ended(call, arrival[1].error)
        return None if cancellation.requested else outcomes
