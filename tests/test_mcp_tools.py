"""Tools of real MCP servers, over both transports: offered, called, failing, slow, dead."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from types import SimpleNamespace

import pytest

from fusion.checks import check_mcp_servers
from fusion.errors import ConfigurationError
from fusion.settings import Settings
from fusion.tools import ToolCall
from language_models import mcp_tools
from language_models.base import Cancellation
from language_models.mcp_tools import McpTools, checked_tools, server_name
from language_models.tool_calls import Outcome
from tests.running import ROOT

COMMAND = f"{shlex.quote(sys.executable)} -m tests.mcp_server"
PATIENCE = 60.0


@contextlib.asynccontextmanager
async def offered(*servers: str) -> AsyncIterator[McpTools]:
    """The tools of these servers, once there are any."""
    tools = McpTools(servers)
    try:
        await until(lambda: bool(tools.tools))
        yield tools
    finally:
        await tools.close()


async def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        await asyncio.sleep(0.02)


async def call(
    tools: McpTools, name: str, cancellation: Cancellation | None = None, **arguments: object
) -> Outcome:
    loop = asyncio.get_running_loop()
    result: asyncio.Future[Outcome] = loop.create_future()

    def done(outcome: Outcome) -> None:
        loop.call_soon_threadsafe(result.set_result, outcome)

    tools.start(ToolCall("1", name, json.dumps(arguments)), done, cancellation or Cancellation())
    return await asyncio.wait_for(result, PATIENCE)


@pytest.fixture
def address() -> Iterator[str]:
    """A server over HTTP."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    command = [sys.executable, "-m", "tests.mcp_server", str(port)]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL) as server:
        yield f"http://127.0.0.1:{port}/mcp"
        server.terminate()


async def test_a_program_is_started_and_its_tools_are_called(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WHISPERFUSION_TOKEN", "secret")
    async with offered(COMMAND) as tools:
        by_name = {tool.name: tool for tool in tools.tools}
        assert by_name["server_time"].description == "Tell the time in a zone."
        assert "zone" in by_name["server_time"].schema["properties"]
        assert await call(tools, "server_time", zone="Oslo") == Outcome("5 PM in Oslo")
        assert (await call(tools, "whoami")).output == "unknown"
        assert "Error executing tool fails" in (await call(tools, "fails")).error


async def test_a_server_that_is_there_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mcp_tools, "_LOOK_INTERVAL", 0.05)
    async with offered(COMMAND) as tools:
        before = (await call(tools, "process")).output
        await asyncio.sleep(0.5)
        assert (await call(tools, "process")).output == before


async def test_a_server_at_an_address(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mcp_tools, "_BACKOFF", (0.2,))  # it may be found before it listens
    async with offered(address) as tools:
        assert await call(tools, "server_time") == Outcome("5 PM in UTC")


async def test_a_server_that_dies_fails_the_call_and_comes_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(mcp_tools, "_BACKOFF", (0.05,))
    async with offered(COMMAND) as tools:
        assert (await call(tools, "dies")).error
        await until(lambda: bool(tools.tools))
        deadline = time.monotonic() + PATIENCE
        while (await call(tools, "server_time")).output != "5 PM in UTC":
            assert time.monotonic() < deadline, "it never came back"
            await asyncio.sleep(0.05)


async def test_a_call_that_is_given_up_is_let_go() -> None:
    async with offered(COMMAND) as tools:
        cancellation = Cancellation()
        slow = asyncio.create_task(call(tools, "sleeps", cancellation, seconds=0.5))
        await asyncio.sleep(0.1)
        cancellation.request()
        assert await call(tools, "server_time") == Outcome("5 PM in UTC")
        assert not slow.done()
        slow.cancel()


async def test_a_server_that_is_not_there_offers_nothing_and_stops_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with offered("false", COMMAND) as tools:
        assert [tool.name for tool in tools.tools][:1] == ["server_time"]
        assert (await call(tools, "nobody")).error
    assert "the tools of false are not there" in caplog.text


def test_a_tool_that_does_not_fit_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    good = SimpleNamespace(name="good", description=None, input_schema={"type": "object"})
    bad = SimpleNamespace(name="has space", description="x", input_schema={})
    large = SimpleNamespace(name="large", description="x", input_schema={"title": "x" * 9000})
    assert [tool.name for tool in checked_tools([bad, good, large], "s")] == ["good"]
    assert "is left out" in caplog.text


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("https://key@example.org/mcp?token=1", "example.org"),
        ("/opt/bin/uvx mcp-server-time --key secret", "uvx"),
    ],
)
def test_a_server_is_named_without_its_secrets(written: str, name: str) -> None:
    assert server_name(written) == name


@pytest.mark.parametrize(
    ("servers", "says"),
    [
        ("ftp://host/mcp", "no address"),
        ("no-such-program --port 1", "no program no-such-program"),
        ("sh 'unfinished", "no command line"),
    ],
)
def test_what_cannot_be_a_server_is_refused_at_the_start(servers: str, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        check_mcp_servers(Settings(mcp_servers=servers))
    check_mcp_servers(Settings(mcp_servers=f"{COMMAND}, https://host/mcp"))
