"""What a client may say, checked. Pure: text in, values or a ProtocolError out."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Literal, overload

from fusion.audio import SAMPLE_RATE
from fusion.errors import ProtocolError
from fusion.languages import AUTOMATIC, language_code
from fusion.messages import Wish
from fusion.tools import NO_TOOLS, ToolOffer, bounded_output, parse_offer
from whisper_live.incoming_audio import FORMATS

END_OF_AUDIO = "END_OF_AUDIO"

TURN_DETECTIONS = ("semantic", "silence", "none")
"""What ends a turn: voice, words and silence; a silence alone; the client."""

_LONGEST_TEXT = 4000
_HISTORY_PARTS = {
    "user": ("content",),
    "assistant": ("content",),
    "tool_call": ("id", "name", "arguments"),
    "tool_result": ("id", "content"),
}
"""What each part of a history consists of, by its role."""
_LONGEST_HISTORY = 100
_MOST_HISTORY_TEXT = 20_000  # characters; no prompt takes more
_SAMPLE_RATES = range(8_000, 192_001)
_EXAMPLE = '{"uid": "me", "language": "en", "task": "transcribe"}'


@dataclass(frozen=True)
class Hello:
    """A client's first message: see docs/protocol.md."""

    uid: str
    language: str | None
    task: str
    audio_format: str
    sample_rate: int
    stream: bool
    reply: bool
    system_prompt: str
    voice: str
    context: str
    history: tuple[tuple[str, str], ...]
    token: object
    resume: str
    buffer_lead: float | None
    tools: ToolOffer = NO_TOOLS


@dataclass(frozen=True)
class Command:
    """A JSON message after the handshake."""

    name: Literal[
        "end_turn", "interrupt", "say", "clear", "configure", "respond", "read_aloud", "tool_result"
    ]
    text: str = ""
    turn: int | None = None
    changes: Changes | None = None
    wanted: Wanted | None = None
    result: ToolOutput | None = None
    own_words: OwnWords | None = None


@dataclass(frozen=True)
class ToolOutput:
    """What a call came to that the client carried out."""

    call_id: str
    text: str
    failed: bool


@dataclass(frozen=True)
class Changes:
    """What `configure` changes; None leaves a thing as it is."""

    system_prompt: str | None = None
    voice: str | None = None
    history: tuple[tuple[str, str], ...] | None = None
    max_tokens: int | None = None
    turn_detection: str | None = None
    wait: float | None = None
    vad_threshold: float | None = None
    respond: bool | None = None
    barge_in: bool | None = None
    speak: bool | None = None
    tools: ToolOffer | None = None


@dataclass(frozen=True)
class Wanted:
    """A reply that the client asks for by `respond`: its `name`, and how it is to be made."""

    name: str
    wish: Wish
    speak: bool


@dataclass(frozen=True)
class OwnWords:
    """Text that is said as it is, by `read_aloud`; more of that `name` follows unless `last`."""

    name: str
    text: str
    last: bool


def parse_hello(message: str | bytes, languages: Collection[str]) -> Hello:
    """Read the handshake. `languages` are those that the transcriber knows.

    Raises ProtocolError with a sentence that says what was expected.
    """
    if isinstance(message, bytes):
        raise ProtocolError(f"The first message must be text, such as {_EXAMPLE}.")
    fields = _json_object(message, _EXAMPLE)
    uid = fields.get("uid", "" if fields.get("resume") else None)
    if not isinstance(uid, str | int) or isinstance(uid, bool) or len(str(uid)) > 200:
        raise ProtocolError(
            f'"uid" must be a text of yours, at most 200 characters, as in {_EXAMPLE}.'
        )
    stream, tools = _flag(fields, "stream", False), parse_offer(fields)
    if tools.tools and not stream:
        raise ProtocolError('"tools" need "stream": true, as calls are events.')
    return Hello(
        uid=str(uid),
        language=_language(fields, languages),
        task=_one_of(fields, "task", ("transcribe", "translate")),
        audio_format=_one_of(fields, "audio_format", tuple(FORMATS)),
        sample_rate=_sample_rate(fields),
        stream=stream,
        reply=_flag(fields, "reply", True),
        system_prompt=_text(fields, "system_prompt"),
        voice=_text(fields, "voice"),
        context=" ".join(
            part for part in (_text(fields, "initial_prompt"), _text(fields, "hotwords")) if part
        ),
        history=_history(fields.get("history") or []),
        token=fields.get("token"),
        resume=_text(fields, "resume"),
        buffer_lead=_number(fields, "buffer_lead", 0.05, 3600.0),
        tools=tools,
    )


