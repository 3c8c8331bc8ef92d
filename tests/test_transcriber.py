"""Whisper by CTranslate2 with its real weights, on recordings of people."""

from __future__ import annotations

import sys
import threading
import time
import weakref
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from fusion.audio import SAMPLE_RATE
from fusion.command_line import parse
from fusion.errors import ModelError
from fusion.models.lookup import resolve
from fusion.settings import Settings
from tests.recordings import load
from whisper_live.events import Priority, Transcribe
from whisper_live.scheduler import Job, Scheduler
from whisper_live.transcribers import cuda
from whisper_live.transcribers import faster_whisper as subject
from whisper_live.transcribers.base import (
    NOTHING_HEARD,
    Transcript,
    TranscriptionRequest,
)
from whisper_live.transcribers.faster_whisper import FasterWhisper

SPOKEN = {
    "brooklyn_bridge": "How old is the Brooklyn Bridge?",
    "what_time_is_it": "What time is it?",
    "living_room_lamp": "Would you please turn on the living room lamp?",
    "meaning_of_life": "What is the meaning of life?",
    "go_forward": "Go forward 10 meters.",
    "order_mocha_cream": "Can I have a single shot iced mocha with cream?",
}


def request(name: str, **options: str | None) -> TranscriptionRequest:
    return TranscriptionRequest(load(name), **options)  # type: ignore[arg-type]


def words(text: str) -> list[str]:
    return "".join(c for c in text.lower() if c.isalnum() or c == " ").split()


@pytest.fixture(scope="module")
def english() -> FasterWhisper:
    model = subject.load(parse(["--whisper_model", "tiny.en"]))
    model.warm_up()
    return model


@pytest.fixture(scope="module")
def multilingual() -> FasterWhisper:
    return subject.load(parse(["--whisper_model", "base"]))


@pytest.mark.parametrize(("name", "text"), SPOKEN.items())
def test_it_hears_what_is_said(english: FasterWhisper, name: str, text: str) -> None:
    [hypotheses] = english.transcribe([request(name)])
    assert words(hypotheses.text) == words(text)
    assert hypotheses.language == "en"
    assert -1.0 < hypotheses.confidence < 0.0


@pytest.mark.parametrize("silence", [0.0, 0.13, 0.5, 3.0])
@pytest.mark.parametrize("name", ["brooklyn_bridge", "swim_in_the_seine"])
def test_a_sentence_is_heard_once_whatever_follows_it(
    english: FasterWhisper, name: str, silence: float
) -> None:
    speech = load(name)
    audio = np.pad(speech, (0, int(silence * SAMPLE_RATE)))
    [hypotheses] = english.transcribe([TranscriptionRequest(audio)])
    assert len(words(hypotheses.text)) <= 9


def test_silence_and_noise_have_no_words(english: FasterWhisper) -> None:
    room = np.random.default_rng(0).normal(scale=0.001, size=3 * SAMPLE_RATE).astype(np.float32)
    sounds = [
        np.zeros(0, np.float32),
        load("silence_3s"),
        load("noise_office_10s"),
        room,
    ]
    for sound in sounds:
        assert english.transcribe([TranscriptionRequest(sound)]) == [NOTHING_HEARD]


def test_thirty_seconds_are_transcribed_whole(english: FasterWhisper) -> None:
    pause = np.zeros(SAMPLE_RATE, np.float32)
    parts = [load(name) for name in SPOKEN for _ in (0, 1)]
    audio = np.concatenate([part for each in parts for part in (each, pause)])
    assert len(audio) > 30 * SAMPLE_RATE
    [hypotheses] = english.transcribe([TranscriptionRequest(audio[: 30 * SAMPLE_RATE])])
    for expected in ("Brooklyn", "time", "lamp", "life"):
        assert expected in hypotheses.text


REQUESTS = (
    *(request(name) for name in SPOKEN),
    TranscriptionRequest(np.zeros(SAMPLE_RATE, np.float32)),
    request("order_mocha_cream", context="A conversation about coffee."),
)


