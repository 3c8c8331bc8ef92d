"""Tools: what a language model may call, how a call looks, and what is accepted from whom. Pure.

A client, an MCP server and a model are strangers: what they say of a tool, its arguments and what
it returns is bounded and checked here before anybody uses it.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import string
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

from fusion.errors import ProtocolError

MOST_TOOLS = 32
LONGEST_DESCRIPTION = 2000
LARGEST_SCHEMA = 4000
"""Characters of a tool's description, and of its parameters as JSON."""

LARGEST_ARGUMENTS = 4000
LONGEST_OUTPUT = 4000
"""Characters of a call's arguments, and of what comes back; more is cut off."""

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_LETTERS = string.ascii_letters + string.digits
_ID_LENGTH = 9  # Mistral's templates take no other

_TYPES: dict[str, type | tuple[type, ...]] = {
    "object": dict,
    "array": list,
    "string": str,
    "boolean": bool,
    "integer": int,
    "number": (int, float),
    "null": type(None),
}


@dataclass(frozen=True)
class Tool:
    """A function that a model may call. `parameters`: the JSON schema of its arguments, as text."""

    name: str
    description: str = ""
    parameters: str = '{"type": "object", "properties": {}}'

    @property
    def schema(self) -> dict[str, Any]:
        value: dict[str, Any] = json.loads(self.parameters)
        return value

    def as_json(self) -> dict[str, Any]:
        """The tool in the form that OpenAI's chat API and chat templates take."""
        function = {
            "name": self.name,
            "description": self.description,
            "parameters": self.schema,
        }
        return {"type": "function", "function": function}


@dataclass(frozen=True)
class ToolCall:
    """A model calls a tool. `arguments` is JSON text, as the model wrote it."""

    id: str
    name: str
    arguments: str = "{}"


Choice = Literal["auto", "none", "required"]


@dataclass(frozen=True)
class ToolOffer:
    """What a session's model may call: `choice` says whether it may, or has to.

    With `ends_reply` a reply ends with its calls, and the client asks for the next one itself;
    otherwise the reply goes on as soon as there are results.
    """

    tools: tuple[Tool, ...] = ()
    choice: Choice = "auto"
    ends_reply: bool = False
    parallel: bool = True
    """Whether several calls may come at once."""

    @property
    def required(self) -> bool:
        return bool(self.tools) and self.choice == "required"

    def restricted(self) -> tuple[Tool, ...]:
        """The tools that may be called."""
        return () if self.choice == "none" else self.tools


NO_TOOLS = ToolOffer()


class ToolError(Exception):
    """A call cannot be carried out, or failed; the text is a sentence for the model and client."""


def new_call_id() -> str:
    """A name for a call that every chat template takes."""
    return "".join(secrets.choice(_LETTERS) for _ in range(_ID_LENGTH))


def parse_tools(value: object) -> tuple[Tool, ...]:
    """Read a client's list of tools, each {"name", "description", "parameters"}.

    OpenAI's two forms of it do as well. Raises ProtocolError with a sentence.
    """
    if value is None:
        return ()
    if not isinstance(value, list) or len(value) > MOST_TOOLS:
        raise ProtocolError(f'"tools" must be a list of at most {MOST_TOOLS}.')
    tools = tuple(parse_tool(each) for each in value)
    if len({tool.name for tool in tools}) < len(tools):
        raise ProtocolError('"tools" has the same name twice.')
    return tools


def parse_tool(value: object) -> Tool:
    """Read one description of a tool. Raises ProtocolError with a sentence."""
    if isinstance(value, Mapping) and isinstance(value.get("function"), Mapping):
        value = value["function"]
    name = value.get("name") if isinstance(value, Mapping) else None
    if not isinstance(value, Mapping) or not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ProtocolError(
            'A tool has a "name" of at most 64 letters, digits, underscores and dashes, as in '
            '{"name": "get_time", "description": "Tell the time.", "parameters": {…}}.'
        )
    description = value.get("description") or ""
    if not isinstance(description, str) or len(description) > LONGEST_DESCRIPTION:
        raise ProtocolError(
            f'The "description" of the tool {name} must be a text of at most '
            f"{LONGEST_DESCRIPTION} characters."
        )
    schema = value.get("parameters") or {}
    if not isinstance(schema, Mapping) or schema.get("type", "object") != "object":
        raise ProtocolError(f'The "parameters" of the tool {name} must be a schema of an object.')
    written = json.dumps({"type": "object", "properties": {}, **schema})
    if len(written) > LARGEST_SCHEMA or _depth(schema) > _DEEPEST:
        raise ProtocolError(
            f'The "parameters" of the tool {name} have more than {LARGEST_SCHEMA} characters of '
            f"JSON, or more than {_DEEPEST} levels."
        )
    return Tool(name, _whole_characters(description), written)


def parse_offer(fields: Mapping[str, Any]) -> ToolOffer:
    """Read `tools`, `tool_choice`, `parallel_tool_calls` and `tool_calls_end_reply`.

    Raises ProtocolError with a sentence.
    """
    tools = parse_tools(fields.get("tools"))
    choice = fields.get("tool_choice") or "auto"
    named = choice.get("name") if isinstance(choice, Mapping) else None
    if named is not None:
        tools, choice = tuple(tool for tool in tools if tool.name == named), "required"
    if (
        not isinstance(choice, str)
        or choice not in ("auto", "none", "required")
        or (named is not None and not tools)
    ):
        raise ProtocolError(
            '"tool_choice" must be "auto", "none", "required" or {"name": one of the tools}.'
        )
    flags = {}
    for name, default in (("tool_calls_end_reply", False), ("parallel_tool_calls", True)):
        flags[name] = fields.get(name, default)
        if not isinstance(flags[name], bool):
            raise ProtocolError(f'"{name}" must be true or false.')
    ends_reply, parallel = flags["tool_calls_end_reply"], flags["parallel_tool_calls"]
    return ToolOffer(tools, cast(Choice, choice), ends_reply, parallel)


