"""What every `Transcriber` promises, whichever library is behind it.

Whisper by CTranslate2 runs with its real weights on recordings; TensorRT-LLM's with the recorded
interface of its runtime, where a tone stands for each sentence (`make test-torch`).
"""

from __future__ import annotations

import importlib
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fusion.audio import SAMPLE_RATE
from fusion.command_line import parse
from fusion.errors import ModelError
from tests.recordings import load
from whisper_live.transcribers.base import NOTHING_HEARD, Transcriber, TranscriptionRequest


@dataclass
class Subject:
    """A transcriber, what it hears in which audio, and how to break the library behind it."""

    transcriber: Transcriber
    spoken: dict[str, NDArray[np.float32]]
    breaks: Callable[[], None]


def faster_whisper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Subject:
    from whisper_live.transcribers import faster_whisper as library

    model = library.load(parse(["--whisper_model", "tiny.en"]))
    spoken = {
        "What is the meaning of life?": load("meaning_of_life"),
        "How old is the Brooklyn Bridge?": load("brooklyn_bridge"),
    }

    def refuse(*_: Any, **__: Any) -> None:
        raise RuntimeError("broken on purpose")

    return Subject(model, spoken, lambda: monkeypatch.setattr(model, "_encode", refuse))


def tensorrt_llm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Subject:
    from whisper.tokenizer import get_tokenizer

    from tests.contracts import whisper_runtime
    from tests.tensorrt_whisper import conftest as tones

    player = whisper_runtime.Player(get_tokenizer(False, num_languages=99))
    whisper_runtime.install(monkeypatch, player)
    for name in ("tensorrt_engines", "tensorrt_llm"):
        monkeypatch.delitem(sys.modules, f"whisper_live.transcribers.{name}", raising=False)
    library = importlib.import_module("whisper_live.transcribers.tensorrt_llm")
    tones.write_engines(tmp_path, vocab_size=51864)
    spoken = {}
    for frequency, text in ((tones.LOW, "How old is it?"), (tones.HIGH, "Go forward.")):
        tokens = player.tokenizer.encode(f" {text}")
        player.speeches[tones.band(frequency)] = whisper_runtime.Speech(tokens)
        spoken[text] = tones.tone(frequency)

    def refuse() -> None:
        player.encoder_runs = False

    transcriber = library.TensorRTWhisper(library.Engines.read(tmp_path), device="cpu")
    return Subject(transcriber, spoken, refuse)


@pytest.fixture(
    params=[faster_whisper, pytest.param(tensorrt_llm, marks=pytest.mark.torch)],
    ids=lambda make: make.__name__,
)
def subject(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Subject]:
    made = request.param(tmp_path, monkeypatch)
    yield made
    made.transcriber.close()


def texts(subject: Subject, requests: list[TranscriptionRequest], **how: Any) -> list[str]:
    """Whatever the number of requests, in calls of at most `max_batch`."""
    at_once = subject.transcriber.max_batch
    batches = [requests[i : i + at_once] for i in range(0, len(requests), at_once)]
    return [
        transcript.text
        for batch in batches
        for transcript in subject.transcriber.transcribe(batch, **how)
    ]


def test_it_says_what_it_is(subject: Subject) -> None:
    assert subject.transcriber.name
    assert "en" in subject.transcriber.languages
    assert subject.transcriber.max_batch >= 1


def test_there_is_one_transcript_for_each_request_in_order(subject: Subject) -> None:
    silence = np.zeros(SAMPLE_RATE, np.float32)
    wanted = [*subject.spoken, "", *reversed(subject.spoken), ""]
    requests = [TranscriptionRequest(subject.spoken.get(text, silence)) for text in wanted]
    assert texts(subject, requests) == wanted
    assert subject.transcriber.transcribe([]) == []


def test_a_transcript_says_how_sure_it_is(subject: Subject) -> None:
    for text, audio in subject.spoken.items():
        [transcript] = subject.transcriber.transcribe([TranscriptionRequest(audio)])
        assert transcript.text == text == text.strip()
        assert transcript.language in subject.transcriber.languages
        assert -1.0 < transcript.confidence <= 0.0
        assert 0.0 <= transcript.no_speech <= 1.0
        assert not transcript.doubtful


@pytest.mark.parametrize("samples", [0, 1, 100, 30 * SAMPLE_RATE])
def test_silence_of_any_length_is_nothing(subject: Subject, samples: int) -> None:
    request = TranscriptionRequest(np.zeros(samples, np.float32))
    assert subject.transcriber.transcribe([request]) == [NOTHING_HEARD]


def test_what_is_asked_is_left_as_it_is(subject: Subject) -> None:
    for text, audio in subject.spoken.items():
        kept = audio.copy()
        kept.flags.writeable = False
        assert texts(subject, [TranscriptionRequest(kept)]) == [text]


@pytest.mark.parametrize("context", ["A conversation about bridges.", "<|endoftext|>", " "])
def test_a_context_is_no_part_of_the_text(subject: Subject, context: str) -> None:
    for text, audio in subject.spoken.items():
        [transcript] = texts(subject, [TranscriptionRequest(audio, context=context)])
        assert plain(transcript) == plain(text)


def plain(text: str) -> str:
    return "".join(c for c in text.lower() if c.isalnum() or c == " ")


@pytest.mark.parametrize("quick", [False, True])
def test_what_is_cancelled_before_it_began_is_nothing(subject: Subject, quick: bool) -> None:
    for audio in subject.spoken.values():
        asked = TranscriptionRequest(audio, quick=quick)
        assert subject.transcriber.transcribe([asked], lambda: True) == [NOTHING_HEARD]


def test_several_threads_get_each_their_own(subject: Subject) -> None:
    transcripts: dict[str, list[str]] = {}

    def ask(text: str, audio: NDArray[np.float32]) -> None:
        transcripts[text] = [texts(subject, [TranscriptionRequest(audio)])[0] for _ in range(3)]

    threads = [threading.Thread(target=ask, args=each) for each in subject.spoken.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert transcripts == {text: [text] * 3 for text in subject.spoken}


def test_a_library_that_fails_is_a_model_error(subject: Subject) -> None:
    subject.breaks()
    [audio, *_] = subject.spoken.values()
    with pytest.raises(ModelError, match=r"speech recogniser|Whisper encoder"):
        subject.transcriber.transcribe([TranscriptionRequest(audio)])


def test_it_is_closed_once_and_for_all(subject: Subject) -> None:
    subject.transcriber.close()
    subject.transcriber.close()
    [audio, *_] = subject.spoken.values()
    with pytest.raises(ModelError, match="closed"):
        subject.transcriber.transcribe([TranscriptionRequest(audio)])
