"""Whisper on TensorRT-LLM, against the recorded interface of 0.10.0. Mel and decoding are real
PyTorch; the engines are stand-ins."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fusion.audio import SAMPLE_RATE
from whisper_live.transcribers.base import TranscriptionRequest

LOW, MIDDLE, HIGH = 300.0, 1000.0, 3000.0

WORDS = (
    " the of and to in a is that for it as was with be by on not he his but at are this have from"
    " or had an they which one you were her all she there would their we him been has when who"
    " will more no if out so said what up its about"
)
"""More than anybody says in two seconds; each word is one token."""


def tone(frequency: float, seconds: float = 1.0) -> NDArray[np.float32]:
    times = np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    return (0.5 * np.sin(2 * np.pi * frequency * times)).astype(np.float32)


def band(frequency: float) -> int:
    """The mark that the encoder stand-in gives a window with this tone."""
    from whisper.audio import N_SAMPLES, log_mel_spectrogram

    from tests.contracts.whisper_runtime import loudest_band

    audio = tone(frequency)
    return loudest_band(log_mel_spectrogram(audio, 80, padding=N_SAMPLES - len(audio)))


@pytest.fixture
def english() -> bool:
    return True


@pytest.fixture
def player(english: bool, monkeypatch: pytest.MonkeyPatch) -> Any:
    from whisper.tokenizer import get_tokenizer

    from tests.contracts import whisper_runtime

    player = whisper_runtime.Player(get_tokenizer(not english, num_languages=99))
    whisper_runtime.install(monkeypatch, player)
    return player


@pytest.fixture
def library(player: Any, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    for name in ("tensorrt_engines", "tensorrt_llm"):
        monkeypatch.delitem(sys.modules, f"whisper_live.transcribers.{name}", raising=False)
        module = importlib.import_module(f"whisper_live.transcribers.{name}")
        monkeypatch.setitem(sys.modules, module.__name__, module)
    return module


def write_engines(folder: Path, **decoder: Any) -> None:
    contract = json.loads(
        Path(__file__).parents[1].joinpath("contracts", "tensorrt_llm-0.10.0.json").read_text()
    )["file.whisper_engine_dir"]
    encoder = {"precision": "float16", "n_mels": 80, "num_languages": 99, "max_batch_size": 4}
    decoder = {
        "max_batch_size": 8,
        "max_beam_width": 1,
        "vocab_size": 51864,
        "num_layers": 12,
        "num_heads": 12,
        "hidden_size": 768,
        "max_input_len": 14,
        "max_output_len": 100,
        "max_position_embeddings": 448,
        "cross_attention": True,
        "has_position_embedding": True,
        "has_token_type_embedding": False,
    } | decoder
    plugins = {"gpt_attention_plugin": "float16", "remove_input_padding": False}
    for name, builder in (("encoder_config.json", encoder), ("decoder_config.json", decoder)):
        assert set(builder) <= set(contract["json_keys"][name]["builder_config"])
        text = json.dumps({"builder_config": builder, "plugin_config": plugins})
        (folder / name).write_text(text)
    for name in contract["layout"][2:]:
        (folder / name).write_bytes(name.encode())


@pytest.fixture
def engines(tmp_path: Path, english: bool) -> Path:
    write_engines(tmp_path, vocab_size=51864 if english else 51865)
    return tmp_path


@pytest.fixture
def transcriber(library: ModuleType, engines: Path) -> Iterator[Any]:
    loaded = library.TensorRTWhisper(library.Engines.read(engines), device="cpu")
    yield loaded
    loaded.close()


@pytest.fixture
def says(player: Any) -> Any:
    """Teach the engine what it hears in a tone."""
    from tests.contracts.whisper_runtime import Speech

    def teach(frequency: float, text: str, **speech: Any) -> None:
        if code := speech.pop("language", None):
            tokenizer = player.tokenizer
            codes = dict(
                zip(tokenizer.all_language_codes, tokenizer.all_language_tokens, strict=True)
            )
            speech["language"] = codes[code]
        player.speeches[band(frequency)] = Speech(player.tokenizer.encode(text), **speech)

    return teach


def hear(transcriber: Any, *requests: TranscriptionRequest, **how: Any) -> list[str]:
    return [transcript.text for transcript in transcriber.transcribe(requests, **how)]
