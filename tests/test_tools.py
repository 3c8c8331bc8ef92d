"""What is accepted of tools: a client's descriptions, a model's arguments."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusion import tools
from fusion.errors import ProtocolError
from fusion.tools import (
    Tool,
    ToolCall,
    ToolError,
    bounded_output,
    checked_call,
    parse_offer,
    parse_tool,
    presentable,
)
from language_models.chat_json import call_schema

WEATHER = {
    "type": "object",
    "properties": {
        "city": {"type": "string"},
        "days": {"type": "integer"},
        "unit": {"type": "string", "enum": ["C", "F"]},
        "where": {"type": "object", "properties": {"x": {"type": "number"}}, "required": ["x"]},
        "tags": {"type": "array", "items": {"type": "string"}},
        "loud": {"type": ["boolean", "null"]},
    },
    "required": ["city"],
    "additionalProperties": False,
}
TWO = [{"name": "f"}, {"name": "g"}]
TOOLS = (Tool("weather", "Tell it.", json.dumps(WEATHER)), Tool("get_time"))


def checked(name: str, arguments: str) -> Any:
    return json.loads(checked_call(ToolCall("1", name, arguments), TOOLS).arguments)


@pytest.mark.parametrize(
    ("arguments", "fitted"),
    [
        ({"city": "Paris"}, {"city": "Paris"}),
        ({"city": "Paris", "days": "3"}, {"city": "Paris", "days": 3}),
        ({"city": "Paris", "days": 3.0}, {"city": "Paris", "days": 3.0}),
        ({"city": "Paris", "loud": "true"}, {"city": "Paris", "loud": True}),
        ({"city": "Paris", "loud": None}, {"city": "Paris", "loud": None}),
        ({"city": "P", "where": {"x": "1.5"}}, {"city": "P", "where": {"x": 1.5}}),
        ({"city": "P", "tags": ["a", "b"]}, {"city": "P", "tags": ["a", "b"]}),
    ],
)
def test_arguments_that_fit(arguments: Any, fitted: Any) -> None:
    assert checked("weather", json.dumps(arguments)) == fitted


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("{}", "lacks 'city'"),
        ('{"city": 5}', "arguments.city must be of the type string, not 5"),
        ('{"city": "P", "days": "soon"}', "arguments.days must be of the type integer"),
        ('{"city": "P", "days": true}', "arguments.days"),
        ('{"city": "P", "unit": "K"}', "one of"),
        ('{"city": "P", "where": {}}', "arguments.where lacks 'x'"),
        ('{"city": "P", "tags": [1]}', "arguments.tags[0]"),
        ('{"city": "P", "more": 1}', "must not have 'more'"),
        ("[1]", "no JSON object"),
        ("{", "no JSON object"),
        ("[" * 100_000, "more than 4000"),
        ('{"city":' + "[" * 1900 + "]" * 1900 + "}", "no JSON object"),
    ],
)
def test_arguments_that_do_not_fit_are_named(arguments: str, says: str) -> None:
    with pytest.raises(ToolError) as error:
        checked("weather", arguments)
    assert says in str(error.value)


def test_whatever_comes_for_a_tool_without_parameters_is_left_out() -> None:
    assert checked("get_time", '{"type": "object", "properties": {}}') == {}


def test_an_unknown_tool_is_told_which_there_are() -> None:
    with pytest.raises(ToolError, match="weather, get_time"):
        checked("forecast", "{}")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=12,
)


@given(JSON, JSON)
def test_any_schema_and_any_arguments_end_in_a_call_or_a_sentence(schema: Any, value: Any) -> None:
    written = json.dumps(
        {"properties": {"a": schema}, **(schema if isinstance(schema, dict) else {})}
    )
    tool = Tool("f", "", written)
    try:
        call = checked_call(ToolCall("1", "f", json.dumps({"a": value})), (tool,))
    except ToolError as error:
        assert "\n" not in str(error)
    else:
        assert isinstance(json.loads(call.arguments), dict)


@pytest.mark.parametrize(
    "tool",
    [
        {},
        "get_time",
        {"name": "has space"},
        {"name": "x" * 65},
        {"name": "f", "description": "x" * (tools.LONGEST_DESCRIPTION + 1)},
        {"name": "f", "description": 5},
        {"name": "f", "parameters": []},
        {"name": "f", "parameters": {"type": "string"}},
        {"name": "f", "parameters": {"properties": {"a": "x" * 5000}}},
    ],
)
def test_a_description_that_is_none_is_refused(tool: Any) -> None:
    if tool == {"name": "f", "parameters": []}:
        tool = {"name": "f", "parameters": [1]}
    with pytest.raises(ProtocolError):
        parse_tool(tool)


def test_descriptions_come_in_two_forms() -> None:
    flat = {"type": "function", "name": "f", "description": "d", "parameters": WEATHER}
    nested = {"type": "function", "function": {k: flat[k] for k in flat if k != "type"}}
    assert parse_tool(flat) == parse_tool(nested)
    assert parse_tool(flat).schema == WEATHER


@pytest.mark.parametrize(
    ("fields", "names", "choice"),
    [
        ({}, (), "auto"),
        ({"tools": TWO}, ("f", "g"), "auto"),
        ({"tools": [{"name": "f"}], "tool_choice": "none"}, (), "none"),
        ({"tools": [{"name": "f"}], "tool_choice": "required"}, ("f",), "required"),
        (
            {"tools": [{"name": "f"}, {"name": "g"}], "tool_choice": {"name": "g"}},
            ("g",),
            "required",
        ),
    ],
)
def test_what_may_be_called(fields: Any, names: Any, choice: str) -> None:
    offer = parse_offer(fields)
    assert (tuple(tool.name for tool in offer.restricted()), offer.choice) == (names, choice)


@pytest.mark.parametrize(
    "fields",
    [
        {"tools": [{"name": "f"}, {"name": "f"}]},
        {"tools": [{"name": f"f{n}"} for n in range(tools.MOST_TOOLS + 1)]},
        {"tools": {}},
        {"tool_choice": "perhaps"},
        {"tool_choice": {"name": "f"}},
        {"tool_choice": ["auto"]},
        {"parallel_tool_calls": "no"},
    ],
)
def test_what_is_no_offer_is_refused(fields: Any) -> None:
    if fields == {"tools": {}}:
        fields = {"tools": {"name": "f"}}
    with pytest.raises(ProtocolError):
        parse_offer(fields)


def test_a_result_is_bounded() -> None:
    assert bounded_output("5 PM") == "5 PM"
    assert len(bounded_output("x" * 10_000)) == tools.LONGEST_OUTPUT
    assert bounded_output("\ud800") == "?"


@given(st.text(), st.text(), st.text())
def test_a_call_can_be_shown_whatever_it_holds(call_id: str, name: str, arguments: str) -> None:
    shown = presentable(ToolCall(call_id, name, arguments))
    assert tools._NAME.fullmatch(shown.id)
    assert tools._NAME.fullmatch(shown.name)
    assert isinstance(json.loads(shown.arguments), dict)


def test_what_a_model_is_kept_to_is_a_simple_schema_of_any_tool() -> None:
    schema = call_schema(TOOLS)
    assert [each["properties"]["name"]["const"] for each in schema["anyOf"]] == [
        "weather",
        "get_time",
    ]
    arguments = schema["anyOf"][0]["properties"]["arguments"]
    assert arguments["required"] == ["city"]
    assert arguments["properties"]["unit"] == {"enum": ["C", "F"]}
    assert arguments["properties"]["where"] == {}


@given(JSON)
def test_no_strange_schema_breaks_or_grows_it(schema: Any) -> None:
    more = schema if isinstance(schema, dict) else {}
    tool = Tool("f", "", json.dumps({"properties": {"a": schema}, **more}))
    assert len(json.dumps(call_schema((tool,)))) < 5000
