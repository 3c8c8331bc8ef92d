"""Tools of MCP servers: programs that are started here, or addresses (stdio, streamable HTTP).

Each server has a task of its own, which connects, lists its tools and comes back when the
connection is lost. What a server says is a stranger's: its tools are checked as a client's are,
and one that does not fit is left out. A call that fails is an outcome, never an exception.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import shlex
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from typing import Any

from mcp import Client, StdioServerParameters
from mcp.types import CallToolResult

from fusion import tasks
from fusion.errors import ProtocolError
from fusion.tools import MOST_TOOLS, Tool, ToolCall, bounded_output, parse_tool
from language_models.base import Cancellation
from language_models.tool_calls import Outcome

logger = logging.getLogger(__name__)

CONNECT_TIMEOUT = 30.0
"""Seconds; a program may be fetched first (`uvx`, `npx`)."""

# How often a server is asked for its tools again: they may change, and it may be gone. (The
# protocol's own ping is no more since its version of 2026-07-28.)
_LOOK_INTERVAL = 20.0
_LOOK_TIMEOUT = 10.0
_BACKOFF = (2.0, 5.0, 15.0, 60.0)
_OURS = "WHISPERFUSION_"


class McpTools:
    """The tools of all servers (`tool_calls.ServerTools`). Made and closed in an event loop."""

    def __init__(self, servers: Sequence[str]) -> None:
        self._loop = asyncio.get_running_loop()
        self._servers = [_Server(each) for each in servers]
        self._running = [tasks.start(each.run(), f"mcp {each.name}") for each in self._servers]

    @property
    def tools(self) -> tuple[Tool, ...]:
        """What the servers that are there offer; of two tools of one name the first."""
        found: dict[str, Tool] = {}
        for server in self._servers:
            for tool in server.tools:
                found.setdefault(tool.name, tool)
        return tuple(found.values())[:MOST_TOOLS]

    def start(
        self, call: ToolCall, done: Callable[[Outcome], None], cancellation: Cancellation
    ) -> None:
        """Begin a call, from any thread."""

        def begin() -> None:
            if cancellation.requested:
                return
            work = tasks.start(self._call(call, done), f"mcp call of {call.name}")
            cancellation.on_request(lambda: tasks.call_in(self._loop, work.cancel))

        tasks.call_in(self._loop, begin)

    async def close(self) -> None:
        """End the connections, and the programs that were started."""
        for running in self._running:
            running.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    async def _call(self, call: ToolCall, done: Callable[[Outcome], None]) -> None:
        for server in self._servers:
            if any(tool.name == call.name for tool in server.tools):
                done(await server.call(call))
                return
        done(Outcome(error=f"The server of the tool {call.name} is away just now."))


class _Server:
    """One server and its connection."""

    def __init__(self, written: str) -> None:
        self.name = server_name(written)
        self.tools: tuple[Tool, ...] = ()
        self._target = server_target(written)
        self._client: Client | None = None
        self._listed: list[Any] = []
        self._lost = asyncio.Event()

    async def run(self) -> None:
        """Keep a connection until cancelled."""
        failures = 0
        while True:
            try:
                await self._connection()
                failures = 0
            except Exception as error:  # noqa: BLE001 - another's program and its library's groups
                level = logging.WARNING if not failures else logging.DEBUG
                logger.log(level, "the tools of %s are not there: %s", self.name, _reason(error))
                failures += 1
            await asyncio.sleep(_BACKOFF[min(failures, len(_BACKOFF) - 1)])

    async def _connection(self) -> None:
        """Connect, and return when the connection is lost."""
        async with AsyncExitStack() as stack:
            client = Client(self._target, read_timeout_seconds=CONNECT_TIMEOUT)
            await stack.enter_async_context(client)
            self._lost.clear()
            await self._look(client)
            self._client = client
            try:
                while not self._lost.is_set():
                    try:
                        await asyncio.wait_for(self._lost.wait(), _LOOK_INTERVAL)
                    except asyncio.TimeoutError:
                        await asyncio.wait_for(self._look(client), _LOOK_TIMEOUT)
            finally:
                self._client, self.tools = None, ()

    async def _look(self, client: Client) -> None:
        """Ask for the server's tools."""
        listed = (await client.list_tools()).tools
        if listed == self._listed and self.tools:
            return
        self._listed, self.tools = listed, checked_tools(listed, self.name)
        names = ", ".join(tool.name for tool in self.tools) or "none"
        logger.info("tools of %s: %s", self.name, names)

    async def call(self, call: ToolCall) -> Outcome:
        """Have the server carry out a call."""
        client = self._client
        if client is None:
            return Outcome(error=f"The server of the tool {call.name} is away just now.")
        try:
            result = await client.call_tool(call.name, json.loads(call.arguments))
        except Exception as error:  # noqa: BLE001 - whatever it is, the model is told
            self._lost.set()  # it may be gone: a new connection is quickly made
            logger.warning("the tool %s of %s failed", call.name, self.name)
            return Outcome(error=f"The tool failed: {_reason(error)}")
        return outcome_of(result)


def server_name(written: str) -> str:
    """What a server is called in the log: its host, or its program; no secrets."""
    if _is_address(written):
        return written.partition("://")[2].rpartition("@")[2].partition("/")[0].partition("?")[0]
    return os.path.basename(shlex.split(written)[0])  # noqa: PTH119 - of a word, not of a file


def server_target(written: str) -> str | StdioServerParameters:
    """What to connect to: an address, or a command line with its own environment but for ours."""
    if _is_address(written):
        return written
    program, *arguments = shlex.split(written)
    environment = {k: v for k, v in os.environ.items() if not k.startswith(_OURS)}
    return StdioServerParameters(command=program, args=arguments, env=environment)


def checked_tools(listed: Sequence[Any], server: str) -> tuple[Tool, ...]:
    """A server's tools in our terms; what does not fit is left out, and named in the log."""
    tools: list[Tool] = []
    for each in listed[: 2 * MOST_TOOLS]:
        described = {
            "name": each.name,
            "description": (each.description or "")[:1000],
            "parameters": each.input_schema,
        }
        try:
            tools.append(parse_tool(described))
        except ProtocolError as error:
            logger.warning("a tool of %s is left out: %s", server, error)
    return tuple(tools)


def outcome_of(result: object) -> Outcome:
    """What a server returned, as text: what is neither text nor JSON is named by its kind."""
    if not isinstance(result, CallToolResult):
        return Outcome(error="The tool asks for more than a voice assistant can give.")
    parts = [
        text if isinstance(text := getattr(part, "text", None), str) else f"[{part.type}]"
        for part in result.content
    ]
    if not parts and result.structured_content is not None:
        parts = [json.dumps(result.structured_content, ensure_ascii=False)]
    text = bounded_output("\n".join(parts)).strip()
    return Outcome(error=text or "The tool failed.") if result.is_error else Outcome(text)


def _is_address(written: str) -> bool:
    return written.startswith(("http://", "https://"))


def _reason(error: BaseException) -> str:
    """One line, of the innermost of a group of errors."""
    while isinstance(inner := getattr(error, "exceptions", None), tuple) and inner:
        error = inner[0]
    return " ".join(str(error).split())[:200] or type(error).__name__
