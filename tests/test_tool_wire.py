"""Tools on port 6006: what a client may say of them, and what it and the voice are told."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fusion.errors import ProtocolError
from fusion.messages import ReplyEnded, Speculation, ToolCalled, ToolEnded, ToolResult
from fusion.tools import LONGEST_OUTPUT, Tool, ToolCall
from tests.session_world import World
from voices.speech import Speech
from whisper_live.answers import TOO_SLOW
from whisper_live.connection import TranscriptionConnection
from whisper_live.events import ToLanguageModel
from whisper_live.handshake import parse_command, parse_hello

TIME = {"name": "get_time", "description": "Tell the time."}
CALL = ToolCall("abc123XYZ", "get_time", '{"zone": "Oslo"}')


def hello(**fields: Any) -> Any:
    return parse_hello(json.dumps({"uid": "me", **fields}), {"en"})


# -- what a client says ------------------------------------------------------------


def test_tools_come_with_the_handshake_of_a_client_that_gets_events() -> None:
    offer = hello(stream=True, tools=[TIME], tool_choice="required").tools
    assert (offer.tools, offer.choice, offer.ends_reply) == (
        (Tool("get_time", "Tell the time."),),
        "required",
        False,
    )
    assert hello().tools.tools == ()
    with pytest.raises(ProtocolError, match='need "stream"'):
        hello(tools=[TIME])


def test_configure_and_respond_change_what_may_be_called() -> None:
    command = parse_command(json.dumps({"command": "configure", "tools": []}))
    assert command.changes is not None
    assert command.changes.tools is not None
    assert parse_command('{"command": "configure"}').changes.tools is None  # type: ignore[union-attr]
    wanted = parse_command(json.dumps({"command": "respond", "tools": [TIME]})).wanted
    assert wanted is not None
    assert wanted.wish.tools is not None
    assert parse_command('{"command": "respond"}').wanted.wish.tools is None  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("output", "text"),
    [("5 PM", "5 PM"), ({"time": "5 PM"}, '{"time": "5 PM"}'), ("", ""), ("x" * 9000, None)],
)
def test_a_result_is_text_or_any_json_and_bounded(output: Any, text: str | None) -> None:
    fields = {"command": "tool_result", "id": "a", "output": output, "failed": True}
    result = parse_command(json.dumps(fields)).result
    assert result is not None
    assert result.failed
    assert len(result.text) <= LONGEST_OUTPUT
    assert text is None or result.text == text


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"id": "a"},
        {"output": "x"},
        {"id": 5, "output": "x"},
        {"id": "a", "output": "x", "failed": "no"},
    ],
)
def test_what_is_no_result_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ProtocolError):
        parse_command(json.dumps({"command": "tool_result", **fields}))


def test_a_history_holds_calls_and_results() -> None:
    call = {"role": "tool_call", "id": "a", "name": "get_time", "arguments": "{}"}
    result = {"role": "tool_result", "id": "a", "content": "5 PM"}
    history = hello(history=[{"role": "user", "content": "Hi"}, call, result]).history
    assert [role for role, _ in history] == ["user", "tool_call", "tool_result"]
    assert json.loads(history[1][1]) == {"id": "a", "name": "get_time", "arguments": "{}"}
    for broken in ({**call, "arguments": {}}, {**result, "content": "x" * 5000}, {"role": "tool"}):
        with pytest.raises(ProtocolError):
            hello(history=[broken])


# -- what becomes of it ------------------------------------------------------------


def test_a_result_goes_to_the_language_model_at_once() -> None:
    connection = TranscriptionConnection.__new__(TranscriptionConnection)
    connection.session = World().session
    command = parse_command('{"command": "tool_result", "id": "a", "output": "5 PM"}')
    [event] = connection.carry_out(command, 0.0)
    assert event == ToLanguageModel(ToolResult("s", "a", "5 PM"))


def committed(**settings: Any) -> World:
    """A world in which a turn was just committed, with a language model that says nothing."""
    world = World(first_token=1e9, **settings)
    world.speak(1.0)
    while not world.commits():
        world.silence(0.1)
    return world


def of_reply(world: World) -> tuple[str, int, int]:
    commit = world.commits()[-1]
    return commit.session, commit.turn, commit.revision


def told(world: World, name: str) -> list[dict[str, Any]]:
    return [fields for fields in world.told if fields.get("event") == name]


def test_a_client_is_told_of_a_call_and_of_its_end() -> None:
    world = committed()
    world.say(ToolCalled(*of_reply(world), CALL))
    [call] = told(world, "tool_call")
    assert call == {
        "event": "tool_call",
        "turn": 1,
        "id": "abc123XYZ",
        "name": "get_time",
        "arguments": {"zone": "Oslo"},
        "by_server": False,
    }
    world.say(ToolEnded(*of_reply(world), CALL, "no answer"))
    [end] = told(world, "tool_ended")
    assert (end["failed"], end["message"]) == (True, "no answer")
    world.say(ReplyEnded(*of_reply(world), "I cannot tell.", world.now))
    assert [fields["llm_output"] for fields in world.endings()[1]] == [["I cannot tell."]]


def test_a_call_before_the_commit_is_told_after_it() -> None:
    world = World(first_token=1e9)
    world.speak(1.0)
    while not (speculations := [m for m in world.to_model if isinstance(m, Speculation)]):
        world.silence(0.05)
    world.say(ToolCalled("s", 1, speculations[-1].revision, CALL))
    before = told(world, "tool_call")
    while not world.commits():
        world.silence(0.05)
    assert before == []
    assert len(told(world, "tool_call")) == 1


def test_a_turn_whose_tool_works_is_not_given_up() -> None:
    world = committed(reply_timeout=2.0)
    for _ in range(4):
        world.say(ToolCalled(*of_reply(world), CALL))
        world.silence(1.5)
    assert world.endings() == {}
    world.silence(3.0)
    assert [fields["message"] for fields in world.endings()[1]] == [TOO_SLOW]


def test_a_call_of_an_interrupted_reply_is_told_to_nobody() -> None:
    world = committed()
    world.take(world.session.interrupt(world.now))
    world.say(ToolCalled(*of_reply(world), CALL))
    assert told(world, "tool_call") == []


def test_the_voice_says_what_there_is_where_a_reply_pauses() -> None:
    speech = Speech(1, 1)
    speech.feed("Let me look.")
    assert speech.clauses == []
    speech.pause()
    speech.pause()
    assert [clause.text for clause in speech.clauses] == ["Let me look."]
    speech.feed(" It is five.")
    speech.complete("Let me look. It is five.")
    assert "".join(clause.text for clause in speech.clauses) == "Let me look. It is five."
