"""The images' entry points: flags start the server, a command is run in its place."""

from __future__ import annotations

import subprocess

import pytest

from fusion.command_line import parse
from tests.recorders import CONFIGURATION, SCRIPTS, Host


def refusal(host: Host, script: str, *arguments: str) -> str:
    """Run a script that must refuse: the sentence that it says, without the ERROR before it."""
    result = host.run(script, *arguments)
    assert result.returncode == CONFIGURATION
    return result.stderr.removeprefix("ERROR: ").rstrip("\n")


@pytest.mark.parametrize("model", ["phi-2", "Phi-3-mini-4k-instruct", "mistral"])
def test_the_entry_point_builds_what_is_missing_and_becomes_main(host: Host, model: str) -> None:
    assert host.run("run-whisperfusion.sh", "--max_clients", "2", MODEL=model).returncode == 0
    assert host.programs[-1] == "main.py"
    assert "build.py" in host.programs and "trtllm-build" in host.programs
    assert host.calls[-1].cwd == str(host.project)
    host.run("run-whisperfusion.sh", "--max_clients", "2", MODEL=model)
    assert host.programs == ["main.py"]

    settings = parse(host.calls[-1].command[2:])
    assert settings.stt_backend == "tensorrt_llm"
    assert settings.whisper_tensorrt_path == str(host.models / "whisper_small_en")
    assert settings.max_clients == 2
    folder = host.models / model
    if model == "mistral":
        assert settings.mistral and not settings.phi
        assert settings.mistral_tensorrt_path == str(folder)
        assert settings.mistral_tokenizer_path == str(folder / "tokenizer")
    else:
        assert settings.phi and not settings.mistral
        assert settings.phi_tensorrt_path == str(folder)
        assert settings.phi_tokenizer_path == str(folder / "tokenizer")
        assert settings.phi_model_type == model


def test_the_entry_point_starts_nothing_when_a_build_fails(host: Host) -> None:
    host.world["broken"] = ["trtllm-build"]
    assert host.run("run-whisperfusion.sh").returncode != 0
    assert "main.py" not in host.programs


def test_verbose_reaches_main(host: Host) -> None:
    host.run("run-whisperfusion.sh", VERBOSE="true")
    assert parse(host.calls[-1].command[2:]).log_level == "debug"


@pytest.mark.parametrize("script", ["run-whisperfusion.sh", "run-cpu.sh"])
@pytest.mark.parametrize(
    "command",
    [
        ["nvidia-smi"],
        ["python3", "-c", "import sys; print('two words', sys.argv[1:])", "--flag"],
        ["bash", "-c", "echo $0 $1", "a b", "--c"],
        ["ls", "-la", "/"],
    ],
    ids=lambda command: command[0],
)
def test_a_command_is_run_in_place_of_the_server(
    host: Host, script: str, command: list[str]
) -> None:
    host.remove("python3")
    expected = "0, 8.9, 23000, NVIDIA GeForce RTX 4090\n"
    if command[0] != "nvidia-smi":
        expected = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    result = host.run(script, *command)
    assert (result.returncode, result.stdout) == (0, expected)
    assert host.programs == []


@pytest.mark.parametrize("script", ["run-whisperfusion.sh", "run-cpu.sh"])
def test_a_command_s_status_is_the_container_s(host: Host, script: str) -> None:
    assert host.run(script, "bash", "-c", "exit 7").returncode == 7


@pytest.mark.parametrize("script", ["run-whisperfusion.sh", "run-cpu.sh"])
def test_a_command_that_is_not_there(host: Host, script: str) -> None:
    assert refusal(host, script, "wich") == (
        "There is no command `wich` in this image: give the server flags, or a command that is "
        "there."
    )


def test_without_a_driver_a_command_gets_cuda_s_stub(host: Host) -> None:
    shown = host.run("run-whisperfusion.sh", "bash", "-c", "echo $LD_LIBRARY_PATH").stdout
    assert shown == "/usr/local/cuda/lib64/stubs\n"
    shown = host.run(
        "run-whisperfusion.sh", "bash", "-c", "echo $LD_LIBRARY_PATH", LD_LIBRARY_PATH="/a"
    ).stdout
    assert shown == "/a:/usr/local/cuda/lib64/stubs\n"
    assert host.models.is_dir()


def test_no_script_looks_like_a_merge_that_went_wrong() -> None:
    """What people look for with grep, and would find in a check for it."""
    for mark in ("<" * 6, "=" * 6, ">" * 6):
        found = subprocess.run(
            ["grep", "-r", mark, SCRIPTS.parent], stdout=subprocess.PIPE, check=False
        )
        assert found.stdout == b""


def test_the_cpu_entry_point_fetches_models_first(host: Host) -> None:
    host.add("python")
    assert host.run("run-cpu.sh", "--openai_url", "http://trtllm:8000/v1").returncode == 0
    assert [call.command for call in host.calls] == [
        ["python", "-m", "fusion.models"],
        ["python", "main.py", "--openai_url", "http://trtllm:8000/v1"],
    ]
