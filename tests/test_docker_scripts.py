"""The scripts that build engines and start the server, with every outside command recorded."""

from __future__ import annotations

import fcntl
import json
import threading
from pathlib import Path

import pytest

from fusion.command_line import parse
from tests.recorders import CONFIGURATION, SCRIPTS, Host

CONTRACT = Path(__file__).parent / "contracts" / "tensorrt_llm-0.10.0.json"
SHA256 = "f953ad0fd29cacd07d5a9eda5624af0f6bcf2258be67c92b79389873d91e0872"


def refused(host: Host, script: str, *arguments: str, **environment: str) -> str:
    """Run a script that must refuse: the sentence that it says, without the ERROR before it."""
    result = host.run(script, *arguments, **environment)
    assert result.returncode == CONFIGURATION, result
    assert not {"hf", "curl", "trtllm-build", "build.py"} & set(host.programs)
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("ERROR: ")
    return lines[0].removeprefix("ERROR: ")


def test_whisper_is_built_by_the_command_of_0_10_0(host: Host) -> None:
    result = host.run("build-whisper.sh")
    assert result.returncode == 0, result.stderr
    weights = host.scratch / "downloads" / "whisper_small_en"
    _, curl, _, build = host.calls
    assert curl.command == [
        *("curl", "--fail", "--location", "--retry", "3", "--continue-at", "-"),
        *("--output", f"{weights}/small.en.pt"),
        f"https://openaipublic.azureedge.net/main/whisper/models/{SHA256}/small.en.pt",
    ]
    assert build.cwd == str(host.examples / "whisper")
    assert build.command == [
        *("python3", "build.py", "--model_dir", str(weights), "--model_name", "small.en"),
        *("--output_dir", f"{host.models}/whisper_small_en.building/engine"),
        *("--max_batch_size", "8", "--max_input_len", "128", "--max_output_len", "200"),
        *("--max_beam_width", "1", "--use_gpt_attention_plugin", "--use_gemm_plugin"),
        *("--use_bert_attention_plugin", "--enable_context_fmha", "--log_level", "info"),
    ]
    assert sorted(path.name for path in (host.models / "whisper_small_en").iterdir()) == [
        "built.txt",
        "decoder_config.json",
        "encoder_config.json",
        "whisper_decoder_float16_tp1_rank0.engine",
        "whisper_encoder_float16_tp1_rank0.engine",
    ]
    assert not weights.exists()


@pytest.mark.parametrize(
    ("model", "revision"),
    [
        ("phi-2", "ef382358ec9e382308935a992d908de099b64c23"),
        ("Phi-3-mini-4k-instruct", "ff07dc01615f8113924aed013115ab2abd32115b"),
        ("Phi-3-mini-128k-instruct", "bb5bf1e4001277a606e11debca0ef80323e5f824"),
    ],
)
def test_phi_is_built_by_the_commands_of_0_10_0(host: Host, model: str, revision: str) -> None:
    result = host.run("build-phi.sh", model)
    assert result.returncode == 0, result.stderr
    work, weights = host.models / f"{model}.building", host.scratch / "downloads" / model
    download, convert, build = host.calls
    assert download.command == [
        *("hf", "download", f"microsoft/{model}", "--revision", revision),
        *("--local-dir", str(weights), "--exclude", "*.bin"),
    ]
    assert convert.command == [
        *("python3", f"{host.examples}/phi/convert_checkpoint.py", "--model_type", model),
        *("--model_dir", str(weights), "--dtype", "float16"),
        *("--output_dir", f"{work}/checkpoint"),
    ]
    assert build.command == engine_build(work)
    assert build.cwd == str(work)
    check_engine_folder(host.models / model)
    assert not work.exists() and not weights.exists()


def test_mistral_is_built_by_the_commands_of_0_10_0(host: Host) -> None:
    result = host.run("build-mistral.sh")
    assert result.returncode == 0, result.stderr
    work, weights = host.models / "mistral.building", host.scratch / "downloads" / "mistral"
    download, convert, build = host.calls
    assert download.command == [
        *("hf", "download", "teknium/OpenHermes-2.5-Mistral-7B"),
        *("--revision", "24c0bea14d53e6f67f1fbe2eca5bfe7cae389b33"),
        *("--local-dir", str(weights), "--exclude", "*.bin"),
    ]
    assert convert.command == [
        *("python3", f"{host.examples}/llama/convert_checkpoint.py"),
        *("--model_dir", str(weights), "--dtype", "float16"),
        *("--output_dir", f"{work}/checkpoint"),
    ]
    assert build.command == engine_build(work)
    check_engine_folder(host.models / "mistral")


