"""The Piper voice, with its real model."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from fusion import models
from fusion.errors import ConfigurationError, ModelError
from fusion.settings import Settings
from voices import piper
from voices.base import Voice
from voices.piper import PAUSE_GAP, SENTENCE_GAP, PiperVoice

SENTENCE = "The bridge was opened in 1883."
LONG = (
    "It was opened in 1883, and it connects Manhattan with Brooklyn across the East River, so that "
    "about a hundred thousand vehicles cross it every day, and many people on foot as well."
)


@pytest.fixture(scope="module")
def voice() -> Iterator[PiperVoice]:
    loaded = piper.load(Settings(threads=2))
    loaded.warm_up()
    yield loaded
    loaded.close()


def say(voice: Voice, text: str) -> np.ndarray:
    return np.concatenate([*voice.synthesize(text), np.zeros(0, dtype=np.float32)])


def silence(samples: np.ndarray, rate: int) -> tuple[float, float]:
    """Seconds before and after the sound, in frames of 10 ms that are 40 dB below the peak."""
    frames = samples[: len(samples) // (rate // 100) * (rate // 100)].reshape(-1, rate // 100)
    power = np.sqrt(np.square(frames).mean(axis=1))
    loud = np.flatnonzero(power > 0.01 * np.abs(samples).max())
    return loud[0] / 100, (len(power) - 1 - loud[-1]) / 100


def test_a_sentence_is_spoken(voice: PiperVoice) -> None:
    chunks = list(voice.synthesize(SENTENCE))
    assert all(chunk.dtype == np.float32 and chunk.ndim == 1 for chunk in chunks)
    samples = np.concatenate(chunks)
    assert voice.sample_rate == 22_050
    assert 1.2 < len(samples) / voice.sample_rate < 4
    assert 0.3 < np.abs(samples).max() <= 1.0
    # Speech, no noise: most of its power lies below 4 kHz.
    power = np.abs(np.fft.rfft(samples)) ** 2
    assert power[: int(4_000 * len(samples) / voice.sample_rate)].sum() > 0.9 * power.sum()


@pytest.mark.parametrize("text", ["", " ", "...", "?!", "—", "😊"])
def test_nothing_to_say_is_no_sound(voice: PiperVoice, text: str) -> None:
    assert list(voice.synthesize(text)) == []


@pytest.mark.parametrize(
    ("text", "gap"),
    [
        ("It is quite old.", SENTENCE_GAP),
        ("Is it old?", SENTENCE_GAP),
        ('He said "No."', SENTENCE_GAP),
        ("Well...", SENTENCE_GAP),
        ("If it is old,", PAUSE_GAP),
        ("It is so old", 0.0),
    ],
)
def test_sound_begins_at_once_and_gaps_fit_the_punctuation(
    voice: PiperVoice, text: str, gap: float
) -> None:
    before, after = silence(say(voice, text), voice.sample_rate)
    assert before <= 0.05  # a soft "h" is that long
    assert gap - 0.02 <= after < gap + 0.1


def test_each_sentence_comes_by_itself(voice: PiperVoice) -> None:
    chunks = list(voice.synthesize("It is old. Is it long? No!"))
    assert len(chunks) == 3
    assert all(silence(c, voice.sample_rate)[1] >= SENTENCE_GAP - 0.02 for c in chunks)


def test_a_long_sentence_comes_in_parts_cut_at_commas(voice: PiperVoice) -> None:
    chunks = list(voice.synthesize(LONG))
    assert len(chunks) >= 2
    assert all(len(c) / voice.sample_rate > 1.0 for c in chunks)
    assert all(silence(c, voice.sample_rate)[1] < SENTENCE_GAP for c in chunks[:-1])


def test_a_cancel_stops_the_model_in_the_middle_of_its_work(voice: PiperVoice) -> None:
    text = LONG.replace(",", "")  # one part: seconds of work
    started = time.monotonic()
    list(voice.synthesize(text))
    whole = time.monotonic() - started

    def cancelled() -> bool:
        return time.monotonic() - started > 0.1

    started = time.monotonic()
    assert list(voice.synthesize(text, cancelled=cancelled)) == []
    assert time.monotonic() - started < max(0.5, whole / 2)
    assert say(voice, SENTENCE).size  # the voice is fine after it


def test_a_cancel_before_the_start_does_nothing(
    voice: PiperVoice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(PiperVoice, "_run")
    assert list(voice.synthesize(SENTENCE, cancelled=lambda: True)) == []


def test_a_cancel_between_sentences_ends_the_sound(voice: PiperVoice) -> None:
    chunks = []
    for chunk in voice.synthesize(
        "It is old. It is long. It is far.", cancelled=lambda: bool(chunks)
    ):
        chunks.append(chunk)
    assert len(chunks) == 1


def test_several_threads_speak_at_once(voice: PiperVoice) -> None:
    texts = ["It is very old.", "How long is the bridge?", "Many people cross it.", "Yes, it is."]
    alone = [len(say(voice, text)) for text in texts]
    together: dict[int, int] = {}
    threads = [
        threading.Thread(target=lambda i=i: together.update({i: len(say(voice, texts[i]))}))
        for i in range(len(texts))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    # The model draws the rhythm at random: the same text is never quite as long again.
    assert [together[i] for i in range(len(texts))] == pytest.approx(alone, rel=0.4)


def test_all_clauses_are_equally_loud(voice: PiperVoice) -> None:
    peaks = [np.abs(say(voice, text)).max() for text in ("Yes.", SENTENCE, "And then,")]
    assert max(peaks) / min(peaks) < 2.5
    assert max(peaks) > 0.3


def test_raw_phonemes_cannot_be_injected(voice: PiperVoice) -> None:
    assert voice._phonemize("[[x]]") == voice._phonemize("[x]")


def test_an_unknown_speaker_falls_back(voice: PiperVoice) -> None:
    assert any(chunk.size for chunk in voice.synthesize("Yes.", speaker="nobody"))


def test_one_of_several_speakers_is_chosen(voice: PiperVoice) -> None:
    config = voice._config
    several = object.__new__(PiperVoice)
    several._config = type(config)(
        **{
            **vars(config),
            "num_speakers": 3,
            "speaker_id_map": {"ann": 0, "bob": 2},
            "default_speaker_id": 1,
        }
    )
    assert several._inputs([1, 2], "bob")["sid"].tolist() == [2]
    assert several._inputs([1, 2], "nobody")["sid"].tolist() == [1]


def test_a_failing_model_is_a_model_error(voice: PiperVoice) -> None:
    with pytest.raises(ModelError, match="failed"):
        voice._run([100_000], "", lambda: False)  # no such phoneme


def test_close_twice() -> None:
    path = models.fetch("en_US-joe-medium", Settings().cache_folder)
    voice = PiperVoice(path)
    voice.close()
    voice.close()


def test_a_voice_without_configuration_says_what_to_do(tmp_path: Path) -> None:
    model = tmp_path / "ann.onnx"
    model.write_bytes(b"")
    with pytest.raises(ConfigurationError, match=r"ann\.onnx\.json beside it"):
        piper.load(Settings(voice=str(model)))


@pytest.mark.parametrize("config", ["not json", "{}", "[]"])
def test_a_broken_configuration_is_named(tmp_path: Path, config: str) -> None:
    model = tmp_path / "ann.onnx"
    model.write_bytes(b"")
    Path(f"{model}.json").write_text(config)
    with pytest.raises(ConfigurationError, match="no configuration of a Piper voice"):
        piper.load(Settings(voice=str(model)))


def test_a_broken_model_is_named(tmp_path: Path) -> None:
    real = models.fetch("en_US-joe-medium", Settings().cache_folder)
    model = tmp_path / "ann.onnx"
    model.write_bytes(b"not a model")
    config = json.loads(Path(f"{real}.json").read_text())
    Path(f"{model}.json").write_text(json.dumps(config))
    with pytest.raises(ConfigurationError, match="no Piper voice"):
        piper.load(Settings(voice=str(model)))
