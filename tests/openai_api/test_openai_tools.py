"""Tools of an OpenAI-compatible server: offered, called in fragments, refused, ignored."""

from __future__ import annotations

import json
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusion.tools import Tool, ToolCall
from language_models.base import Cancellation, ChatMessage, GenerationRequest
from language_models.chat_json import CallFragments
from language_models.openai_api import OpenAIServer
from tests.openai_api.conftest import send_events, send_json, serving

TOOL = Tool("get_time", "Tell the time.")
ASKED = (ChatMessage("system", "Be brief."), ChatMessage("user", "What time is it?"))
REQUEST = GenerationRequest(ASKED, 24, tools=(TOOL,))


def chunk(finish: str | None = None, **delta: Any) -> str:
    return "data: " + json.dumps({"choices": [{"delta": delta, "finish_reason": finish}]})


def fragment(index: int = 0, **function: str) -> dict[str, Any]:
    return {"index": index, "function": function}


def stream(model: OpenAIServer, request: GenerationRequest = REQUEST) -> list[Any]:
    return list(model.stream(request, Cancellation()))


def seeing(
    bodies: list[dict[str, Any]], answer: Callable[[BaseHTTPRequestHandler], None]
) -> Callable[[BaseHTTPRequestHandler], None]:
    """The same answer, and the request's body is kept."""

    def give(handler: BaseHTTPRequestHandler) -> None:
        bodies.append(handler.body)  # type: ignore[attr-defined]
        answer(handler)

    return give


def test_a_call_that_comes_in_fragments_is_one_call() -> None:
    bodies: list[dict[str, Any]] = []
    events = [
        chunk(content="Let me look."),
        chunk(tool_calls=[{**fragment(name="get_time", arguments=""), "id": "x"}]),
        chunk(tool_calls=[fragment(arguments='{"zone": ')]),
        chunk(tool_calls=[fragment(arguments='"Oslo"}'), fragment(1, name="get_time")]),
        chunk("tool_calls"),
    ]
    with serving(seeing(bodies, send_events(*events))) as (model, _):
        text, first, second = stream(model)
    assert text == "Let me look."
    assert (first.name, first.arguments) == ("get_time", '{"zone": "Oslo"}')
    assert (second.name, second.arguments) == ("get_time", "{}")
    assert first.id != second.id
    assert [tool["function"]["name"] for tool in bodies[0]["tools"]] == ["get_time"]
    assert "tool_choice" not in bodies[0]


def test_what_was_called_and_returned_is_told_in_the_servers_words() -> None:
    bodies: list[dict[str, Any]] = []
    call = ToolCall("abc123XYZ", "get_time", "{}")
    exchange = (
        ChatMessage("assistant", "", (call,)),
        ChatMessage("tool", "5 PM", call_id=call.id, name=call.name),
    )
    request = GenerationRequest((*ASKED, *exchange), 24, tools=(TOOL,), must_call=True)
    with serving(seeing(bodies, send_events(chunk(content="Five."), chunk("stop")))) as (model, _):
        assert stream(model, request) == ["Five."]
    assistant, tool = bodies[0]["messages"][-2:]
    assert assistant["tool_calls"][0]["function"] == {"name": "get_time", "arguments": "{}"}
    assert (tool["role"], tool["tool_call_id"], tool["content"]) == ("tool", "abc123XYZ", "5 PM")
    assert bodies[0]["tool_choice"] == "required"


@pytest.mark.parametrize(
    "sentence",
    [
        '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set',
        "registry.ollama.ai/library/gemma does not support tools",
    ],
)
def test_a_server_that_refuses_tools_answers_without_them(sentence: str) -> None:
    bodies: list[dict[str, Any]] = []
    refusal = seeing(bodies, send_json(400, {"error": {"message": sentence}}))
    answer = seeing(bodies, send_events(chunk(content="Five."), chunk("stop")))
    with serving(refusal, answer) as (model, _):
        assert model.takes_tools
        assert stream(model) == ["Five."]
        assert not model.takes_tools
    assert ["tools" in body for body in bodies] == [True, False]


def test_a_server_that_only_refuses_to_be_told_to_call_keeps_its_tools() -> None:
    bodies: list[dict[str, Any]] = []
    refusal = seeing(bodies, send_json(400, {"error": "tool_choice must be auto"}))
    answer = seeing(bodies, send_events(chunk(content="Five."), chunk("stop")))
    with serving(refusal, answer) as (model, _):
        request = GenerationRequest(ASKED, 24, tools=(TOOL,), must_call=True)
        assert stream(model, request) == ["Five."]
        assert model.takes_tools
    assert ["tools" in body for body in bodies] == [True, True]
    assert "tool_choice" not in bodies[1]


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["index", "function", "name", "arguments", "id"]), inner, max_size=4
        )
    ),
    max_leaves=10,
)


@given(st.lists(JUNK, max_size=4))
def test_any_fragments_are_calls_or_nothing(fragments: list[Any]) -> None:
    calls = CallFragments()
    for each in fragments:
        calls.add(each)
    for call in calls.calls():
        assert isinstance(call.name, str)
        assert isinstance(call.arguments, str)
