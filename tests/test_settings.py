"""The command line: defaults, environment variables, and what is refused."""

from __future__ import annotations

import dataclasses

import pytest

from fusion.settings import Settings, parse


def test_every_default_is_allowed() -> None:
    for setting in dataclasses.fields(Settings):
        bounds = setting.metadata["range"]
        if bounds:
            assert parse([f"--{setting.name}={setting.default}"]) == parse([])


@pytest.mark.parametrize(
    ("flag", "value", "bounds"),
    [
        ("max_clients", "0", "1 or more"),
        ("whisperspeech_instances", "0", "1 or more"),
        ("vad_threshold", "nan", "0.01 to 1"),
        ("longest_segment", "45", "5 to 30"),
        ("speech_port", "-1", "0 to 65535"),
    ],
)
def test_a_number_out_of_range_is_refused_in_one_sentence(
    flag: str, value: str, bounds: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        parse([f"--{flag}={value}"])
    assert ended.value.code == 2
    usage, error = capsys.readouterr().err.splitlines()
    assert "--help" in usage
    assert error.endswith(f"--{flag}: {value} is out of range: it must be {bounds}")


def test_no_number_at_all_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(["--max_clients=many"])
    assert "--max_clients: invalid int value: 'many'" in capsys.readouterr().err


def test_the_environment_is_read_checked_and_beaten_by_a_flag(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WHISPERFUSION_MAX_CLIENTS", "8")
    assert parse([]).max_clients == 8
    assert parse(["--max_clients=2"]).max_clients == 2
    monkeypatch.setenv("WHISPERFUSION_MAX_CLIENTS", "0")
    with pytest.raises(SystemExit):
        parse([])


def test_an_old_name_of_a_path_counts_where_the_new_one_is_not_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WHISPER_PATH", "/old")
    assert parse([]).whisper_tensorrt_path == "/old"
    monkeypatch.setenv("WHISPERFUSION_WHISPER_TENSORRT_PATH", "/new")
    assert parse([]).whisper_tensorrt_path == "/new"


@pytest.mark.parametrize(
    ("arguments", "name", "value"),
    [
        (["--transcriber=tensorrt_llm"], "stt_backend", "tensorrt_llm"),
        (["--language_model=llama_cpp"], "llm_backend", "llama_cpp"),
        (["--voice_library=piper"], "tts_backend", "piper"),
        (["--sound_ahead=0.3"], "buffer_lead", 0.3),
        (["--no-work_ahead"], "speculative_generation", False),
        (["--settle_after=9"], "finalize_after", 9.0),
        (["--longest_piece=20"], "longest_segment", 20.0),
    ],
)
def test_old_flags_and_their_variables_are_aliases(
    arguments: list[str], name: str, value: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert getattr(parse(arguments), name) == value
    flag, _, text = arguments[0].removeprefix("--").removeprefix("no-").partition("=")
    monkeypatch.setenv(f"WHISPERFUSION_{flag.upper()}", text or "false")
    assert getattr(parse([]), name) == value