@pytest.fixture(scope="module")
def batching() -> FasterWhisper:
    folder = resolve("tiny.en", "whisper", parse([]).cache_folder)
    return FasterWhisper(folder, threads=2, max_batch=8)


@pytest.mark.parametrize("whole_windows", [False, True])
def test_a_batch_gives_the_texts_of_one_by_one(
    english: FasterWhisper,
    batching: FasterWhisper,
    whole_windows: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Encoded as on a CPU, or in whole windows as on a GPU."""
    for model in (english, batching):
        monkeypatch.setattr(model, "_on_cuda", whole_windows)
    sizes = sizes_of_calls(batching, monkeypatch)
    together = batching.transcribe(REQUESTS)
    alone = [english.transcribe([each])[0] for each in REQUESTS]
    assert [each.text for each in together] == [each.text for each in alone]
    # All but the silence, and by itself the one whose prompt is longer.
    assert sorted(sizes) == [1, 6]


def test_sessions_share_a_batch(
    english: FasterWhisper, batching: FasterWhisper, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = sizes_of_calls(batching, monkeypatch)
    hypotheses: dict[str, str | None] = {}
    all_heard = threading.Event()

    def done(job: Job, transcript: Transcript | None, provisional: bool) -> None:
        hypotheses[job.session] = transcript.text if transcript else None
        if len(hypotheses) == len(SPOKEN):
            all_heard.set()

    scheduler = Scheduler(batching, done, lambda job: None)
    with scheduler._changed:  # so that they are all there when the first is taken
        for name in SPOKEN:
            asked = request(name)
            event = Transcribe(1, asked.audio, Priority.AWAITED)
            scheduler.submit(Job(name, event, asked))
    assert all_heard.wait(30)
    scheduler.close()
    assert sizes == [len(SPOKEN)]
    assert hypotheses == {name: english.transcribe([request(name)])[0].text for name in SPOKEN}


def sizes_of_calls(model: FasterWhisper, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many requests each call of the decoder held, second looks aside."""
    sizes: list[int] = []
    decode = model._decode

    def counted(requests, encoded, decoding):  # type: ignore[no-untyped-def]
        nonlocal sizes
        sizes += [len(requests)] if decoding == subject.FIRST else []
        return decode(requests, encoded, decoding)

    monkeypatch.setattr(model, "_decode", counted)
    return sizes


@pytest.mark.parametrize(
    ("on_cuda", "known", "taken"),
    [
        (False, set(), "int8"),
        (True, {"float32", "float16", "int8"}, "float16"),
        (True, {"float32", "int8"}, "float32"),
    ],
)
def test_a_gpu_computes_in_what_it_is_good_at(
    on_cuda: bool, known: set[str], taken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subject.ctranslate2, "get_supported_compute_types", lambda device: known)
    assert subject._compute_type(on_cuda) == taken


def test_context_steers_the_spelling_and_is_not_repeated(english: FasterWhisper) -> None:
    hypotheses = [
        english.transcribe([request("go_forward", context=context)])[0].text
        for context in ("", "ten metres, twenty metres")
    ]
    assert [words(text) for text in hypotheses] == [
        ["go", "forward", "10", "meters"],
        ["go", "forward", "ten", "metres"],
    ]


def test_a_special_token_in_a_context_is_text(english: FasterWhisper) -> None:
    typed = request("go_forward", context="a<|endoftext|><|startoftranscript|>")
    first, *context = english._context(typed)
    assert english._words.decode([first], skip_special_tokens=False) == "<|startofprev|>"
    assert english._words.decode(context) == " a<|endoftext|><|startoftranscript|>"
    assert words(english.transcribe([typed])[0].text) == words(SPOKEN["go_forward"])


def test_what_was_cancelled_before_it_began_is_not_heard(english: FasterWhisper) -> None:
    asked = request("go_forward")
    began = time.perf_counter()
    assert english.transcribe([asked, asked], lambda: True) == [NOTHING_HEARD, NOTHING_HEARD]
    assert time.perf_counter() - began < 0.05


def test_a_doubtful_text_is_decoded_again_until_it_is_sound(
    english: FasterWhisper, monkeypatch: pytest.MonkeyPatch
) -> None:
    decodings = []
    decode = FasterWhisper._decode

    def first_runs_on(model, requests, encoded, decoding):  # type: ignore[no-untyped-def]
        decodings.append((encoded.shape[1], decoding))
        hypotheses = decode(model, requests, encoded, decoding)
        if decoding == subject.FIRST:
            return [subject.Hypothesis(Transcript("Go. " * 40, "en"), -2.0, ran_on=True)]
        return hypotheses

    monkeypatch.setattr(FasterWhisper, "_decode", first_runs_on)
    [hypotheses] = english.transcribe([request("go_forward")])
    assert words(hypotheses.text) == words("Go forward 10 meters.")
    assert decodings == [
        (subject.HALF_WINDOW // 2, subject.FIRST),
        (subject.WHOLE_WINDOW // 2, subject.AGAIN[0]),
    ]


def test_a_loop_whose_beginning_is_a_text_keeps_nobody_waiting(
    english: FasterWhisper, monkeypatch: pytest.MonkeyPatch
) -> None:
    decodings = []
    decode = FasterWhisper._decode

    def counted(model, requests, encoded, decoding):  # type: ignore[no-untyped-def]
        decodings.append(decoding)
        return decode(model, requests, encoded, decoding)

    monkeypatch.setattr(FasterWhisper, "_decode", counted)
    # Cut so, tiny.en asks it again and again.
    audio = load("what_time_is_it")[int(0.45 * SAMPLE_RATE) : int(1.75 * SAMPLE_RATE)]
    [quick] = english.transcribe([TranscriptionRequest(audio, quick=True)])
    assert (words(quick.text), quick.doubtful) == (["what", "time", "is", "it"], True)
    assert decodings == [subject.FIRST]
    [whole] = english.transcribe([TranscriptionRequest(audio)])
    assert (words(whole.text), whole.doubtful) == (["what", "time", "is", "it"], False)
    assert len(decodings) > 2


def test_a_gpu_without_its_libraries_is_left_alone(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(cuda.ctranslate2, "get_cuda_device_count", lambda: 1)
    monkeypatch.setattr(cuda, "CUBLAS", ("libcublas.so.0",))
    model = subject.load(Settings())
    assert words(model.transcribe([request("go_forward")])[0].text) == words("Go forward 10 meters")
    assert "libcublas.so.0" in caplog.text
    assert "pip install nvidia-cublas-cu12" in caplog.text
    model.close()


def test_cublas_is_found_in_nvidias_package(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = tmp_path / "nvidia" / "cublas" / "lib"
    folder.mkdir(parents=True)
    monkeypatch.syspath_prepend(str(tmp_path))
    opened: list[str] = []

    def open_library(name: str, mode: int) -> None:
        if not name.startswith(str(folder)):
            raise OSError(f"{name}: cannot open shared object file")
        opened.append(Path(name).name)

    monkeypatch.setattr(cuda.ctranslate2, "get_cuda_device_count", lambda: 1)
    monkeypatch.setattr(cuda.ctypes, "CDLL", open_library)
    for name in [name for name in sys.modules if name.split(".")[0] == "nvidia"]:
        monkeypatch.delitem(sys.modules, name)
    assert cuda.is_usable()
    assert opened == ["libcublasLt.so.12", "libcublas.so.12"]


def test_a_gpu_whose_kernels_do_not_run_is_left_alone(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As CTranslate2 fails on a card that its cuBLAS does not know: at the first product."""
    devices: list[str] = []
    original = subject.faster_whisper.WhisperModel

    class Broken:
        n_mels = 80

        def encode(self, features: object, to_cpu: bool = False) -> None:
            raise RuntimeError("cuBLAS failed with status CUBLAS_STATUS_NOT_SUPPORTED")

    def open_model(folder: str, *, device: str, **options: Any) -> Any:
        devices.append(device)
        if device == "cuda":
            return SimpleNamespace(model=Broken())
        return original(folder, device=device, **options)

    monkeypatch.setattr(cuda, "is_usable", lambda: True)
    monkeypatch.setattr(subject.ctranslate2, "get_supported_compute_types", lambda device: set())
    monkeypatch.setattr(subject.faster_whisper, "WhisperModel", open_model)
    model = subject.load(Settings())
    assert devices == ["cuda", "cpu"]
    assert model.max_batch == 1
    assert words(model.transcribe([request("go_forward")])[0].text) == words("Go forward 10 meters")
    assert "CUBLAS_STATUS_NOT_SUPPORTED): it runs on the CPU" in caplog.text
    model.close()


@pytest.mark.parametrize("seconds", [0.0, 0.01, 0.5, 1.79, 29.99, 30.0, 31.0])
@pytest.mark.parametrize("lead_in", [0, 20])
def test_the_silence_after_the_speech_is_not_computed_again_and_again(
    english: FasterWhisper, seconds: float, lead_in: int
) -> None:
    audio = np.resize(load("brooklyn_bridge"), int(seconds * SAMPLE_RATE))
    frames = subject.WHOLE_WINDOW
    whole = np.zeros(frames * subject.HOP, np.float32)
    kept = audio[: len(whole)]
    first = min(lead_in * subject.HOP, len(whole) - len(kept))
    whole[first : first + len(kept)] = kept
    expected = english._mel(whole, padding=0)
    found = english._mel_frames(audio, frames, lead_in)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_final_does_not_wait_for_a_partial(english: FasterWhisper) -> None:
    """Both run at once: together they take less than one after the other, and nobody mixes up."""
    texts: dict[str, list[str]] = {}

    def hear(name: str) -> None:
        texts[name] = [english.transcribe([request(name)])[0].text for _ in range(5)]

    threads = [threading.Thread(target=hear, args=(name,)) for name in list(SPOKEN)[:2]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    for name, hypotheses in texts.items():
        assert [words(text) for text in hypotheses] == [words(SPOKEN[name])] * 5
    assert len(texts) == 2


def test_it_says_which_languages_it_knows(
    english: FasterWhisper, multilingual: FasterWhisper
) -> None:
    assert english.languages == {"en"}
    assert {"en", "de", "fr", "pl", "zh"} <= multilingual.languages


def test_the_language_is_detected_where_none_is_named(multilingual: FasterWhisper) -> None:
    detected, named = multilingual.transcribe(
        [request("living_room_lamp", language=None), request("go_forward", language="en")]
    )
    assert detected.language == named.language == "en"
    assert words(detected.text) == words(SPOKEN["living_room_lamp"])


def test_language_and_task_reach_the_decoder(multilingual: FasterWhisper) -> None:
    asked = request("meaning_of_life", language="fr")
    french = multilingual.transcribe([asked])[0]
    assert french.language == "fr"
    prompts = {
        task: multilingual._words.decode(
            multilingual._prompt(request("go_forward", task=task), "fr"),
            skip_special_tokens=False,
        )
        for task in ("transcribe", "translate")
    }
    assert prompts == {
        "transcribe": "<|startoftranscript|><|fr|><|transcribe|><|notimestamps|>",
        "translate": "<|startoftranscript|><|fr|><|translate|><|notimestamps|>",
    }


def test_a_damaged_model_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(b"nothing of the kind")
    with pytest.raises(ModelError, match=r"cannot be loaded.*delete the folder"):
        FasterWhisper(tmp_path, threads=1)


def test_what_the_library_refuses_is_a_model_error(multilingual: FasterWhisper) -> None:
    with pytest.raises(ModelError, match=r"speech recogniser failed.*tlh"):
        multilingual.transcribe([request("go_forward", language="tlh")])


def test_closing_lets_go_of_the_model() -> None:
    model = FasterWhisper(resolve("tiny.en", "whisper", parse([]).cache_folder), threads=1)
    weights = weakref.ref(model._model)
    assert weights() is not None
    model.close()
    model.close()
    assert weights() is None
