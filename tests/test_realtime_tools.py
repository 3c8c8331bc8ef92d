"""Function calls through the Realtime endpoint: its bridge between a played pipeline and a client.

And, with real models, the loop of call, result and spoken answer.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from realtime.bridge import Bridge
from realtime.config import SessionConfig
from realtime.pipeline_commands import conversation
from realtime.session import RealtimeSession
from tests.test_realtime_protocol import Client, error, kinds
from whisper_live.client.events import Notice, ReplyText

TOOL = {
    "type": "function",
    "name": "get_time",
    "description": "Tell the time.",
    "parameters": {"type": "object", "properties": {}},
}


class Pipeline:
    """The pipeline's end of the bridge: keeps the commands."""

    def __init__(self) -> None:
        self.commands: list[tuple[str, dict[str, Any]]] = []

    async def command(self, name: str, **fields: Any) -> None:
        self.commands.append((name, fields))

    async def send(self, samples: Any) -> None:
        """Sound goes nowhere."""

    def last(self, name: str) -> dict[str, Any]:
        return [fields for each, fields in self.commands if each == name][-1]


class World:
    """A client, its session and bridge, and the pipeline that the test plays."""

    def __init__(self) -> None:
        self.pipeline = Pipeline()
        self.session = RealtimeSession(SessionConfig(model="m"))
        self.bridge = Bridge(self.session, self.pipeline, self._sent)  # type: ignore[arg-type]

    async def _sent(self, text: str) -> None:
        raise AssertionError("nobody writes")

    async def send(self, kind: str, **fields: Any) -> None:
        await self.bridge.receive(json.dumps({"type": kind, **fields}))

    def events(self) -> list[dict[str, Any]]:
        """What the client was told since the last look."""
        unread = self.bridge._unread
        return [json.loads(unread.get_nowait()) for _ in range(unread.qsize())]

    async def happens(self, *events: Any) -> None:
        for event in events:
            await self.bridge._happened(event)

    async def responds(self, turn: int = 1, **response: Any) -> None:
        """The client asks for a response, which is this turn of the pipeline."""
        await self.send("response.create", response=response)
        wanted = self.pipeline.last("respond")["id"]
        await self.happens(Notice(0.0, "responding", turn, {"id": wanted}))


def call(turn: int = 1, by_server: bool = False) -> Notice:
    fields = {"id": "abc123XYZ", "name": "get_time", "arguments": {}, "by_server": by_server}
    return Notice(0.0, "tool_call", turn, fields)


def text(words: str, turn: int = 1, *, final: bool = True) -> ReplyText:
    return ReplyText(0.0, turn, words, final, False)


@pytest.fixture
async def world() -> World:
    world = World()
    await world.bridge.start()
    await world.send("session.update", session={"type": "realtime", "tools": [TOOL]})
    return world


async def test_a_sessions_tools_are_offered_and_shown(world: World) -> None:
    [updated] = [e for e in world.events() if e["type"] == "session.updated"]
    assert updated["session"]["tools"] == [TOOL]
    offered = world.pipeline.last("configure")
    assert [tool["name"] for tool in offered["tools"]] == ["get_time"]
    assert offered["tool_calls_end_reply"] is True
    await world.send("session.update", session={"tools": []})
    assert world.pipeline.last("configure")["tools"] == []


async def test_a_call_without_words_ends_the_response(world: World) -> None:
    await world.responds()
    world.events()
    await world.happens(call(), text(""))
    events = world.events()
    assert [event["type"] for event in events] == [
        "response.output_item.added",
        "conversation.item.added",
        "response.function_call_arguments.delta",
        "response.function_call_arguments.done",
        "conversation.item.done",
        "response.output_item.done",
        "response.done",
        "rate_limits.updated",
    ]
    done = events[-2]["response"]
    assert (done["status"], done["output"][0]["call_id"]) == ("completed", "abc123XYZ")


@pytest.mark.parametrize("sound_first", [False, True])
async def test_a_call_comes_after_the_words_before_it(world: World, sound_first: bool) -> None:
    await world.responds()
    clause = Notice(0.0, "clause", 1, {"text": "Let me look."})
    ended = Notice(0.0, "reply_end", 1, {"spoken": "Let me look.", "interrupted": False})
    told = [call(), text("Let me look.")]
    await world.happens(clause, *([ended, *told] if sound_first else [*told, ended]))
    done = world.events()[-2]["response"]
    assert [item["type"] for item in done["output"]] == ["message", "function_call"]
    assert [item["status"] for item in done["output"]] == ["completed", "completed"]


async def test_what_the_server_does_itself_is_no_function_call(world: World) -> None:
    await world.responds(output_modalities=["text"])
    await world.happens(call(by_server=True), text("It is five."))
    done = world.events()[-2]["response"]
    assert [item["type"] for item in done["output"]] == ["message"]


async def test_the_output_of_a_call_is_told_and_the_next_response_goes_on(world: World) -> None:
    await world.responds()
    await world.happens(call(), text(""))
    output = {"type": "function_call_output", "call_id": "abc123XYZ", "output": "5 PM"}
    await world.send("conversation.item.create", item=output)
    await world.responds(2)
    history = world.pipeline.last("respond")["history"]
    assert history == [
        {"role": "tool_call", "id": "abc123XYZ", "name": "get_time", "arguments": "{}"},
        {"role": "tool_result", "id": "abc123XYZ", "content": "5 PM"},
    ]


@pytest.mark.parametrize(
    ("response", "tools", "choice"),
    [
        ({}, ["get_time"], "auto"),
        ({"tool_choice": "none"}, ["get_time"], "none"),
        ({"tool_choice": "required"}, ["get_time"], "required"),
        (
            {"tool_choice": {"type": "function", "name": "get_time"}},
            ["get_time"],
            {"name": "get_time"},
        ),
        ({"tools": []}, [], "auto"),
        ({"tools": [{**TOOL, "name": "other"}]}, ["other"], "auto"),
    ],
)
async def test_a_response_has_tools_and_a_choice_of_its_own(
    world: World, response: Any, tools: Any, choice: Any
) -> None:
    await world.send("response.create", response=response)
    wanted = world.pipeline.last("respond")
    assert [tool["name"] for tool in wanted["tools"]] == tools
    assert wanted["tool_choice"] == choice


@pytest.mark.parametrize(
    "session",
    [
        {"tools": [TOOL, TOOL]},
        {"tools": [{**TOOL, "name": "has space"}]},
        {"tools": [{**TOOL, "description": "x" * 5000}]},
        {"tools": [{"type": "web_search"}]},
        {"tool_choice": {"type": "function", "name": "nobody"}},
    ],
)
def test_tools_that_cannot_be_are_an_error_that_leaves_the_session_open(session: Any) -> None:
    client = Client()
    assert error(client.send("session.update", session=session))["code"] == "invalid_value"
    assert kinds(client.send("session.update", session={"tools": [TOOL]}))[-1] == "session.updated"


def test_a_call_and_its_output_are_parts_of_a_history_within_bounds() -> None:
    items = [
        {"type": "function_call", "name": "f", "call_id": "c", "arguments": "x" * 9000},
        {"type": "function_call_output", "call_id": "c", "output": "y" * 9000},
    ]
    _, turns = conversation("", items)
    assert turns[0]["arguments"] == "{}"
    assert len(turns[1]["content"]) == 4000


def test_an_output_that_is_no_text_is_an_error() -> None:
    output = {"type": "function_call_output", "call_id": "c", "output": {"a": 1}}
    assert error(Client().send("conversation.item.create", item=output))["param"] == "output"
