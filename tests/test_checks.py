"""What is refused before anything is loaded."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from fusion import checks
from fusion.errors import ConfigurationError
from fusion.selection import Choice, Pick
from fusion.settings import Settings
from tests.running import free_ports

ON_CPU = Choice(Pick("faster_whisper", ""), Pick("llama_cpp", ""), Pick("piper", ""))


def refusal(**settings: Any) -> str:
    """The sentence with which the settings are refused."""
    defaults = dict(
        zip(("transcription_port", "speech_port", "web_port"), free_ports(3), strict=True)
    )
    with pytest.raises(ConfigurationError) as error:
        checks.check(Settings(**{"host": "127.0.0.1"} | defaults | settings), ON_CPU)
    sentence = str(error.value)
    assert sentence.endswith(".") and "\n" not in sentence
    return sentence


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"llm": "smollm3"}, "There is no llm model 'smollm3': give one of smollm2-135m"),
        ({"llm": "smollm2-135M.gguf"}, "There is no llm model 'smollm2-135M.gguf': give"),
        ({"llm": "owner/repository"}, "the file is missing: write owner/repository:FILE."),
        ({"whisper_model": "tiny"}, "There is no whisper model 'tiny': give one of tiny.en, base"),
        ({"voice": ""}, "There is no voice model '': give one of en_US-joe-medium"),
        ({"openai_url": "localhost:8000"}, "--openai_url localhost:8000 is no address: write it"),
        ({"openai_url": "http://a:b/v1"}, "--openai_url http://a:b/v1 is no address: write it"),
        ({"openai_url": "ftp://host/v1"}, "--openai_url ftp://host/v1 is no address: write it"),
        ({"allowed_origins": "a.example"}, "--allowed_origins a.example is no origin: write it"),
        ({"allowed_origins": "*, https://a/"}, "--allowed_origins https://a/ is no origin: write"),
        ({"trusted_proxies": "10.0.0.1,proxy"}, "--trusted_proxies proxy is no address and no"),
        ({"host": "no.such.host.invalid"}, "--host no.such.host.invalid is no address of this"),
        ({"host": "192.0.2.1"}, "--host 192.0.2.1 is no address of this machine (Cannot assign"),
        ({"speech_port": 81, "web_port": 81}, "--speech_port and --web_port are both 81: give"),
    ],
)
def test_what_is_wrong_is_one_sentence(settings: dict[str, Any], sentence: str) -> None:
    assert sentence in refusal(**settings)


@pytest.mark.parametrize("setting", ["transcription_port", "speech_port", "web_port"])
def test_a_port_in_use_is_refused(setting: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        sentence = refusal(**{setting: port})
    assert sentence.startswith(f"Port {port} for ")
    assert sentence.endswith(
        f"(Address already in use): stop the program that uses it or choose "
        f"another with --{setting}."
    )


def test_a_cache_that_cannot_be_written_is_refused_where_a_model_is_missing(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    cache = str(tmp_path / "file" / "cache")
    assert refusal(cache=cache) == (
        f"The model tiny.en cannot be kept in {cache}, which cannot be written: name another "
        "folder with --cache."
    )
    model = tmp_path / "model"
    model.mkdir()
    names = {"whisper_model": str(model), "llm": str(model), "voice": str(model)}
    checks.check_models(Settings(cache=cache, **names), ON_CPU)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"openai_url": "https://[::1]:8000/v1", "host": "localhost"},
        {"allowed_origins": "https://a.example:81,http://localhost,null,*"},
        {"trusted_proxies": "10.0.0.1, 10.0.0.0/8, 2001:db8::/32"},
        {"whisper_model": "Systran/faster-whisper-small", "llm": "owner/repository:model.gguf"},
        {"transcription_port": 0, "speech_port": 0, "web_port": 0},
    ],
)
def test_what_is_right_is_let_through(settings: dict[str, Any], tmp_path: Path) -> None:
    ports = dict(zip(("transcription_port", "speech_port", "web_port"), free_ports(3), strict=True))
    checks.check(Settings(**ports | {"cache": str(tmp_path / "new")} | settings), ON_CPU)
    assert not (tmp_path / "new").exists()