def bounded_output(text: str) -> str:
    """What a tool returned, no longer than a prompt has room for."""
    text = _whole_characters(text)
    return text if len(text) <= LONGEST_OUTPUT else f"{text[: LONGEST_OUTPUT - 4]} […]"


def presentable_id(call_id: str) -> str:
    """The name of a call as a prompt may show it; always the same one for the same name."""
    known = _NAME.fullmatch(call_id)
    return call_id if known else hashlib.sha256(call_id.encode()).hexdigest()[:_ID_LENGTH]


def presentable(call: ToolCall) -> ToolCall:
    """The call as a prompt may show it: with an id, a name, and an object for arguments."""
    try:
        whole = isinstance(json.loads(call.arguments), dict)
    except (ValueError, RecursionError):
        whole = False
    name = call.name if _NAME.fullmatch(call.name) else "unknown"
    arguments = call.arguments if whole else "{}"
    return ToolCall(presentable_id(call.id), name, arguments)


# -- a model's arguments -------------------------------------------------------------------------


def checked_call(call: ToolCall, tools: tuple[Tool, ...]) -> ToolCall:
    """Return the call with arguments that fit the tool's schema.

    A number or truth value in quotation marks is taken for what it says, and where a tool has no
    parameters whatever comes for them is left out: small models write such things. Checked are
    types, `required`, `enum`, and names that are not allowed; the rest is the tool's own business.

    Raises:
        ToolError: there is no such tool, or its arguments do not fit.
    """
    tool = next((tool for tool in tools if tool.name == call.name), None)
    if tool is None:
        names = ", ".join(tool.name for tool in tools) or "none"
        raise ToolError(f"There is no tool {call.name[:64]!r}; there are {names}.")
    if len(call.arguments) > LARGEST_ARGUMENTS:
        raise ToolError(f"The arguments have more than {LARGEST_ARGUMENTS} characters.")
    try:
        arguments = json.loads(call.arguments or "{}")
    except (ValueError, RecursionError):
        arguments = None
    if not isinstance(arguments, dict) or _depth(arguments) > _DEEPEST:
        raise ToolError("The arguments are no JSON object.")
    schema = tool.schema
    if not schema.get("properties") and not schema.get("required"):
        arguments = arguments if schema.get("additionalProperties") else {}
    return replace(call, arguments=json.dumps(_fitted(arguments, schema, "arguments")))


_DEEPEST = 12


def _depth(value: object) -> int:
    """Levels of a JSON value, counted no further than needed."""
    level, depth = [value], 0
    while level and depth <= _DEEPEST:
        depth += 1
        inner: list[object] = []
        for each in level:
            if isinstance(each, Mapping):
                inner += each.values()
            elif isinstance(each, list):
                inner += each
        level = inner
    return depth


def _fitted(value: Any, schema: object, where: str) -> Any:
    """`value` as the schema wants it. Raises ToolError that names the place."""
    if not isinstance(schema, Mapping):
        return value
    kinds = schema.get("type")
    allowed = [kinds] if isinstance(kinds, str) else kinds if isinstance(kinds, list) else []
    known = [kind for kind in allowed if kind in _TYPES]
    if known and not any(_is(value, kind) for kind in known):
        value = _reread(value, known, where)
    choices = schema.get("enum")
    if isinstance(choices, list) and value not in choices:
        raise ToolError(f"{where} must be one of {_short(choices)}, not {_short(value)}.")
    if isinstance(value, list):
        items = schema.get("items")
        return [_fitted(each, items, f"{where}[{at}]") for at, each in enumerate(value)]
    if isinstance(value, dict):
        return _fitted_object(value, schema, where)
    return value


def _fitted_object(value: dict[str, Any], schema: Mapping[str, Any], where: str) -> dict[str, Any]:
    declared = schema.get("properties")
    properties = declared if isinstance(declared, Mapping) else {}
    required = schema.get("required")
    for name in required if isinstance(required, list) else []:
        if name not in value:
            raise ToolError(f"{where} lacks {name!r}.")
    unknown = [name for name in value if name not in properties]
    if unknown and schema.get("additionalProperties") is False:
        raise ToolError(f"{where} must not have {unknown[0][:64]!r}.")
    return {
        name: _fitted(each, properties.get(name), f"{where}.{name[:64]}")
        for name, each in value.items()
    }


def _is(value: object, kind: str) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    if kind == "integer" and isinstance(value, float):
        return value.is_integer()
    return isinstance(value, _TYPES[kind])


def _reread(value: Any, kinds: list[str], where: str) -> Any:
    """A number or truth value that came as text."""
    if isinstance(value, str):
        try:
            written = json.loads(value.strip().lower())
        except (ValueError, RecursionError):
            written = value
        simple = ("integer", "number", "boolean", "null")
        if any(kind in simple and _is(written, kind) for kind in kinds):
            return written
    raise ToolError(f"{where} must be of the type {' or '.join(kinds)}, not {_short(value)}.")


def _short(value: object) -> str:
    written = json.dumps(value, ensure_ascii=False)
    return written if len(written) <= 80 else f"{written[:79]}…"


def _whole_characters(text: str) -> str:
    """The text with "?" for each half of a surrogate pair."""
    return text.encode("utf-8", "replace").decode()
