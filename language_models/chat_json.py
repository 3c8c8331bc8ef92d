"""Messages and tools as JSON: as OpenAI's chat API takes them, and as chat templates do. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from fusion.tools import Tool, ToolCall, new_call_id
from language_models.base import ChatMessage
from language_models.conversation import escape_special_tokens


def messages_as_json(messages: Sequence[ChatMessage]) -> list[dict[str, Any]]:
    """For a server or library that speaks OpenAI's chat API: arguments are text."""
    return [_as_json(message, lambda arguments: arguments) for message in messages]


def messages_for_template(messages: Sequence[ChatMessage]) -> list[dict[str, Any]]:
    """For a Hugging Face chat template: arguments are objects."""
    return [_as_json(message, json.loads) for message in messages]


def tools_as_json(tools: Sequence[Tool]) -> list[dict[str, Any]]:
    """Tools for either. What strangers wrote into them opens no role."""
    described: list[dict[str, Any]] = _escaped([tool.as_json() for tool in tools])
    return described


def call_schema(tools: Sequence[Tool]) -> dict[str, Any]:
    """A JSON schema of one call of any of these tools, for a library that can keep a model to it.

    A stranger's schema could be one that takes for ever: of each tool the simple parameters count.
    """
    return {"anyOf": [_call_of(tool) for tool in tools]}


def _call_of(tool: Tool) -> dict[str, Any]:
    schema = tool.schema
    declared = schema.get("properties")
    known = declared if isinstance(declared, Mapping) else {}
    properties = {name: _simple(known[name]) for name in list(known)[:_MOST_PARAMETERS]}
    wanted = schema.get("required")
    required = [name for name in wanted if name in properties] if isinstance(wanted, list) else []
    arguments = {"type": "object", "properties": properties, "required": required}
    return {
        "type": "object",
        "properties": {"name": {"const": tool.name}, "arguments": arguments},
        "required": ["name", "arguments"],
    }


def _simple(schema: object) -> dict[str, Any]:
    """What of a parameter's schema is a plain type or a choice of short words."""
    if not isinstance(schema, Mapping):
        return {}
    choices = schema.get("enum")
    words = choices if isinstance(choices, list) else []
    short = all(isinstance(each, str) and len(each) <= 64 for each in words)
    if short and 0 < len(words) <= _MOST_CHOICES:
        return {"enum": words}
    kind = schema.get("type")
    return {"type": kind} if kind in ("string", "integer", "number", "boolean") else {}


_MOST_PARAMETERS = 16
_MOST_CHOICES = 32


class CallFragments:
    """Joins the fragments of calls that OpenAI's chat API streams; leaves out what does not fit."""

    def __init__(self) -> None:
        self._calls: dict[int, dict[str, str]] = {}

    def add(self, fragments: object) -> None:
        """Take the `tool_calls` of one delta."""
        for position, fragment in enumerate(fragments if isinstance(fragments, list) else ()):
            if not isinstance(fragment, Mapping):
                continue
            function, index = fragment.get("function"), fragment.get("index")
            if not isinstance(function, Mapping):
                continue
            call = self._calls.setdefault(
                index if isinstance(index, int) else position, {"name": "", "arguments": ""}
            )
            for key, value in function.items():
                if key == "arguments" and isinstance(value, Mapping):  # Ollama's older form
                    value = json.dumps(value)
                if key in call and isinstance(value, str):
                    call[key] = (call[key] + value)[:_LONGEST]

    def calls(self) -> list[ToolCall]:
        """The whole calls, in their order."""
        return [
            ToolCall(new_call_id(), call["name"], call["arguments"] or "{}")
            for _, call in sorted(self._calls.items())
        ]


_LONGEST = 16_000


def _as_json(message: ChatMessage, arguments: Any) -> dict[str, Any]:
    fields: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.calls:
        fields["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": arguments(call.arguments)},
            }
            for call in message.calls
        ]
    if message.role == "tool":
        fields |= {"tool_call_id": message.call_id, "name": message.name}
    return fields


def _escaped(value: Any) -> Any:
    if isinstance(value, str):
        return escape_special_tokens(value)
    if isinstance(value, list):
        return [_escaped(each) for each in value]
    if isinstance(value, dict):
        return {escape_special_tokens(key): _escaped(each) for key, each in value.items()}
    return value
