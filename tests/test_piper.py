"""The Piper voice, with its real model."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusion.errors import ConfigurationError, ModelError
from fusion.models import lookup
from fusion.settings import Settings
from voices import piper, vits
from voices.base import Voice
from voices.piper import PAUSE_GAP, SENTENCE_GAP, PiperVoice, SilenceTrimmer

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


def test_sound_comes_in_pieces_while_it_is_made(voice: PiperVoice) -> None:
    chunks = list(voice.synthesize(LONG.replace(",", "")))
    seconds = [len(chunk) / voice.sample_rate for chunk in chunks]
    assert seconds[0] < 0.6
    assert len(chunks) > 5
    assert max(seconds) < 2.0


def test_the_pieces_are_the_whole(voice: PiperVoice) -> None:
    """The vocoder's work in pieces, against the same frames at once."""
    assert voice._vocoder is not None
    assert voice._halves is not None
    [part] = voice._phonemize(SENTENCE)
    inputs = voice._inputs(voice._phonemizer.phonemes_to_ids(part), "")
    [latent] = voice._acoustic.run(None, inputs)
    whole = voice._vocoder.run(None, {voice._halves.latent: latent})[0].reshape(-1)
    hop = len(whole) // latent.shape[-1]
    joined = np.concatenate(
        [
            voice._vocoder.run(None, {voice._halves.latent: latent[..., run]})[0].reshape(-1)[
                drop * hop : (drop + keep) * hop
            ]
            for run, drop, keep in vits.pieces(latent.shape[-1])
        ]
    )
    assert len(joined) == len(whole)
    assert np.abs(joined - whole).max() < 1e-4 * np.abs(whole).max()


@given(st.integers(0, 2000))
def test_pieces_follow_one_another(frames: int) -> None:
    at = 0
    for run, drop, keep in vits.pieces(frames):
        assert run.start + drop == at
        assert run.stop <= frames
        at += keep
        assert run.stop == min(frames, at + vits.CONTEXT)
    assert at == frames


def test_a_model_without_a_vocoder_to_be_seen_is_left_whole(tmp_path: Path) -> None:
    value = onnx.helper.make_tensor_value_info("input", onnx.TensorProto.FLOAT, [1])
    result = onnx.helper.make_tensor_value_info("output", onnx.TensorProto.FLOAT, [1])
    node = onnx.helper.make_node("Identity", ["input"], ["output"], name="/flow/Identity")
    graph = onnx.helper.make_graph([node], "voice", [value], [result])
    onnx.save(onnx.helper.make_model(graph), tmp_path / "ann.onnx")
    assert vits.split(tmp_path / "ann.onnx") is None


def test_a_voice_that_is_left_whole_speaks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vits, "split", lambda path: None)
    whole = piper.load(Settings())
    sound, rest = whole.synthesize(SENTENCE)
    whole.close()
    assert len(sound) > whole.sample_rate
    assert len(rest) == pytest.approx(SENTENCE_GAP * whole.sample_rate, abs=1)


def test_sentences_are_set_apart(voice: PiperVoice) -> None:
    samples = say(voice, "It is old. Is it long? No!")
    frames = samples[: len(samples) // 220 * 220].reshape(-1, 220)
    quiet = np.sqrt(np.square(frames).mean(axis=1)) < 0.01 * np.abs(samples).max()
    runs = "".join("q" if frame else "s" for frame in quiet).strip("q").split("s")
    assert sum(len(run) >= 100 * SENTENCE_GAP - 4 for run in runs) == 2


def test_edges_do_not_depend_on_the_pieces() -> None:
    quiet, sound = np.zeros(3000, np.float32), np.ones(5000, np.float32)
    samples = np.concatenate([quiet, sound, quiet, sound, quiet])

    def cut(step: int) -> np.ndarray:
        trimmer = SilenceTrimmer(16_000, 0.1)
        made = [trimmer.feed(samples[at : at + step]) for at in range(0, len(samples), step)]
        return np.concatenate([*made, trimmer.finish(0.1)])

    whole = cut(len(samples))
    assert len(whole) == pytest.approx(160 + 5000 + 3000 + 5000 + 1600, abs=320)
    assert np.array_equal(cut(160), whole)
    assert len(cut(1000)) == pytest.approx(len(whole), abs=320)
    assert not len(SilenceTrimmer(16_000, 0.1).finish(0.2))


def test_a_cancel_stops_the_model_in_the_middle_of_its_work(voice: PiperVoice) -> None:
    text = LONG.replace(",", "")  # one part: seconds of work
    started = time.monotonic()
    whole = say(voice, text)
    needed = time.monotonic() - started

    def cancelled() -> bool:
        return time.monotonic() - started > needed / 4

    started = time.monotonic()
    made = list(voice.synthesize(text, cancelled=cancelled))
    assert sum(map(len, made)) < len(whole) / 2
    assert say(voice, SENTENCE).size  # the voice is fine after it


def test_a_cancel_before_the_start_does_nothing(
    voice: PiperVoice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(voice, "_acoustic", None)
    assert list(voice.synthesize(SENTENCE, cancelled=lambda: True)) == []


def test_a_cancel_between_sentences_ends_the_sound(voice: PiperVoice) -> None:
    chunks = []
    for chunk in voice.synthesize(
        "It is old. It is long. It is far.", cancelled=lambda: bool(chunks)
    ):
        chunks.append(chunk)
    assert len(chunks) == 1
    assert len(chunks[0]) < voice.sample_rate


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
        list(voice._run([100_000], "", lambda: False))  # no such phoneme


def test_close_twice() -> None:
    path = lookup.fetch("en_US-joe-medium", Settings().cache_folder)
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
    real = lookup.fetch("en_US-joe-medium", Settings().cache_folder)
    model = tmp_path / "ann.onnx"
    model.write_bytes(b"not a model")
    config = json.loads(Path(f"{real}.json").read_text())
    Path(f"{model}.json").write_text(json.dumps(config))
    with pytest.raises(ConfigurationError, match="no Piper voice"):
        piper.load(Settings(voice=str(model)))
