"""Calls within a model's text: found in every form, never said, however the stream is cut."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from language_models.tool_text import ToolCallFilter, split_calls

NAMES = ("get_time", "set_timer")
TIMER = '{"name": "set_timer", "arguments": {"seconds": 300}}'
SECONDS = '{"seconds": 300}'

FORMS = [
    ("Hermes, Qwen 2.5, Qwen 3", f"<tool_call>\n{TIMER}\n</tool_call>"),
    ("without its end", f"<tool_call>\n{TIMER}"),
    ("with the template's own mistake", f"<tool_call>\n{{{TIMER}}}\n</tool_call>"),
    ("fenced within the tags", f"<tool_call>\n```json\n{TIMER}\n```\n</tool_call>"),
    ("Qwen 2.5 Coder", f"<tools>\n{TIMER}\n</tools>"),
    ("Qwen 2.5 Coder 0.5B", TIMER),
    ("Qwen 2.5 Coder 1.5B, by its template", f"{{{TIMER}}}"),
    ("Qwen 2.5 Coder 1.5B", f"```json\n{json.dumps(json.loads(TIMER), indent=2)}\n```"),
    ("Mistral 7B v0.3", f"[TOOL_CALLS] [{TIMER}]"),
    ("Mistral Small 3.2", f"[TOOL_CALLS]set_timer[ARGS]{SECONDS}"),
    ("Llama 3.1", f'{{"name": "set_timer", "parameters": {SECONDS}}}'),
    ("Llama 3.2", f'<|python_tag|>{{"name": "set_timer", "parameters": {SECONDS}}}'),
    ("Phi-4 mini", f"<|tool_call|>[{TIMER}]<|/tool_call|>"),
    ("Granite 3", f"<|tool_call|>[{TIMER}]"),
    (
        "Qwen 3.5",
        "<tool_call>\n<function=set_timer>\n<parameter=seconds>\n300\n</parameter>\n"
        "</function>\n</tool_call>",
    ),
    ("OpenAI's own", f'{{"type": "function", "function": {TIMER}}}'),
]


@pytest.mark.parametrize(("form", "text"), FORMS, ids=[form for form, _ in FORMS])
def test_a_call_is_found_in_every_form(form: str, text: str) -> None:
    for before in ("", "Sure, one moment.\n"):
        parts = split_calls(before + text, complete=True, names=NAMES)
        assert parts.text.strip() == before.strip()
        assert [(name, json.loads(arguments)) for name, arguments in parts.calls] == [
            ("set_timer", {"seconds": 300})
        ]


@pytest.mark.parametrize(
    ("text", "calls"),
    [
        (f"<tool_call>{TIMER}</tool_call>\n<tool_call>{TIMER}</tool_call>", 2),
        (f"[TOOL_CALLS] [{TIMER}, {TIMER}]", 2),
        (f"{TIMER}\n{TIMER}", 2),
        (f"{TIMER}; {TIMER}", 2),
        (f"<tool_call>{TIMER}</tool_call> The timer is set.", 1),
        (f"{TIMER}\nIt is five o'clock.", 1),
    ],
)
def test_several_calls_and_what_is_said_after_them(text: str, calls: int) -> None:
    parts = split_calls(text, complete=True, names=NAMES)
    assert (parts.text, len(parts.calls)) == ("", calls)


@pytest.mark.parametrize(
    "text",
    [
        "It is five o'clock.",
        "A list [of things] and {braces}.",
        "[Laughs] That is funny.",
        '{"key": "value"} is JSON.',
        'JSON has objects: {"name": "set_timer"}.',  # within a line
        '```json\n{"name": "somebody", "age": 3}\n```',
        "```python\nprint(1)\n```",
        "a < b and <b>bold</b>",
    ],
)
def test_what_is_no_call_is_said(text: str) -> None:
    assert split_calls(text, complete=True, names=NAMES).text == text
    reader = ToolCallFilter(NAMES)
    said = "".join(reader.push(letter) for letter in text)
    rest, calls = reader.finish()
    assert (said + rest, calls) == (text, [])


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ('<tool_call>\n{"name": "set_timer", "arguments": {"seco', "set_timer"),
        ("<tool_call>\nset a timer please", ""),
        ('{"name": "set_timer", "arguments": {"seconds": 3', "set_timer"),
    ],
)
def test_a_broken_call_is_a_call_and_not_said(text: str, name: str) -> None:
    parts = split_calls(text, complete=True, names=NAMES)
    assert parts.text == ""
    assert [each for each, _ in parts.calls] == [name]


def test_a_call_is_not_said_where_no_tools_are_or_none_of_its_name() -> None:
    for text in (TIMER, f"<tool_call>{TIMER}", f"{{{TIMER}}}"):
        assert split_calls(text, complete=True, names=()).text == ""
    unknown = '{"name": "play_music", "arguments": {}}'
    parts = split_calls(f"Sure.\n{unknown}", complete=True, names=NAMES)
    assert (parts.text, parts.calls) == ("Sure.", (("play_music", "{}"),))


TEXTS = st.lists(
    st.sampled_from(
        [
            *(text for _, text in FORMS),
            *("Hello. ", "\n", "<", "[", "{", "```", "json\n", '{"a": 1}', "[TOOL", "<tool_", "}"),
            *('"name": "get_time"', "It is five. ", "`", " ", "{'x'}", "[{"),
        ]
    ),
    max_size=6,
).map("".join)


@given(TEXTS, st.data())
def test_how_a_stream_is_cut_makes_no_difference(text: str, data: st.DataObject) -> None:
    whole = split_calls(text, complete=True, names=NAMES)
    reader = ToolCallFilter(NAMES)
    said, rest = "", text
    while rest:
        cut = data.draw(st.integers(1, min(20, len(rest))))
        said += reader.push(rest[:cut])
        rest = rest[cut:]
        assert whole.text.startswith(said)
    last, calls = reader.finish()
    assert said + last == whole.text
    assert tuple((call.name, call.arguments) for call in calls) == whole.calls


@given(st.text(max_size=300))
def test_any_text_is_read(text: str) -> None:
    parts = split_calls(text, complete=True, names=NAMES)
    assert text.startswith(parts.text)
