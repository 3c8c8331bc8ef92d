"""The language model on TensorRT-LLM, against the recorded interface of 0.10.0."""

from __future__ import annotations

import importlib
import json
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from fusion.settings import Settings
from language_models.base import Cancellation, ChatMessage, GenerationRequest
from tests.contracts import executor
from tests.contracts.executor import Player

HELLO = (ChatMessage("user", "Hello"),)
PHI_3_END = 32007


class ByteTokenizer:
    """Each byte is a token. What lies above is no special token to it, as an added one may be."""

    def encode(self, text: str) -> list[int]:
        return list(text.encode())

    def decode(
        self, ids: Sequence[int], *, skip_special_tokens: bool, clean_up_tokenization_spaces: bool
    ) -> str:
        assert skip_special_tokens
        assert not clean_up_tokenization_spaces
        return b"".join(bytes([i]) if i < 256 else f"<{i}>".encode() for i in ids).decode(
            errors="replace"
        )


def tokens(text: str) -> list[list[int]]:
    return [[byte] for byte in text.encode()]


@pytest.fixture
def player(monkeypatch: pytest.MonkeyPatch) -> Player:
    return executor.install(monkeypatch)


@pytest.fixture
def tokenizers_loaded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Stands in for transformers; gives the names that were asked for."""
    loaded: list[str] = []

    def from_pretrained(name: str) -> ByteTokenizer:
        if name.startswith("nobody/"):
            raise OSError(f"{name} is not a local folder")
        loaded.append(name)
        return ByteTokenizer()

    module = ModuleType("transformers")
    module.AutoTokenizer = SimpleNamespace(from_pretrained=from_pretrained)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "transformers", module)
    return loaded


@pytest.fixture
def library(
    player: Player, tokenizers_loaded: list[str], monkeypatch: pytest.MonkeyPatch
) -> ModuleType:
    """The module under test, imported over the stand-in."""
    monkeypatch.delitem(sys.modules, "language_models.tensorrt_llm", raising=False)
    module = importlib.import_module("language_models.tensorrt_llm")
    monkeypatch.setitem(sys.modules, "language_models.tensorrt_llm", module)
    return module


def write_engine(folder: Path, version: str = "0.10.0", **build: Any) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    limits = {"max_batch_size": 8, "max_input_len": 1024, "max_output_len": 200} | build
    (folder / "config.json").write_text(json.dumps({"version": version, "build_config": limits}))


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    write_engine(tmp_path / "phi")
    (tmp_path / "tokenizer").mkdir()
    return Settings(
        phi=True,
        phi_tensorrt_path=str(tmp_path / "phi"),
        phi_tokenizer_path=str(tmp_path / "tokenizer"),
        reply_timeout=5.0,
    )


@pytest.fixture
def model(library: ModuleType, settings: Settings) -> Iterator[Any]:
    loaded = library.load(settings)
    yield loaded
    loaded.close()


def answer(model: Any, cancellation: Cancellation | None = None, **request: Any) -> list[str]:
    generation = GenerationRequest(HELLO, **request)
    return list(model.stream(generation, cancellation or Cancellation()))


def eventually(condition: Any, seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)
