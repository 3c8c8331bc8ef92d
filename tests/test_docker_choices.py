"""What the Docker build lets one choose: which Whisper, and how many bits a weight has."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from fusion.command_line import parse
from tests.recorders import CONFIGURATION, SCRIPTS, Host
from tests.test_docker_scripts import CONTRACT

OPENAI = "https://openaipublic.azureedge.net/main/whisper/models"


@pytest.mark.parametrize("model", ["small.en", "small", "medium.en", "medium", "large-v3"])
def test_each_whisper_has_its_weights_and_its_folder(host: Host, model: str) -> None:
    assert host.run("build-whisper.sh", WHISPER_MODEL=model).returncode == 0
    [fetched] = [call for call in host.calls if call.command[0] == "curl"]
    assert re.fullmatch(rf"{OPENAI}/[0-9a-f]{{64}}/{re.escape(model)}\.pt", fetched.command[-1])
    [build] = [call for call in host.calls if "build.py" in call.command]
    assert build.command[build.command.index("--model_name") + 1] == model
    folder = host.models / ("whisper_" + model.replace(".", "_").replace("-", "_"))
    assert (folder / "built.txt").read_text().startswith(f"model whisper-{model} ")


def test_no_two_whispers_have_the_same_sum() -> None:
    text = (SCRIPTS / "build-whisper.sh").read_text()
    sums = re.findall(r"sha256=([0-9a-f]{64})", text)
    assert len(sums) == len(set(sums)) == 5


def test_a_distilled_whisper_comes_from_the_hub_and_is_converted(host: Host) -> None:
    assert host.run("build-whisper.sh", "distil-large-v3").returncode == 0
    weights = host.scratch / "downloads" / "whisper_distil_large_v3"
    download, convert, build = host.calls
    assert download.command[:3] == ["hf", "download", "distil-whisper/distil-large-v3"]
    assert convert.cwd == build.cwd == str(host.examples / "whisper")
    assert convert.command == [
        *("python3", "distil_whisper/convert_from_distil_whisper.py", "--model_name", str(weights)),
        *("--output_dir", str(weights), "--output_name", "distil-large-v3"),
    ]
    assert "distil-large-v3" in build.command


def test_the_server_is_started_with_the_whisper_that_was_built(host: Host) -> None:
    assert host.run("run-whisperfusion.sh", WHISPER_MODEL="large-v3").returncode == 0
    settings = parse(host.calls[-1].command[2:])
    assert settings.whisper_tensorrt_path == str(host.models / "whisper_large_v3")
    assert Path(settings.whisper_tensorrt_path, "encoder_config.json").exists()


@pytest.mark.parametrize("script", ["build-phi.sh", "build-mistral.sh"])
@pytest.mark.parametrize("bits", ["int8", "int4"])
def test_weights_of_fewer_bits(host: Host, script: str, bits: str) -> None:
    contract = json.loads(CONTRACT.read_text())["cli.trtllm-build"]["params"]
    [option] = [each for each in contract if each["name"] == "--weight_only_precision"]
    assert bits in option["choices"]
    assert host.run(script, QUANTIZATION=bits).returncode == 0
    build = host.calls[-1].command
    assert build[build.index("--weight_only_precision") + 1] == bits
    host.run(script, QUANTIZATION=bits)
    assert host.programs == []
    host.run(script)
    assert "trtllm-build" in host.programs, "another precision is another engine"


@pytest.mark.parametrize(
    ("free", "bits", "fits"),
    [
        (11_900, "none", False),
        (11_900, "int8", True),
        (10_000, "int8", False),
        (10_000, "int4", True),
    ],
)
def test_a_card_of_12_gb_holds_phi_3_in_int8(host: Host, free: int, bits: str, fits: bool) -> None:
    host.world["gpus"] = [f"0, 8.6, {free}, NVIDIA GeForce RTX 3060"]
    result = host.run("build-phi.sh", "Phi-3-mini-4k-instruct", QUANTIZATION=bits)
    assert (result.returncode == 0) == fits
    if not fits:
        assert "of free GPU memory" in result.stderr


def test_an_older_gpu_reads_prompts_anew(host: Host) -> None:
    host.world["gpus"] = ["0, 7.5, 15000, NVIDIA GeForce RTX 2080 Ti"]
    assert host.run("build-phi.sh").returncode == 0
    assert "--use_paged_context_fmha" not in host.calls[-1].command


@pytest.mark.parametrize(
    ("script", "environment", "sentence"),
    [
        ("build-whisper.sh", {"WHISPER_MODEL": "huge"}, "WHISPER_MODEL is huge: choose small.en,"),
        ("build-phi.sh", {"QUANTIZATION": "int3"}, "QUANTIZATION is int3: choose none, int8 or"),
    ],
)
def test_what_there_is_not_is_one_sentence(
    host: Host, script: str, environment: dict[str, str], sentence: str
) -> None:
    result = host.run(script, **environment)
    assert result.returncode == CONFIGURATION
    assert result.stderr.startswith(f"ERROR: {sentence}")
    assert host.programs == []
