"""The language model on TensorRT-LLM: what is loaded, and what is refused."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from fusion.errors import ConfigurationError
from fusion.settings import Settings
from tests.contracts.executor import Player
from tests.tensorrt_language_model.conftest import write_engine

# -- loading --------------------------------------------------------------------------------------


def test_the_engine_is_opened_with_its_share_of_the_memory(
    library: ModuleType,
    settings: Settings,
    player: Player,
    tokenizers_loaded: list[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.INFO):
        model = library.load(dataclasses.replace(settings, kv_cache_fraction=0.25))
    model.close()
    (opened,) = player.contract.made("Executor.__init__")
    assert str(opened.arguments["model_path"]) == settings.phi_tensorrt_path
    assert opened.arguments["model_type"].name == "DECODER_ONLY"
    configuration = opened.arguments["executor_config"]
    assert configuration.max_beam_width == 1
    assert configuration.kv_cache_config.free_gpu_memory_fraction == 0.25
    assert tokenizers_loaded == [settings.phi_tokenizer_path]
    assert "Loaded LLM TensorRT Engine" in caplog.text
    assert model.max_concurrent == 8


def test_the_one_engine_that_is_there_is_loaded(
    library: ModuleType, settings: Settings, tmp_path: Path, tokenizers_loaded: list[str]
) -> None:
    write_engine(tmp_path / "mistral")
    only_mistral = dataclasses.replace(
        settings,
        phi=False,
        phi_tensorrt_path=str(tmp_path / "none"),
        mistral_tensorrt_path=str(tmp_path / "mistral"),
    )
    model = library.load(only_mistral)
    model.close()
    assert model.name == "tensorrt_llm: mistral"
    assert tokenizers_loaded == ["teknium/OpenHermes-2.5-Mistral-7B"]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"phi_tensorrt_path": "/nowhere/phi"}, "no TensorRT-LLM engine in /nowhere/phi"),
        ({"phi_tokenizer_path": "/nowhere/tok"}, "no tokenizer folder /nowhere/tok"),
        ({"phi_tokenizer_path": "nobody/tok"}, "nobody/tok cannot be loaded"),
        ({"mistral": True}, "exclude each other"),
        ({"max_prompt_tokens": 1025}, "prompts of 1024 tokens: give --max_prompt_tokens 1024"),
    ],
)
def test_what_is_missing_is_one_sentence(
    library: ModuleType, settings: Settings, change: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ConfigurationError, match=sentence):
        library.load(dataclasses.replace(settings, **change))


def test_an_engine_of_another_version_is_refused(library: ModuleType, settings: Settings) -> None:
    write_engine(Path(settings.phi_tensorrt_path), version="0.11.0")
    with pytest.raises(ConfigurationError, match=r"built by TensorRT-LLM 0\.11\.0"):
        library.load(settings)


@pytest.mark.parametrize("error", [RuntimeError, AttributeError, AssertionError])
def test_an_engine_that_does_not_open_is_one_sentence(
    library: ModuleType, settings: Settings, player: Player, error: type[Exception]
) -> None:
    player.refuses = error
    player.refusal = "engine plan file is not compatible"
    with pytest.raises(ConfigurationError, match="does not open on this GPU"):
        library.load(settings)
