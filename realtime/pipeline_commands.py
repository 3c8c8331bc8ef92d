"""A Realtime configuration and conversation in the words of our own wire. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fusion.tools import LARGEST_ARGUMENTS, LONGEST_OUTPUT
from realtime.config import EAGERNESS, ResponseConfig, SemanticVad, SessionConfig, offer

_MOST_TURNS = 100
_LONGEST = 4000


def listening(config: SessionConfig) -> dict[str, Any]:
    """Fields of the command `configure`, but for what the language model is told."""
    detection = config.audio.input.turn_detection
    tokens = config.max_output_tokens
    fields: dict[str, Any] = {
        **offered(config, ResponseConfig()),
        "speak": config.output_modalities == ["audio"],
        "voice": config.audio.output.voice,
        "max_tokens": tokens if isinstance(tokens, int) else 0,
    }
    if detection is None:
        return {**fields, "turn_detection": "none", "respond": False, "barge_in": False}
    fields |= {"respond": detection.create_response, "barge_in": detection.interrupt_response}
    if isinstance(detection, SemanticVad):
        return {**fields, "turn_detection": "semantic", "wait": EAGERNESS[detection.eagerness]}
    return {
        **fields,
        "turn_detection": "silence",
        "wait": max(0.05, detection.silence_duration_ms / 1000),
        "vad_threshold": max(0.01, detection.threshold),
    }


def offered(config: SessionConfig, response: ResponseConfig) -> dict[str, Any]:
    """What may be called in a response: its own tools and choice, else the session's.

    Raises RealtimeError where they do not fit.
    """
    tools = config.tools if response.tools is None else response.tools
    choice = config.tool_choice if response.tool_choice is None else response.tool_choice
    return offer(tools, choice, "response", parallel=config.parallel_tool_calls)


def conversation(
    instructions: str, items: Iterable[dict[str, Any]]
) -> tuple[str, list[dict[str, str]]]:
    """The system prompt and the turns of a conversation: its latest, where there are too many."""
    prompt, turns = [instructions], []
    for item in items:
        if item["type"] != "message":
            turns.append(_tool_part(item))
            continue
        said = " ".join(
            words
            for part in item.get("content", ())
            if (words := part.get("text") or part.get("transcript"))
        )
        if not said:
            continue
        if item["role"] == "system":
            prompt.append(said)
        else:
            turns.append({"role": item["role"], "content": said[:_LONGEST]})
    return "\n".join(part for part in prompt if part)[:_LONGEST], turns[-_MOST_TURNS:]


def _tool_part(item: dict[str, Any]) -> dict[str, str]:
    """A function call, or what it returned, as a part of a history."""
    if item["type"] == "function_call_output":
        content = item["output"][:LONGEST_OUTPUT]
        return {"role": "tool_result", "id": item["call_id"], "content": content}
    arguments = item["arguments"] if len(item["arguments"]) <= LARGEST_ARGUMENTS else "{}"
    fields = {"id": item["call_id"], "name": item["name"], "arguments": arguments}
    return {"role": "tool_call", **fields}
