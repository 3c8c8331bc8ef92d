"""The names that people know Piper's voices and Whisper's models by, and where the hub has them."""

from __future__ import annotations

import re

from fusion.models.sources import VOICE, WHISPER

PIPER_VOICES = "rhasspy/piper-voices"
"""Every voice that Piper publishes: https://huggingface.co/rhasspy/piper-voices."""

_VOICE = re.compile(
    r"(?P<locale>(?P<language>[a-z]{2,3})_[A-Z]{2})-(?P<speaker>\w+)-(?P<quality>x_low|low|medium|high)"
)

_WHISPER_MODELS = {
    **{
        size: f"Systran/faster-whisper-{size}"
        for size in (
            *("tiny", "base.en", "small", "small.en", "medium", "medium.en"),
            *("large-v1", "large-v2", "large-v3"),
        )
    },
    "large": "Systran/faster-whisper-large-v3",
    "large-v3-turbo": "mobiuslabsgmbh/faster-whisper-large-v3-turbo",
    "turbo": "mobiuslabsgmbh/faster-whisper-large-v3-turbo",
    "distil-small.en": "Systran/faster-distil-whisper-small.en",
    "distil-medium.en": "Systran/faster-distil-whisper-medium.en",
    "distil-large-v2": "Systran/faster-distil-whisper-large-v2",
    "distil-large-v3": "Systran/faster-distil-whisper-large-v3",
    "distil-large-v3.5": "distil-whisper/distil-large-v3.5-ct2",
}
"""Whisper's sizes as faster-whisper 1.2 names them, and the repositories with its weights."""


def hub_name(name: str, kind: str) -> str | None:
    """Return what the hub calls a model, as `lookup.resolve` takes it; None for no usual name."""
    if kind == WHISPER:
        return _WHISPER_MODELS.get(name)
    voice = _VOICE.fullmatch(name) if kind == VOICE else None
    if voice is None:
        return None
    folder = "/".join(voice.group("language", "locale", "speaker", "quality"))
    return f"{PIPER_VOICES}:{folder}/{name}.onnx"


def examples(kind: str) -> str:
    """Some usual names, for a sentence; "" where there are none."""
    return {VOICE: "de_DE-thorsten-medium", WHISPER: "small, large-v3-turbo"}.get(kind, "")
