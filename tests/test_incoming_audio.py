"""What becomes of the bytes that clients send."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from fusion.errors import ProtocolError
from tests.recordings import load
from whisper_live.incoming_audio import DcBlocker, IncomingAudio
from whisper_live.vad import VoiceActivityDetector

NOISE = np.random.default_rng(7).normal(0, 0.05, 16_000).astype("<f4")


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % len(data) for place in places), len(data)]
    return [data[first:last] for first, last in itertools.pairwise(edges)]


@given(st.lists(st.integers(0, 100_000), max_size=20), st.sampled_from(["float32", "int16"]))
def test_samples_may_be_cut_anywhere(places: list[int], audio_format: str) -> None:
    """The bytes of one sample may come in two messages, or in four."""
    data = NOISE.tobytes() if audio_format == "float32" else (NOISE * 32767).astype("<i2").tobytes()
    pieces = IncomingAudio(audio_format, 16_000)
    samples = np.concatenate([pieces.take(piece) for piece in cut(data, places)])
    assert len(samples) == len(NOISE)
    # The first message alone says where the offset begins; its trace is gone after 0.1 s.
    whole = IncomingAudio(audio_format, 16_000).take(data)
    np.testing.assert_allclose(samples[1600:], whole[1600:], atol=1e-5)


@pytest.mark.parametrize(
    "samples", [NOISE * 32768, np.array([0, 1200, -3000], "<f4"), np.array([20.0], "<f4")]
)
def test_float_samples_in_the_range_of_int16_are_refused(samples: NDArray[np.float32]) -> None:
    with pytest.raises(ProtocolError, match=r"between -1 and 1.*32768.*int16"):
        IncomingAudio("float32", 16_000).take(samples.tobytes())


def test_a_little_too_loud_is_clipped() -> None:
    tone = (1.5 * np.sin(np.arange(1600))).astype("<f4")
    samples = IncomingAudio("float32", 16_000).take(tone.tobytes())
    assert np.abs(samples).max() < 1.1


def test_after_bad_samples_good_ones_are_taken() -> None:
    audio = IncomingAudio("float32", 16_000)
    with pytest.raises(ProtocolError, match="not finite"):
        audio.take(np.full(512, np.nan, "<f4").tobytes())
    assert np.isfinite(audio.take(NOISE.tobytes())).all()


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100, 48_000])
def test_every_rate_comes_out_at_16_khz(rate: int) -> None:
    samples = IncomingAudio("float32", rate).take(np.zeros(rate, "<f4").tobytes())
    assert abs(len(samples) - 16_000) < 1_600


@pytest.mark.parametrize("offset", [0.05, -0.1, 0.15])
def test_an_offset_is_taken_out_from_the_first_sample_on(offset: float) -> None:
    filtered = DcBlocker().filter(NOISE + np.float32(offset))
    assert abs(filtered.mean()) < 1e-3
    np.testing.assert_allclose(filtered, DcBlocker().filter(NOISE), atol=1e-5)


def test_an_offset_that_comes_later_goes_within_a_tenth_of_a_second() -> None:
    blocker = DcBlocker()
    blocker.filter(np.zeros(16_000, np.float32))
    filtered = blocker.filter(np.full(16_000, 0.15, np.float32))
    assert np.abs(filtered[1600:]).max() < 1e-4


@pytest.mark.parametrize("frequency", [80, 200, 1000, 7000])
def test_a_voice_is_left_alone(frequency: int) -> None:
    tone = np.sin(2 * np.pi * frequency * np.arange(16_000) / 16_000).astype(np.float32)
    filtered = DcBlocker().filter(tone)
    gain = np.sqrt(np.mean(filtered[1600:] ** 2) / np.mean(tone[1600:] ** 2))
    assert 0.96 < gain < 1.01


@given(st.lists(st.integers(1, 3000), min_size=1, max_size=8))
def test_the_state_is_carried_over_messages_of_any_length(lengths: list[int]) -> None:
    stream = np.resize(NOISE, 30_000) + np.float32(0.1)
    stepwise, whole = DcBlocker(), DcBlocker()
    first = stream[:3000]  # both take the same beginning for the offset
    done = [stepwise.filter(first)]
    at = len(first)
    for length in lengths:
        done.append(stepwise.filter(stream[at : at + length]))
        at += length
    expected = [whole.filter(first), whole.filter(stream[len(first) : at])]
    np.testing.assert_allclose(np.concatenate(done), np.concatenate(expected), atol=1e-6)


@pytest.mark.parametrize("offset", [0.05, 0.15])
def test_quiet_speech_on_an_offset_is_found_as_without(offset: float) -> None:
    quiet = load("brooklyn_bridge") * np.float32(0.03)

    def speech(samples: NDArray[np.float32]) -> int:
        audio = IncomingAudio("float32", 16_000).take(samples.astype("<f4").tobytes())
        frames = VoiceActivityDetector().feed(audio)
        return sum(probability > 0.5 for _, probability in frames)

    assert speech(quiet + np.float32(offset)) >= 0.95 * speech(quiet) > 20