def engine_build(work: Path, log_level: str = "info", *more: str) -> list[str]:
    """The build on an Ada: from Ampere on, prompts are kept in blocks."""
    return [
        *("trtllm-build", "--checkpoint_dir", f"{work}/checkpoint"),
        *("--output_dir", f"{work}/engine", "--gemm_plugin", "float16", "--max_batch_size", "8"),
        *("--max_input_len", "1024", "--max_output_len", "512", "--max_num_tokens", "8192"),
        *("--use_paged_context_fmha", "enable", "--tokens_per_block", "32", *more),
        *("--log_level", log_level),
    ]


def check_engine_folder(folder: Path) -> None:
    """The engine, its stamp and the tokenizer, but neither weights nor the hub's Python code."""
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert files == {
        *("built.txt", "config.json", "rank0.engine"),
        *("tokenizer/tokenizer.json", "tokenizer/tokenizer_config.json"),
    }


def test_every_option_exists_in_0_10_0(host: Host) -> None:
    contract = json.loads(CONTRACT.read_text())
    host.run("build-whisper.sh")
    calls = host.calls
    host.run("build-phi.sh")
    calls += host.calls
    commands = {
        "build.py": "cli.examples/whisper/build.py",
        "convert_checkpoint.py": "cli.examples/phi/convert_checkpoint.py",
        "trtllm-build": "cli.trtllm-build",
    }
    seen = set()
    for call in calls:
        name = Path(call.command[call.command[0] == "python3"]).name
        if name in commands:
            known = {option["name"] for option in contract[commands[name]]["params"]}
            assert {word for word in call.command if word.startswith("--")} <= known
            seen.add(name)
    assert seen == set(commands)


def test_the_engine_limits_hold_the_default_settings() -> None:
    settings = parse([])
    common = (SCRIPTS / "common.sh").read_text()
    assert "--max_input_len 1024" in common and settings.max_prompt_tokens <= 1024
    assert "--max_output_len 512" in common and settings.max_new_tokens <= 512
    assert "--max_batch_size 8" in common and settings.max_clients <= 8


def test_an_older_hub_command_does_as_well(host: Host) -> None:
    host.remove("hf")
    host.add("huggingface-cli")
    assert host.run("build-phi.sh", "phi-2").returncode == 0
    assert host.calls[0].command[:3] == ["huggingface-cli", "download", "microsoft/phi-2"]


def test_verbose_shows_the_commands_and_more_of_the_build(host: Host) -> None:
    result = host.run("build-phi.sh", "phi-2", VERBOSE="true")
    assert host.calls[-1].command == engine_build(host.models / "phi-2.building", "verbose")
    assert "+ trtllm-build" in result.stderr


@pytest.mark.parametrize("script", ["build-whisper.sh", "build-phi.sh", "build-mistral.sh"])
def test_a_second_run_builds_nothing(host: Host, script: str) -> None:
    assert host.run(script).returncode == 0
    assert host.calls
    again = host.run(script)
    assert again.returncode == 0
    assert host.programs == []
    assert "is built for this GPU" in again.stdout


@pytest.mark.parametrize("script", ["build-whisper.sh", "build-phi.sh", "build-mistral.sh"])
@pytest.mark.parametrize(
    "change",
    [
        {"tensorrt_llm": "0.11.0"},
        {"gpus": ["0, 9.0, 80000, NVIDIA H100"]},
    ],
    ids=["version", "GPU"],
)
def test_another_version_or_gpu_builds_again(
    host: Host, script: str, change: dict[str, object]
) -> None:
    host.run(script)
    host.world |= change
    assert host.run(script).returncode == 0
    assert host.programs
    host.run(script)
    assert host.programs == []


def test_other_build_options_or_another_revision_build_again(host: Host) -> None:
    host.run("build-phi.sh", "phi-2")
    stamp = host.models / "phi-2" / "built.txt"
    for old, new in [("--max_batch_size 8", "--max_batch_size 1"), ("ef382358", "00000000")]:
        whole = stamp.read_text()
        assert old in whole
        stamp.write_text(whole.replace(old, new))
        assert host.run("build-phi.sh", "phi-2").returncode == 0
        assert "trtllm-build" in host.programs
        assert stamp.read_text() == whole


