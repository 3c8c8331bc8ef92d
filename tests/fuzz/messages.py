"""What a client says to the transcription server, one of each: the fuzzers begin with it."""

from __future__ import annotations

from typing import Any

HISTORY = [{"role": "user", "content": "Hello."}, {"role": "assistant", "content": "Hello you."}]
HELLO: dict[str, Any] = {
    "uid": "me",
    "language": "en-US",
    "task": "transcribe",
    "audio_format": "int16",
    "sample_rate": 48000,
    "stream": True,
    "reply": True,
    "system_prompt": "Be kind.",
    "voice": "joe",
    "history": HISTORY,
    "token": "secret",
    "resume": "key",
    "buffer_lead": 0.5,
    "hotwords": "Brooklyn",
}
COMMANDS: list[dict[str, Any]] = [
    {"command": "end_turn"},
    {"command": "clear"},
    {"command": "interrupt", "turn": 3},
    {"command": "say", "text": "How old is it?"},
    {
        "command": "configure",
        "system_prompt": "Be kind.",
        "voice": "joe",
        "history": HISTORY,
        "max_tokens": 20,
        "turn_detection": "semantic",
        "wait": 0.5,
        "vad_threshold": 0.5,
        "respond": True,
        "barge_in": False,
        "speak": True,
    },
    {"command": "respond", "id": "r1", "aside": True, "history": HISTORY, "max_tokens": 9},
]
