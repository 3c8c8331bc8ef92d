"""Calls of tools with real models: call, result and spoken answer, over both protocols."""

from __future__ import annotations

import contextlib
import json
import shlex
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.tools import TOOLS, ask
from fusion.models.llms import QWEN_1_5B
from tests.running import RunningServer
from tests.test_realtime import person_at, words
from whisper_live.client.conversation import Server, talk
from whisper_live.client.events import Notice, ReplyText

pytestmark = [pytest.mark.e2e, pytest.mark.mind, pytest.mark.timeout(400)]

# Whether a small model calls by itself hangs on each word of its prompt, which has the time in it:
# here it has to. How often it does: docs/protocol.md.
COMMAND = f"{shlex.quote(sys.executable)} -m tests.mcp_server"
WEATHER = "What is the weather in Paris?"


@pytest.fixture(scope="module")
def mind() -> Iterator[RunningServer]:
    """The program with a language model that calls tools, and a server of tools."""
    flags = ("--llm", QWEN_1_5B.name, "--mcp_servers", COMMAND, "--max_clients", "2")
    with RunningServer(flags) as running:
        deadline = time.monotonic() + 60
        while "tools of" not in running.log:
            assert time.monotonic() < deadline, running.log
            time.sleep(0.1)
        yield running


def server_of(running: RunningServer) -> Server:
    return Server("127.0.0.1", running.transcription_port, running.speech_port)


async def test_a_clients_tool_is_called_and_its_result_is_said(mind: RunningServer) -> None:
    asked = await ask(server_of(mind), WEATHER, choice="required")
    assert [call["name"] for call in asked.calls] == ["get_weather"]
    assert asked.calls[0]["arguments"] == {"city": "Paris"}
    assert "8" in asked.reply
    assert "rain" in asked.spoken.lower()
    assert "{" not in asked.reply
    assert asked.seconds_of_sound > 0.5


async def test_a_tool_that_takes_long_is_announced_aloud(mind: RunningServer) -> None:
    asked = await ask(server_of(mind), WEATHER, choice="required", tool_seconds=4.0)
    assert asked.spoken.startswith("One moment, please.")
    assert "8" in asked.reply


async def test_a_tool_that_fails_is_told_and_answered(mind: RunningServer) -> None:
    asked = await ask(
        server_of(mind), WEATHER, choice="required", fails="The weather service is away."
    )
    assert asked.ended[0]["failed"]
    assert asked.reply
    assert asked.seconds_of_sound > 0.3


async def test_a_person_interrupts_a_tool_and_is_answered(mind: RunningServer) -> None:
    async with talk(server_of(mind), tools=TOOLS, tool_choice="required") as conversation:
        await conversation.command("say", text=WEATHER)
        replies: list[ReplyText] = []
        async for event in conversation.events():
            if isinstance(event, Notice) and event.name == "tool_call":
                await conversation.command("configure", tools=[])
                await conversation.command("say", text="What is the capital of France?")
            if isinstance(event, ReplyText) and event.final:
                replies.append(event)
                if not event.interrupted:
                    break
    assert [reply.interrupted for reply in replies] == [True, False]
    assert "Paris" in replies[-1].text


async def test_a_tool_of_an_mcp_server_is_called(mind: RunningServer) -> None:
    called: list[Notice] = []
    for _ in range(4):  # it is free to answer without the tool, and at times does
        async with talk(server_of(mind)) as conversation:
            await conversation.command("say", text="Call server_time for the zone Oslo.")
            async for event in conversation.events():
                if isinstance(event, Notice) and event.name.startswith("tool_"):
                    called.append(event)
                if isinstance(event, ReplyText) and event.final:
                    break
        if called:
            break
    assert [notice.name for notice in called] == ["tool_call", "tool_ended"]
    assert called[0].fields["by_server"]
    assert called[0].fields["arguments"] == {"zone": "Oslo"}
    assert "5" in event.text


async def test_a_function_call_through_realtime(mind: RunningServer) -> None:
    async with person_at(mind) as person:
        tool = {"type": "function", **TOOLS[0]}
        await person.configure(tools=[tool])
        done = await person.types(WEATHER, tool_choice="required")
        [call] = [item for item in done["output"] if item["type"] == "function_call"]
        assert json.loads(call["arguments"]) == {"city": "Paris"}
        output = {"call_id": call["call_id"], "output": "Rain, 8 degrees."}
        await person.send(
            "conversation.item.create", item={"type": "function_call_output", **output}
        )
        await person.send("response.create")
        answer = (await person.until("response.done"))["response"]
        sound = [e for e in person.events if e["type"] == "response.output_audio.delta"]
    assert "8" in words(answer)
    assert sound


def test_the_server_of_tools_is_not_left_behind(mind: RunningServer) -> None:
    tools = children(mind.service_pid("language_model"))
    assert tools
    mind.stop(30.0)
    deadline = time.monotonic() + 10
    while any(Path(f"/proc/{pid}").exists() for pid in tools):
        assert time.monotonic() < deadline, "it outlived the program"
        time.sleep(0.05)


def children(parent: int) -> list[int]:
    """The processes that this one started."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # one that has just ended
            if int(stat.read_text().rsplit(")", 1)[1].split()[1]) == parent:
                found.append(int(stat.parent.name))
    return found