def test_a_broken_build_leaves_no_engine_and_is_built_again(host: Host) -> None:
    host.world["broken"] = ["trtllm-build"]
    assert host.run("build-phi.sh", "phi-2").returncode != 0
    assert not (host.models / "phi-2").exists()
    weights = host.scratch / "downloads" / "phi-2" / "model.safetensors"
    assert weights.exists(), "a download is not thrown away because the build failed"
    host.world["broken"] = []
    assert host.run("build-phi.sh", "phi-2").returncode == 0
    check_engine_folder(host.models / "phi-2")


def test_a_broken_rebuild_leaves_the_old_engine(host: Host) -> None:
    host.run("build-phi.sh", "phi-2")
    host.world |= {"tensorrt_llm": "0.11.0", "broken": ["convert_checkpoint.py"]}
    assert host.run("build-phi.sh", "phi-2").returncode != 0
    check_engine_folder(host.models / "phi-2")
    assert "tensorrt_llm 0.10.0" in (host.models / "phi-2" / "built.txt").read_text()


def test_a_half_built_engine_is_built_again(host: Host) -> None:
    folder = host.models / "whisper_small_en"
    folder.mkdir(parents=True)
    (folder / "whisper_encoder_float16_tp1_rank0.engine").write_text("half")
    left = host.models / "whisper_small_en.building" / "engine"
    left.mkdir(parents=True)
    (left / "stray").write_text("of a build that was killed")
    assert host.run("build-whisper.sh").returncode == 0
    assert (folder / "built.txt").exists()
    assert not (folder / "stray").exists()


