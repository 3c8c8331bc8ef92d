"""A Realtime configuration and conversation in the words of our own wire. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from realtime.config import EAGERNESS, SemanticVad, SessionConfig

_MOST_TURNS = 100
_LONGEST = 4000


def listening(config: SessionConfig) -> dict[str, Any]:
    """Fields of the command `configure`, but for what the language model is told."""
    detection = config.audio.input.turn_detection
    tokens = config.max_output_tokens
    fields: dict[str, Any] = {
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


def conversation(
    instructions: str, items: Iterable[dict[str, Any]]
) -> tuple[str, list[dict[str, str]]]:
    """The system prompt and the turns of a conversation: its latest, where there are too many."""
    prompt, turns = [instructions], []
    for item in items:
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
