"""Silero VAD on recordings of people, of noise and of nothing, in chunks of any size."""

from __future__ import annotations

import time
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.recordings import load
from whisper_live.activity import FRAME_SECONDS, SpeechActivity
from whisper_live.vad import FRAME, VoiceActivityDetector


def probabilities(audio: NDArray[np.float32]) -> NDArray[np.float64]:
    return np.array([probability for _, probability in VoiceActivityDetector().feed(audio)])


@pytest.mark.parametrize(
    ("name", "start", "end"),
    [
        ("brooklyn_bridge", 0.12, 1.68),
        ("what_time_is_it", 0.7, 1.62),
        ("living_room_lamp", 0.7, 2.52),
        ("order_mocha_cream", 0.39, 3.42),
    ],
)
def test_speech_is_found_where_it_is(name: str, start: float, end: float) -> None:
    audio = np.pad(load(name), (0, 16_000))
    activity = SpeechActivity(threshold=0.5, shortest=0.16)
    speech = np.flatnonzero([activity.feed(each) for each in probabilities(audio)])
    assert speech[0] * FRAME_SECONDS == pytest.approx(start, abs=0.15)
    assert (speech[-1] + 1) * FRAME_SECONDS == pytest.approx(end, abs=0.2)


def test_a_pause_inside_a_sentence_is_silence() -> None:
    pause = probabilities(load("pause_mid_sentence"))
    inside = pause[int(2.7 / FRAME_SECONDS) : int(3.35 / FRAME_SECONDS)]
    assert inside.max() < 0.2


@pytest.mark.parametrize("decibels", [-20, -32, -40])
@pytest.mark.parametrize("name", ["what_time_is_it", "brooklyn_bridge"])
def test_a_distant_voice_is_heard_as_long_as_a_near_one(name: str, decibels: int) -> None:
    near = load(name)
    far = near * np.float32(10 ** (decibels / 20))
    spoken = (probabilities(near) >= 0.5).sum()
    assert (probabilities(far) >= 0.5).sum() >= 0.8 * spoken


@pytest.mark.parametrize("decibels", [0, -20, -40])
@pytest.mark.parametrize("name", ["noise_office_10s", "silence_3s"])
def test_noise_and_silence_are_not_speech_however_faint(name: str, decibels: int) -> None:
    assert probabilities(load(name) * np.float32(10 ** (decibels / 20))).max() < 0.35


@pytest.mark.parametrize("scale", [0.0003, 0.003, 0.03])
def test_hiss_and_hum_are_not_speech(scale: float) -> None:
    hiss = np.random.default_rng(0).normal(scale=scale, size=5 * 16_000)
    hum = scale * np.sin(2 * np.pi * 50 * np.arange(5 * 16_000) / 16_000)
    assert probabilities(hiss.astype(np.float32)).max() < 0.35
    assert probabilities(hum.astype(np.float32)).max() < 0.35


@settings(max_examples=8, deadline=None)
@given(st.lists(st.integers(0, 33_000), max_size=6))
def test_how_the_audio_is_cut_makes_no_difference(cuts: list[int]) -> None:
    audio = load("what_time_is_it")
    whole = VoiceActivityDetector().feed(audio)
    streamed = VoiceActivityDetector()
    ends = [0, *sorted(cuts), len(audio)]
    pieces = [found for a, b in pairwise(ends) for found in streamed.feed(audio[a:b])]
    assert [probability for _, probability in pieces] == [probability for _, probability in whole]
    passed_on = np.concatenate([frame for frame, _ in pieces])
    assert np.array_equal(passed_on, audio[: len(audio) - len(audio) % FRAME])


def test_a_reset_stream_is_a_new_one() -> None:
    audio = load("brooklyn_bridge")
    detector = VoiceActivityDetector()
    first = detector.feed(audio)
    detector.reset()
    again = detector.feed(audio)
    assert [p for _, p in first] == [p for _, p in again]


def test_digital_silence_costs_next_to_nothing() -> None:
    detector = VoiceActivityDetector()
    began = time.process_time()
    detector.feed(np.zeros(60 * 16_000, np.float32))
    assert time.process_time() - began < 0.3