def parse_command(message: str) -> Command:
    """Read a JSON message that came after the handshake. Raises ProtocolError."""
    example = '{"command": "end_turn"}, {"command": "interrupt"} or {"command": "say", "text": …}'
    fields = _json_object(message, example)
    name = fields.get("command")
    if name == "say":
        text = _text(fields, "text").strip()
        if not text:
            raise ProtocolError('"say" needs a "text" that is not empty.')
        return Command("say", text)
    if name == "interrupt":
        turn = _number(fields, "turn", 0, 1 << 31)
        return Command("interrupt", turn=None if turn is None else int(turn))
    if name == "configure":
        return Command("configure", changes=_changes(fields))
    if name == "respond":
        changes = _changes(fields, history_only=True)
        return Command("respond", changes=changes, wanted=_wanted(fields))
    if name == "tool_result":
        return Command("tool_result", result=_tool_output(fields))
    if name == "read_aloud":
        last = bool(_flag(fields, "last", True))
        words = OwnWords(_text(fields, "id"), _text(fields, "text"), last)
        return Command("read_aloud", own_words=words)
    if name not in ("end_turn", "clear"):
        raise ProtocolError(f"Expected audio, {END_OF_AUDIO}, {example}.")
    return Command(name)


def _changes(fields: dict[str, Any], *, history_only: bool = False) -> Changes:
    """What a command changes; of `respond`, which may be about something else, the history."""
    history = fields.get("history")
    rewritten = None if history is None or fields.get("aside") else _history(history)
    if history_only:
        return Changes(history=rewritten)
    tokens = _number(fields, "max_tokens", 0, 1 << 20)
    return Changes(
        system_prompt=_text(fields, "system_prompt") if "system_prompt" in fields else None,
        voice=_text(fields, "voice") if "voice" in fields else None,
        history=rewritten,
        max_tokens=None if tokens is None else int(tokens),
        turn_detection=(
            _one_of(fields, "turn_detection", TURN_DETECTIONS)
            if "turn_detection" in fields
            else None
        ),
        wait=_number(fields, "wait", 0.05, 3600.0),
        vad_threshold=_number(fields, "vad_threshold", 0.01, 1.0),
        respond=_flag(fields, "respond", None),
        barge_in=_flag(fields, "barge_in", None),
        speak=_flag(fields, "speak", None),
        tools=parse_offer(fields) if "tools" in fields else None,
    )


def _tool_output(fields: dict[str, Any]) -> ToolOutput:
    call_id = _text(fields, "id")
    output = fields.get("output")
    if not call_id or output is None:
        raise ProtocolError(
            '"tool_result" needs the "id" of its call and an "output", a text or any JSON.'
        )
    text = output if isinstance(output, str) else json.dumps(output, ensure_ascii=False)
    return ToolOutput(call_id, bounded_output(text), bool(_flag(fields, "failed", False)))


def _wanted(fields: dict[str, Any]) -> Wanted:
    tokens = _number(fields, "max_tokens", 0, 1 << 20)
    wish = Wish(
        system_prompt=_text(fields, "system_prompt"),
        max_tokens=int(tokens or 0),
        aside=_history(fields.get("history") or []) if fields.get("aside") else None,
        tools=parse_offer(fields) if "tools" in fields else None,
    )
    return Wanted(_text(fields, "id"), wish, bool(_flag(fields, "speak", True)))


