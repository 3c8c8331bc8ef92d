"""Calls of tools that a model writes as text, and what of the text around them is said. Pure.

Libraries that know a model's own form take its calls out by themselves; for all others, and for a
model that was trained for one form and writes another, they are found here: within the tags that
chat templates name, or as a JSON object with a tool's name where a line begins.

`split_calls` is the rule, for a whole text or for a beginning of one. What a beginning lets be said
is certain. Nothing is said that comes after a call: the model has no result yet.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from fusion.tools import ToolCall, new_call_id

# How calls begin and end in the text of Qwen, Hermes and SmolLM, Phi-4, Mistral, Llama 3, Granite.
_TAGS = {
    "<tool_call>": "</tool_call>",
    "<|tool_call|>": "<|/tool_call|>",
    "[TOOL_CALLS]": "",
    "<|python_tag|>": "",
    "<tools>": "</tools>",
}
_OPENING = re.compile("|".join(map(re.escape, _TAGS)))
# An object, or a list of them, at the beginning of a line, alone or as a block of code.
_OBJECT = re.compile(r"(?:\A|\n)[ \t]*(?:```[a-z]*\s*)?(?=\{|\[\s*\{)")
_OBJECT_BEGINNING = re.compile(r"(?:\A|\n)[ \t]*(?:`{1,2}|```[a-z]*\s*)?(?:\[\s*)?\Z")
_NEXT_OBJECT = re.compile(r"[\s,;`]*(?:json)?\s*(?=\{|\[\s*\{)")
_NAME = re.compile(r'"name"\s*:\s*"([\w-]{1,64})"')
# Qwen 3.5's form, and Mistral's later one.
_FUNCTION = re.compile(r"<function=([\w-]{1,64})>(.*?)(?:</function>|\Z)", re.DOTALL)
_PARAMETER = re.compile(r"<parameter=([^>\n]{1,64})>\n?(.*?)\n?</parameter>", re.DOTALL)
_NAMED = re.compile(r"([\w-]{1,64})\s*(?:\[ARGS\])?\s*(?=\{)")
_ARGUMENTS = ("arguments", "parameters", "args")

# How a call without tags begins, whatever its name.
_CALL = re.compile(r'"name"\s*:\s*"[^"\n]{1,64}"\s*,\s*"(?:arguments|parameters)"\s*:')

# Characters of an object without tags by which it has to look like a call: until then it is held.
_KNOWN_WITHIN = 160

_LONGEST = 16_000  # characters of a text in which calls are looked for


@dataclass(frozen=True)
class Parts:
    """`text` may be said; `calls`, (name, arguments as JSON), are known once all is there."""

    text: str
    calls: tuple[tuple[str, str], ...] = ()


def split_calls(raw: str, *, complete: bool, names: Collection[str]) -> Parts:
    """Part a model's text from the calls in it. `names` are the tools that it may call.

    A call that breaks off or is no JSON has the name of what it was meant for, if that is known,
    and its text for arguments, so that somebody can tell the model.
    """
    tag = _OPENING.search(raw)
    for found in _OBJECT.finditer(raw, 0, tag.start() if tag else len(raw)):
        parts = _read_object(raw, found, complete=complete, names=names)
        if parts is not None:
            return parts
    if tag is not None:
        calls = _tagged_calls(raw[tag.start() :]) if complete else ()
        return Parts(raw[: tag.start()], calls)
    if complete:
        return Parts(raw)
    certain = len(raw) - _undecided(raw)
    if beginning := _OBJECT_BEGINNING.search(raw):
        certain = min(certain, beginning.start())
    return Parts(raw[:certain])


class ToolCallFilter:
    """Takes the calls out of a stream, wherever that is cut."""

    def __init__(self, names: Collection[str]) -> None:
        self._names = frozenset(names)
        self._raw = ""
        self._said = 0

    @property
    def began(self) -> bool:
        """Whether a call began, whatever came of it."""
        return _OPENING.search(self._raw) is not None

    def push(self, piece: str) -> str:
        """What may be said now, after one more piece."""
        self._raw += piece
        if len(self._raw) > _LONGEST:
            return ""
        return self._let_out(split_calls(self._raw, complete=False, names=self._names).text)

    def finish(self) -> tuple[str, list[ToolCall]]:
        """What is left to say, and the calls, once nothing more comes."""
        parts = split_calls(self._raw[:_LONGEST], complete=True, names=self._names)
        calls = [ToolCall(new_call_id(), name, arguments) for name, arguments in parts.calls]
        return self._let_out(parts.text), calls

    def _let_out(self, text: str) -> str:
        more, self._said = text[self._said :], max(self._said, len(text))
        return more


def _undecided(raw: str) -> int:
    """Length of the longest end of a text that a tag begins with."""
    return max(
        (
            length
            for tag in _TAGS
            for length in range(1, min(len(tag), len(raw)) + 1)
            if raw.endswith(tag[:length])
        ),
        default=0,
    )


def _read_object(
    raw: str, found: re.Match[str], *, complete: bool, names: Collection[str]
) -> Parts | None:
    """The parts of a text with an object at `found`; None where that is no call."""
    said, written = raw[: found.start()], raw[found.end() :]
    value, end = _json_at(raw, found.end())
    name = _name_in(written[:_KNOWN_WITHIN])
    if name not in names and not _CALL.search(written[:_KNOWN_WITHIN]):
        may_become_one = not (complete or end or len(written) >= _KNOWN_WITHIN)
        return Parts(said) if may_become_one else None
    calls = _calls_of(value)
    if end and not calls:
        return None
    if not complete:
        return Parts(said)
    if not end:
        return Parts(said, ((name, written.strip()),))
    while following := _NEXT_OBJECT.match(raw, end):
        value, end = _json_at(raw, following.end())
        if not (more := _calls_of(value)):
            break
        calls = (*calls, *more)
    return Parts(said, calls)


def _tagged_calls(inside: str) -> tuple[tuple[str, str], ...]:
    calls: list[tuple[str, str]] = []
    for tag in _OPENING.finditer(inside):
        closing = _TAGS[tag.group()]
        end = inside.find(closing, tag.end()) if closing else -1
        body = inside[tag.end() : end if end >= 0 else len(inside)]
        body = _OPENING.split(body)[0].strip().strip("`").removeprefix("json").strip()
        calls += _calls_in(body)
    return tuple(calls)


def _calls_in(body: str) -> tuple[tuple[str, str], ...]:
    """The calls between two tags."""
    if found := _FUNCTION.findall(body):
        return tuple((name, json.dumps(_parameters(inner))) for name, inner in found)
    value, end = _json_at(body, 0)
    if end and (calls := _calls_of(value)):
        return calls
    if (named := _NAMED.match(body)) and _json_at(body, named.end())[1]:
        return ((named[1], json.dumps(_json_at(body, named.end())[0])),)
    return ((_name_in(body), body),) if body else ()


def _parameters(inner: str) -> dict[str, Any]:
    """Parameters in tags of their own: JSON where it reads as that, else text."""
    parameters: dict[str, Any] = {}
    for name, text in _PARAMETER.findall(inner):
        value, end = _json_at(text, 0)
        parameters[name] = value if end == len(text) > 0 else text
    return parameters


def _json_at(text: str, start: int) -> tuple[Any, int]:
    """The JSON value at a place and where it ends; 0 where there is none."""
    if text.startswith("{{", start):  # Qwen 2.5 Coder's template shows it so by mistake
        start += 1
    try:
        value, end = json.JSONDecoder().raw_decode(text, start)
    except (ValueError, RecursionError):
        return None, 0
    return value, end


def _calls_of(value: Any) -> tuple[tuple[str, str], ...]:
    """The calls that a JSON value is; none where it is something else."""
    if isinstance(value, list):
        calls = [_calls_of(each) for each in value]
        return tuple(call for each in calls for call in each) if calls and all(calls) else ()
    if not isinstance(value, dict):
        return ()
    inner = value.get("function")
    if isinstance(inner, dict):
        value = inner
    name = value.get("name")
    if not isinstance(name, str):
        return ()
    arguments: Any = next((value[key] for key in _ARGUMENTS if key in value), {})
    return ((name, arguments if isinstance(arguments, str) else json.dumps(arguments)),)


def _name_in(broken: str) -> str:
    found = _NAME.search(broken)
    return found[1] if found else ""
