"""Loads what the transcription server works with: the transcriber and the turn detector."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from fusion import metrics
from fusion.audio import SAMPLE_RATE
from fusion.capacity import CYCLE, SPOKEN, TurnCost, cost_of
from fusion.selection import TRANSCRIBERS, Pick, module
from fusion.settings import Settings
from whisper_live.transcribers.base import Transcriber, TranscriptionRequest
from whisper_live.transcribers.by_language import TranscriberByLanguage
from whisper_live.vad import VoiceActivityDetector

if TYPE_CHECKING:
    from whisper_live.smart_turn import SmartTurn

_TRANSCRIPTIONS = 4
"""Of a question: live ones of parts of it, the last one, now and then a longer look."""

_LOOKS = 3
"""How often a pause makes the turn detector look."""

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

    detector = smart_turn.load(settings)
    detector.warm_up()
    return detector


def turn_cost(transcriber: Transcriber, turn_detector: SmartTurn | None) -> TurnCost:
    """What one question costs: what a transcriber hears of it, and who listens all the time.

    Raises ModelError when a model fails.
    """
    noise = np.random.default_rng(0).normal(scale=0.05, size=round(SPOKEN * SAMPLE_RATE))
    swell = 1 + np.sin(np.arange(len(noise)) * 2 * np.pi * 4 / SAMPLE_RATE)  # as syllables do
    audio = (noise * swell).astype(np.float32)
    request = TranscriptionRequest(audio, quick=True)
    once = cost_of(lambda: transcriber.transcribe([request]), transcriber.max_batch)
    activity = cost_of(lambda: VoiceActivityDetector().feed(audio[:SAMPLE_RATE]))
    cost = once.times(_TRANSCRIPTIONS).and_also(activity.times(CYCLE))
    if turn_detector is not None:
        look = cost_of(lambda: turn_detector.probability(audio))
        cost = cost.and_also(look.times(_LOOKS))
    return cost