def test_two_containers_do_not_build_the_same_engine_at_once(host: Host) -> None:
    host.models.mkdir(parents=True)
    with (host.models / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        release = threading.Timer(3.0, fcntl.flock, (lock, fcntl.LOCK_UN))
        release.start()
        result = host.run("build-phi.sh", "phi-2")
        release.join()
    assert result.returncode == 0
    assert f"Another build is at work in {host.models}; waiting for it.\n" in result.stdout
    check_engine_folder(host.models / "phi-2")


def test_a_build_that_ends_well_without_an_engine_counts_as_failed(host: Host) -> None:
    host.world["engine"] = ["config.json"]
    result = host.run("build-phi.sh", "phi-2")
    assert result.returncode == CONFIGURATION
    assert "ended without rank0.engine" in result.stderr
    assert not (host.models / "phi-2").exists()


@pytest.mark.parametrize(
    ("script", "program", "what"),
    [
        ("build-whisper.sh", "build.py", "Building {models}/whisper_small_en"),
        ("build-phi.sh", "convert_checkpoint.py", "Converting the weights for {models}/phi-2"),
        ("build-phi.sh", "trtllm-build", "Building {models}/phi-2"),
        ("build-mistral.sh", "trtllm-build", "Building {models}/mistral"),
    ],
)
def test_a_failed_build_ends_with_one_sentence(
    host: Host, script: str, program: str, what: str
) -> None:
    host.world["broken"] = [program]
    result = host.run(script, MODEL="phi-2")
    assert result.returncode == CONFIGURATION
    *reason, sentence = result.stderr.splitlines()
    assert reason[-1] == "recorder: broken on purpose"
    assert sentence == (
        f"ERROR: {what.format(models=host.models)} failed: read the reason above and, if it is "
        "memory (`Killed`, `out of memory`), stop what else uses this machine or its GPU."
    )


def test_damaged_whisper_weights_are_refused_and_removed(host: Host) -> None:
    host.world["broken"] = ["sha256sum"]
    result = host.run("build-whisper.sh")
    assert result.returncode == CONFIGURATION
    assert "arrived damaged: run this script again." in result.stderr
    assert "build.py" not in host.programs
    assert not (host.scratch / "downloads" / "whisper_small_en" / "small.en.pt").exists()


@pytest.mark.parametrize("script", ["build-whisper.sh", "build-phi.sh", "build-mistral.sh"])
def test_no_gpu(host: Host, script: str) -> None:
    host.world["gpus"] = []
    assert refused(host, script) == (
        "No NVIDIA GPU is visible here: install the NVIDIA driver and the NVIDIA Container "
        "Toolkit, and start the container with --gpus all."
    )


def test_no_nvidia_smi_at_all(host: Host) -> None:
    host.remove("nvidia-smi")
    assert refused(host, "build-whisper.sh").startswith("No NVIDIA GPU is visible here")


def test_a_gpu_that_0_10_0_does_not_know(host: Host) -> None:
    host.world["gpus"] = ["0, 12.0, 32000, NVIDIA GeForce RTX 5090"]
    assert refused(host, "build-phi.sh") == (
        "TensorRT-LLM 0.10.0 does not know the NVIDIA GeForce RTX 5090 (compute capability 12.0): "
        "run `docker compose --profile modern up` instead."
    )
    host.world["gpus"] = ["0, 6.1, 8000, NVIDIA GeForce GTX 1080"]
    assert "too old for TensorRT-LLM 0.10.0" in refused(host, "build-phi.sh")


def test_not_enough_gpu_memory(host: Host) -> None:
    host.world["gpus"] = ["0, 8.9, 3000, NVIDIA GeForce RTX 4090"]
    assert refused(host, "build-whisper.sh") == (
        "Building Whisper small.en needs about 4 GiB of free GPU memory and 2 GiB are free: "
        "stop what else uses the GPU, or choose a smaller MODEL."
    )


def test_not_enough_disk(host: Host) -> None:
    host.world["disk"] = 5
    assert refused(host, "build-phi.sh", "phi-2") == (
        f"Building phi-2 needs about 20 GiB of disk under {host.models} and 5 GiB are free: "
        "make room there."
    )


@pytest.mark.parametrize("script", ["build-whisper.sh", "build-phi.sh", "build-mistral.sh"])
def test_a_scratch_space_that_cannot_be_written(host: Host, script: str) -> None:
    host.scratch.write_text("no folder")
    assert refused(host, script) == (
        f"Nothing can be written to {host.models}: make the folder that is mounted at "
        f"{host.scratch} writable for the container (docker/README.md says how under SELinux)."
    )


@pytest.mark.parametrize(
    ("script", "command"), [("build-phi.sh", "hf"), ("build-mistral.sh", "hf")]
)
def test_no_hub(host: Host, script: str, command: str) -> None:
    host.world["broken"] = [command]
    result = host.run(script)
    assert result.returncode == CONFIGURATION
    assert "ERROR: The Hugging Face hub does not give " in result.stderr
    assert "connect this machine to the network" in result.stderr
    assert host.programs == ["hf"]


def test_no_network_for_the_whisper_weights(host: Host) -> None:
    host.world["broken"] = ["curl", "sha256sum"]
    result = host.run("build-whisper.sh")
    assert result.returncode == CONFIGURATION
    assert "ERROR: The Whisper weights could not be fetched from https://" in result.stderr
    assert "build.py" not in host.programs


def test_merge_markers(host: Host) -> None:
    (host.project / "tts_service.py").write_text("a = 1\n<<<<<<< HEAD\nb = 2\n")
    assert refused(host, "build-whisper.sh") == (
        f"There are merge markers in {host.project}/tts_service.py: finish the merge and build "
        "the image again."
    )


def test_tensorrt_llm_is_missing(host: Host) -> None:
    host.world["tensorrt_llm"] = ""
    assert "tensorrt_llm is not installed here" in refused(host, "build-whisper.sh")


def test_an_unknown_model_is_refused_before_anything_is_built(host: Host) -> None:
    assert refused(host, "build-models.sh", MODEL="gpt-5") == (
        "MODEL is gpt-5: choose Phi-3-mini-4k-instruct, Phi-3-mini-128k-instruct, phi-2 or mistral."
    )
    assert "build-phi.sh builds" in refused(host, "build-phi.sh", "mistral")


def test_cuda_arch_picks_among_the_gpus(host: Host) -> None:
    host.world["gpus"] = ["0, 7.5, 15000, Tesla T4", "1, 8.9, 23000, NVIDIA L4"]
    for wanted, index in [("", "0"), ("8.9", "1"), ("89", "1"), ("89-real", "1"), ("75", "0")]:
        assert host.run("build-phi.sh", "phi-2", CUDA_ARCH=wanted).returncode == 0
        assert {call.gpu for call in host.calls} <= {index}
    assert refused(host, "build-phi.sh", CUDA_ARCH="90") == (
        "CUDA_ARCH is 90, but no GPU here has compute capability 9.0: leave CUDA_ARCH empty to "
        "take the first one."
    )