def _json_object(message: str, example: str) -> dict[str, Any]:
    try:
        fields = json.loads(message)
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict):
        raise ProtocolError(f"Expected a JSON object, such as {example}.")
    return fields


def _language(fields: dict[str, Any], languages: Collection[str]) -> str | None:
    language = fields.get("language", "en")
    if language is None or (isinstance(language, str) and language.lower() == AUTOMATIC):
        return next(iter(languages)) if len(languages) == 1 else None
    code = language_code(language, languages) if isinstance(language, str) else None
    if code is None:
        raise ProtocolError(
            f"The language {language!r} is not known to this server's model; it knows "
            f'"{AUTOMATIC}", which detects it, and {", ".join(sorted(languages))}.'
        )
    return code


def _one_of(fields: dict[str, Any], name: str, choices: tuple[str, ...]) -> str:
    """The first choice is the default."""
    value = fields.get(name) or choices[0]
    if value not in choices:
        raise ProtocolError(f'"{name}" must be one of {", ".join(choices)}, not {value!r}.')
    return str(value)


@overload
def _flag(fields: dict[str, Any], name: str, default: bool) -> bool: ...
@overload
def _flag(fields: dict[str, Any], name: str, default: None) -> bool | None: ...
def _flag(fields: dict[str, Any], name: str, default: bool | None) -> bool | None:
    value = fields.get(name)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise ProtocolError(f'"{name}" must be true or false, not {value!r}.')
    return value


def _number(fields: dict[str, Any], name: str, least: float, most: float) -> float | None:
    value = fields.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        raise ProtocolError(f'"{name}" must be a number from {least:g} to {most:g}, not {value!r}.')
    return float(value)


def _text(fields: dict[str, Any], name: str) -> str:
    value = fields.get(name)
    if value is None:
        return ""
    if not isinstance(value, str) or len(value) > _LONGEST_TEXT:
        raise ProtocolError(f'"{name}" must be a text of at most {_LONGEST_TEXT} characters.')
    return _whole_characters(value)


def _whole_characters(text: str) -> str:
    """The text with "?" for each half of a surrogate pair: JSON may hold it, no model takes it."""
    return text.encode("utf-8", "replace").decode()


def _sample_rate(fields: dict[str, Any]) -> int:
    value = fields.get("sample_rate") or SAMPLE_RATE
    if isinstance(value, bool) or not isinstance(value, int) or value not in _SAMPLE_RATES:
        raise ProtocolError(
            f'"sample_rate" must be a whole number of Hz from 8000 to 192000, not {value!r}.'
        )
    return value


def _history(value: Any) -> tuple[tuple[str, str], ...]:
    expected = ProtocolError(
        f'"history" must be a list of at most {_LONGEST_HISTORY} '
        '{"role": "user" or "assistant", "content": text}, or of the calls of tools and their '
        "results, as docs/protocol.md has them."
    )
    if not isinstance(value, list) or len(value) > _LONGEST_HISTORY:
        raise expected
    turns: list[tuple[str, str]] = []
    for part in value:
        role = part.get("role") if isinstance(part, dict) else None
        if not isinstance(role, str) or role not in _HISTORY_PARTS:
            raise expected
        written = {name: part.get(name) for name in _HISTORY_PARTS[role]}
        if any(not isinstance(each, str) or len(each) > _LONGEST_TEXT for each in written.values()):
            raise expected
        content = written["content"] if tuple(written) == ("content",) else json.dumps(written)
        turns.append((role, _whole_characters(str(content))))
    # The latest are what a prompt has room for; going through all of them would hold up others.
    room = _MOST_HISTORY_TEXT
    kept = 0
    for _, content in reversed(turns):
        room -= len(content)
        if room < 0:
            break
        kept += 1
    return tuple(turns[len(turns) - kept :])
