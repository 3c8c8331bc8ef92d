"""A minute each of hum, breath, keyboard, music, an office and silence is no turn of anybody's.

The detector that listens to the stream finds no speech in it; and where it does (a client that ends
a turn by itself, another threshold), the recogniser and its guards find no words.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from fusion.audio import SAMPLE_RATE
from fusion.command_line import parse
from tests.recordings import load
from tests.sounds import SOUNDS
from whisper_live.events import Transcribe
from whisper_live.listener import Listener, ListeningPolicy
from whisper_live.listener_events import Completed
from whisper_live.transcribers import faster_whisper
from whisper_live.transcribers.base import NOTHING_HEARD, TranscriptionRequest
from whisper_live.transcribers.faster_whisper import FasterWhisper
from whisper_live.vad import FRAME, VoiceActivityDetector

MINUTE = {name: sound(60.0, 0) for name, sound in SOUNDS.items()} | {
    "office": np.tile(load("noise_office_10s"), 6)
}


@pytest.fixture(scope="module")
def recogniser() -> Iterator[FasterWhisper]:
    model = faster_whisper.load(parse(["--whisper_model", "tiny.en"]))
    yield model
    model.close()


@pytest.mark.parametrize("gain", [1.0, 0.1])
@pytest.mark.parametrize("name", MINUTE)
def test_a_minute_of_it_begins_no_turn(name: str, gain: float) -> None:
    assert transcripts(MINUTE[name] * np.float32(gain), None) == []


@pytest.mark.parametrize("name", MINUTE)
def test_where_the_detector_is_fooled_nothing_is_said(name: str, recogniser: FasterWhisper) -> None:
    """Every quarter of a minute counts as speech here, in pieces of one to four seconds."""
    minute = MINUTE[name]
    at = 0
    for seconds in (1, 2, 4, 1, 3, 2, 4):
        piece = minute[at : at + seconds * SAMPLE_RATE]
        at += len(piece)
        assert recogniser.transcribe([TranscriptionRequest(piece)]) == [NOTHING_HEARD]
    long = minute[-30 * SAMPLE_RATE :]
    assert recogniser.transcribe([TranscriptionRequest(long)]) == [NOTHING_HEARD]


@pytest.mark.parametrize(
    ("name", "text"), [("bye", "Bye."), ("thank_you_dropped", "Thank you."), ("stop", "Stop.")]
)
def test_a_short_word_is_a_turn(name: str, text: str, recogniser: FasterWhisper) -> None:
    assert recogniser.transcribe([TranscriptionRequest(load(name))])[0].text == text
    assert transcripts(np.pad(load(name), (SAMPLE_RATE, 2 * SAMPLE_RATE)), recogniser) == [text]


def transcripts(sound: NDArray[np.float32], recogniser: FasterWhisper | None) -> list[str]:
    """The turns that a client's microphone makes of a sound, in simulated time."""
    listener = Listener(ListeningPolicy.from_settings(parse(["--no-smart_turn"])))
    turns = []
    for number, (frame, probability) in enumerate(VoiceActivityDetector().feed(sound)):
        now = number * FRAME / SAMPLE_RATE
        events = listener.hear(frame, probability, now)
        while events:
            event = events.pop(0)
            if isinstance(event, Transcribe):
                assert recogniser is not None, "somebody seems to speak"
                [transcript] = recogniser.transcribe([TranscriptionRequest(event.audio)])
                events += listener.transcribed(event, transcript.text, now)
            elif isinstance(event, Completed):
                turns.append(event.revision.text or "")
    return turns
