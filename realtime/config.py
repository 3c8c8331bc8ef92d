"""The configuration of a Realtime session: what a client may set, merged piece by piece.

`session.update` carries only what changes; what it does not name stays, and `""`, `[]` and `null`
clear a field. A field that is not known here is taken for one of a later version and left alone.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fusion.errors import ProtocolError
from fusion.tools import parse_offer
from realtime.events import RealtimeError

EAGERNESS = {"low": 8.0, "medium": 4.0, "auto": 4.0, "high": 2.0}
"""Seconds at most that `semantic_vad` waits for more, by its eagerness."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore")


class Format(_Part):
    """`audio/pcm` is 24 kHz, 16 bits, little-endian; the other two are telephony's, at 8 kHz."""

    type: Literal["audio/pcm", "audio/pcmu", "audio/pcma"] = "audio/pcm"
    rate: Literal[24000] | None = None


class NoiseReduction(_Part):
    type: Literal["near_field", "far_field"] | None = None


class Transcription(_Part):
    model: str = "whisper-1"
    language: str | None = None
    prompt: str | None = None


class ServerVad(_Part):
    type: Literal["server_vad"] = "server_vad"
    threshold: Annotated[float, Field(ge=0, le=1)] = 0.5
    prefix_padding_ms: Annotated[int, Field(ge=0)] = 300
    silence_duration_ms: Annotated[int, Field(ge=0, le=60_000)] = 500
    create_response: bool = True
    interrupt_response: bool = True
    idle_timeout_ms: Annotated[int | None, Field(ge=1)] = None


class SemanticVad(_Part):
    type: Literal["semantic_vad"]
    eagerness: Literal["low", "medium", "high", "auto"] = "auto"
    create_response: bool = True
    interrupt_response: bool = True


TurnDetection = Annotated[ServerVad | SemanticVad, Field(discriminator="type")]


class AudioInput(_Part):
    format: Format = Format(rate=24000)
    noise_reduction: NoiseReduction | None = None
    transcription: Transcription | None = None
    turn_detection: TurnDetection | None = ServerVad()


class AudioOutput(_Part):
    format: Format = Format(rate=24000)
    voice: str = ""
    speed: Annotated[float, Field(ge=0.25, le=1.5)] = 1.0


class Audio(_Part):
    input: AudioInput = AudioInput()
    output: AudioOutput = AudioOutput()


class FunctionTool(_Part):
    type: Literal["function"] = "function"
    name: Annotated[str, Field(max_length=64, pattern=r"^[\w-]+$")]
    description: str = ""
    parameters: dict[str, Any] = {}


class NamedTool(_Part):
    type: Literal["function"] = "function"
    name: str


ToolChoice = Literal["auto", "none", "required"] | NamedTool
Modalities = list[Literal["audio", "text"]]
MaxTokens = Annotated[int, Field(ge=1, le=4096)] | Literal["inf"]


class SessionConfig(_Part):
    """All of it, as `session.created` and `session.updated` show it."""

    type: Literal["realtime"] = "realtime"
    model: str
    output_modalities: Annotated[Modalities, Field(min_length=1, max_length=1)] = ["audio"]
    instructions: Annotated[str, Field(max_length=4000)] = ""
    audio: Audio = Audio()
    tools: list[FunctionTool] = []
    tool_choice: ToolChoice = "auto"
    parallel_tool_calls: bool = True
    max_output_tokens: MaxTokens = "inf"
    tracing: Literal["auto"] | dict[str, Any] | None = None
    truncation: Literal["auto", "disabled"] | dict[str, Any] = "auto"
    include: list[str] | None = None

    def shown(self) -> dict[str, Any]:
        """The effective configuration, for the client."""
        return self.model_dump(mode="json")

    def updated(self, changes: object, *, voice_is_fixed: bool) -> SessionConfig:
        """Return the configuration with a client's changes merged in.

        Raises RealtimeError, and changes nothing, for a value that does not fit
        and, once the voice was played (`voice_is_fixed`), for another voice.
        """
        if not isinstance(changes, dict):
            raise RealtimeError("session has to be an object.", "invalid_value", param="session")
        if changes.get("type", "realtime") != "realtime":
            raise RealtimeError(
                "Only sessions of the type realtime are served.",
                "invalid_value",
                param="session.type",
            )
        # Every name is the one pipeline: a library that sends its own default again is served.
        merged = {**_merge(self.model_dump(), _cleared(changes)), "model": self.model}
        new = checked(SessionConfig, merged, "session")
        # What has no effect here is shown so.
        new.audio.output.speed, new.audio.input.noise_reduction = 1.0, None
        offer(new.tools, new.tool_choice, "session")
        if voice_is_fixed and new.audio.output.voice != self.audio.output.voice:
            raise RealtimeError(
                "The voice cannot be changed after the first audio of a session.",
                "cannot_update_voice",
                param="session.audio.output.voice",
            )
        return new


class ResponseConfig(_Part):
    """What `response.create` asks for; None and absent fields are those of the session."""

    conversation: Literal["auto", "none"] = "auto"
    input: list[dict[str, Any]] | None = None
    instructions: Annotated[str | None, Field(max_length=4000)] = None
    output_modalities: Annotated[Modalities | None, Field(min_length=1, max_length=1)] = None
    tools: list[FunctionTool] | None = None
    tool_choice: ToolChoice | None = None
    metadata: dict[str, str] | None = None
    max_output_tokens: MaxTokens | None = None


Checked = TypeVar("Checked", bound=BaseModel)


def checked(kind: type[Checked], value: object, name: str) -> Checked:
    """Return `value` as a model. Raises RealtimeError that names the first field in error."""
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(str(part) for part in (name, *first["loc"]))
        raise RealtimeError(f"{where}: {first['msg']}.", "invalid_value", param=where) from error


def offer(
    tools: list[FunctionTool], choice: ToolChoice, name: str, *, parallel: bool = True
) -> dict[str, Any]:
    """What a model may call, in the words of our own wire. Raises RealtimeError.

    `name` is of what holds the two, for the error.
    """
    if isinstance(choice, NamedTool) and choice.name not in [tool.name for tool in tools]:
        raise RealtimeError(
            f"There is no tool {choice.name!r}.", "invalid_value", param=f"{name}.tool_choice"
        )
    fields = {
        "tools": [tool.model_dump(exclude={"type"}) for tool in tools],
        "tool_choice": {"name": choice.name} if isinstance(choice, NamedTool) else choice,
        "parallel_tool_calls": parallel,
        "tool_calls_end_reply": True,
    }
    try:
        parse_offer(fields)
    except ProtocolError as error:
        raise RealtimeError(str(error), "invalid_value", param=f"{name}.tools") from error
    return fields


def _cleared(changes: dict[str, Any]) -> dict[str, Any]:
    """Where null or nothing clears a field, what it is then."""
    result = dict(changes)
    defaults = {"instructions": "", "tools": [], "tool_choice": "auto", "max_output_tokens": "inf"}
    for name, default in defaults.items():
        if name in result and result[name] in (None, "", []):
            result[name] = default
    return result


def _merge(old: Any, new: Any) -> Any:
    """`new` laid over `old`; a detector, tool choice or other union of another type replaces it."""
    if not isinstance(old, dict) or not isinstance(new, dict):
        return new
    if "type" in new and "type" in old and new["type"] != old["type"]:
        return new
    return {**old, **{name: _merge(old.get(name), value) for name, value in new.items()}}
