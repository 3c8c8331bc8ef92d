"""What is refused before anything is loaded."""

from __future__ import annotations

import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fusion import checks
from fusion.errors import EXIT_CONFIGURATION, ConfigurationError
from fusion.selection import Choice, Pick
from fusion.settings import Settings
from tests.running import ROOT, free_ports

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
        ({"whisper_model": "tinn"}, "There is no whisper model 'tinn': give one of tiny.en, base"),
        ({"voice": ""}, "There is no voice model '': give one of en_US-joe-medium"),
        ({"openai_url": "localhost:8000"}, "--openai_url localhost:8000 is no address: write it"),
        ({"openai_url": "http://a:b/v1"}, "--openai_url http://a:b/v1 is no address: write it"),
        ({"openai_url": "ftp://host/v1"}, "--openai_url ftp://host/v1 is no address: write it"),
        ({"allowed_origins": "a.example"}, "--allowed_origins a.example is no origin: write it"),
        ({"allowed_origins": "*, https://a/"}, "--allowed_origins https://a/ is no origin: write"),
        ({"allowed_origins": "http://["}, "--allowed_origins http://[ is no origin: write it as"),
        ({"trusted_proxies": "10.0.0.1,proxy"}, "--trusted_proxies proxy is no address and no"),
        ({"host": "no.such.host.invalid"}, "--host no.such.host.invalid is no address of this"),
        ({"host": "192.0.2.1"}, "--host 192.0.2.1 is no address of this machine (Cannot assign"),
        ({"max_clients": 257}, "--max_clients 257 is more than llama.cpp can talk with"),
        ({"tls_key": "key.pem"}, "--tls_certificate and --tls_key do nothing without --tls: add"),
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
    names = models_in(tmp_path)
    checks.check_models(Settings(cache=cache, **names), ON_CPU)  # type: ignore[arg-type]


def models_in(folder: Path) -> dict[str, str]:
    """Settings that name what looks like models."""
    (folder / "model.bin").touch()
    (folder / "model.gguf").write_bytes(b"GGUF...")
    (folder / "voice.onnx").touch()
    (folder / "voice.onnx.json").touch()
    names = {"whisper_model": "", "llm": "model.gguf", "voice": "voice.onnx"}
    return {setting: str(folder / name) for setting, name in names.items()}


@pytest.mark.parametrize(
    ("setting", "file", "reason"),
    [
        ("whisper_model", "model.bin", "lacks"),
        ("llm", "model.gguf", "is no GGUF file"),
        ("voice", "voice.onnx.json", "lacks"),
    ],
)
def test_a_path_that_is_no_model_is_refused(
    setting: str, file: str, reason: str, tmp_path: Path
) -> None:
    names = models_in(tmp_path)
    checks.check_models(Settings(**names), ON_CPU)  # type: ignore[arg-type]
    (tmp_path / file).unlink()
    if setting == "llm":
        (tmp_path / file).touch()
    sentence = refusal(**names)
    assert f" model {names[setting]} {reason}" in sentence


def test_a_language_model_server_without_an_address_is_refused() -> None:
    choice = replace(ON_CPU, language_model=Pick("openai_api", "as --llm_backend says"))
    with pytest.raises(ConfigurationError, match=r"openai_api needs --openai_url"):
        checks.check(Settings(), choice)


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


@pytest.mark.e2e
@pytest.mark.parametrize(
    "flags",
    [
        ("--llm=missing.gguf",),
        ("--tls", "--tls_certificate=broken.pem", "--tls_key=broken.pem", "--web_port=0"),
    ],
)
def test_the_program_ends_with_that_sentence_alone(flags: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "broken.pem").touch()
    finished = subprocess.run(
        [sys.executable, ROOT / "main.py", *flags], cwd=tmp_path, capture_output=True, text=True
    )
    assert finished.returncode == EXIT_CONFIGURATION
    assert finished.stdout == ""
    assert len(finished.stderr.splitlines()) == 1
    assert "missing.gguf" in finished.stderr or "broken.pem" in finished.stderr
