"""Smart Turn with its real weights, on recordings of people who are done and who are not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from fusion.command_line import parse
from fusion.errors import ModelError
from tests.recordings import load
from whisper_live import smart_turn
from whisper_live.smart_turn import SmartTurn

DONE = {
    "brooklyn_bridge": 1.79,
    "what_time_is_it": 1.70,
    "living_room_lamp": 2.66,
    "meaning_of_life": 1.73,
    "go_forward": 2.27,
    "swim_in_the_seine": 1.60,
}
"""Where the detector hears each person's last sound end, in seconds."""

UNFINISHED = {
    "And so, my fellow Americans, ask not": 4.58,
    "... what your country can do for you": 7.85,
}
"""Moments 0.2 s into pauses of the speech in jfk.wav, and what was said before them."""


def until(name: str, seconds: float, silence: float = 0.2) -> NDArray[np.float32]:
    """The recording up to a moment, and then silence."""
    return np.pad(load(name)[: int(seconds * 16_000)], (0, int(silence * 16_000)))


@pytest.fixture(scope="module")
def model() -> SmartTurn:
    loaded = smart_turn.load(parse([]))
    loaded.warm_up()
    return loaded


@pytest.mark.parametrize(("name", "end"), DONE.items())
def test_a_complete_question_is_done(model: SmartTurn, name: str, end: float) -> None:
    assert model.probability(until(name, end)) > 0.8


@pytest.mark.parametrize("moment", UNFINISHED.values(), ids=UNFINISHED)
def test_a_speaker_who_pauses_for_effect_is_not_done(model: SmartTurn, moment: float) -> None:
    assert model.probability(load("jfk")[: int(moment * 16_000)]) < 0.1


def test_only_the_last_eight_seconds_count(model: SmartTurn) -> None:
    audio = np.tile(load("order_mocha_cream"), 4)
    assert len(audio) > 8 * 16_000
    assert model.probability(audio) == model.probability(audio[-8 * 16_000 :])


def test_shorter_audio_stands_at_the_end_of_the_window() -> None:
    audio = np.ones(16_000, np.float32)
    window = smart_turn.last_seconds(audio)
    assert window.shape == (128_000,)
    assert window[-16_000:].all()
    assert not window[:-16_000].any()


@pytest.mark.parametrize("length", [0, 1, 400])
def test_hardly_any_audio_has_a_probability_too(model: SmartTurn, length: int) -> None:
    assert 0.0 <= model.probability(np.zeros(length, np.float32)) <= 1.0


def test_the_log_mel_is_whispers() -> None:
    """Against faster-whisper's own extractor, which knows nothing of normalised waveforms."""
    from faster_whisper.feature_extractor import FeatureExtractor

    audio = smart_turn.last_seconds(load("brooklyn_bridge"))
    normal = (audio - audio.mean()) / np.sqrt(audio.var() + 1e-7)
    expected = FeatureExtractor(feature_size=80)(normal, padding=0)
    found = smart_turn.log_mel(audio)
    assert found.shape == expected.shape == (80, 800)
    assert found.dtype == np.float32
    assert np.allclose(found, expected, atol=1e-3)


def test_the_level_of_the_voice_does_not_matter(model: SmartTurn) -> None:
    audio = until("brooklyn_bridge", 1.79)
    assert model.probability(audio * np.float32(0.05)) == pytest.approx(
        model.probability(audio), abs=0.05
    )


@pytest.mark.parametrize("content", [None, b"no model at all"])
def test_a_damaged_model_is_one_clear_error(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "smart-turn.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ModelError, match=r"cannot be loaded.*--no-smart_turn"):
        SmartTurn(path)


def test_a_batch_says_what_each_says_alone(model: SmartTurn) -> None:
    audios = [until("brooklyn_bridge", 1.79), load("jfk")[:32_000], np.zeros(16_000, np.float32)]
    assert model.probabilities(audios) == pytest.approx(
        [model.probability(audio) for audio in audios], abs=1e-4
    )
