"""Whisper on TensorRT-LLM: how its engines are opened, and what is refused."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from fusion.errors import ConfigurationError
from fusion.settings import Settings

pytestmark = pytest.mark.torch


# -- loading --------------------------------------------------------------------------------------


def test_the_engines_are_opened_as_they_were_built(transcriber: Any, player: Any) -> None:
    (encoder,) = player.contract.made("from_serialized_engine")
    assert encoder.arguments["engine"] == b"whisper_encoder_float16_tp1_rank0.engine"
    (decoder,) = player.contract.made("GenerationSession.__init__")
    assert decoder.arguments["engine_buffer"] == b"whisper_decoder_float16_tp1_rank0.engine"
    assert vars(decoder.arguments["model_config"]) == {
        "max_batch_size": 8,
        "max_beam_width": 1,
        "vocab_size": 51864,
        "num_layers": 12,
        "num_heads": 12,
        "num_kv_heads": 12,
        "hidden_size": 768,
        "gpt_attention_plugin": "float16",
        "remove_input_padding": False,
        "cross_attention": True,
        "has_position_embedding": True,
        "has_token_type_embedding": False,
    }
    assert transcriber.max_batch == 4


def test_warming_up_runs_the_smallest_and_the_largest_batch(transcriber: Any, player: Any) -> None:
    from collections import defaultdict

    from tests.contracts.whisper_runtime import Speech

    player.speeches = defaultdict(lambda: Speech(player.tokenizer.encode(" Hm.")))
    transcriber.warm_up()
    batches = [len(c.arguments["inputs"]["x"]) for c in player.contract.made("Session.run")]
    assert batches == [1, 4]


def test_missing_engines_are_one_sentence(library: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no Whisper TensorRT-LLM engines in"):
        library.load(Settings(whisper_tensorrt_path=str(tmp_path / "none")))


def test_a_missing_engine_file_is_one_sentence(library: ModuleType, engines: Path) -> None:
    (engines / "whisper_decoder_float16_tp1_rank0.engine").unlink()
    with pytest.raises(ConfigurationError, match=r"rank0\.engine cannot be read"):
        library.TensorRTWhisper(library.Engines.read(engines), device="cpu")


def test_newer_engines_are_refused(library: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "encoder").mkdir()
    with pytest.raises(ConfigurationError, match=r"0\.11 or newer"):
        library.load(Settings(whisper_tensorrt_path=str(tmp_path)))


@pytest.mark.parametrize("error", [RuntimeError, AttributeError, AssertionError])
def test_engines_of_another_gpu_are_one_sentence(
    library: ModuleType, engines: Path, player: Any, error: type[Exception]
) -> None:
    player.refuses = error
    player.refusal = "engine plan file is not compatible"
    with pytest.raises(ConfigurationError, match="do not open on this GPU"):
        library.TensorRTWhisper(library.Engines.read(engines), device="cpu")
