"""Loads what the transcription server works with: the transcriber and the turn detector."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from fusion import metrics
from fusion.selection import TRANSCRIBERS, Pick, module
from fusion.settings import Settings
from whisper_live.transcribers.base import Transcriber
from whisper_live.transcribers.by_language import TranscriberByLanguage

if TYPE_CHECKING:
    from whisper_live.smart_turn import SmartTurn

MULTILINGUAL_MODEL = "base"
"""Whisper's smallest that understands other languages than English well enough to talk."""


def load(settings: Settings, pick: Pick) -> Transcriber:
    """Load the transcriber that was chosen, and warm it up.

    An English model has a multilingual one beside it, loaded when somebody asks for it.
    """
    library = module(TRANSCRIBERS, pick)

    def load_model(settings: Settings) -> Transcriber:
        transcriber: Transcriber = library.load(settings)
        transcriber.warm_up()
        metrics.serve_model(pick.library, transcriber.name)
        return transcriber

    transcriber = load_model(settings)
    if pick.library == "faster_whisper" and transcriber.languages == {"en"}:
        multilingual = replace(settings, whisper_model=MULTILINGUAL_MODEL)
        return TranscriberByLanguage(transcriber, partial(load_model, multilingual))
    return transcriber


def load_turn_detector(settings: Settings) -> SmartTurn | None:
    """The turn detector, or None where the settings do without it."""
    if not settings.smart_turn:
        return None
    from whisper_live import smart_turn  # brings onnxruntime, which the other processes do not need

    return smart_turn.load(settings)
