"""The scripts that set the GPU image up and check it, with every outside command recorded."""

from __future__ import annotations

import re

import pytest

from tests.recorders import COMMIT, CONFIGURATION, Host


def test_the_check_of_a_finished_image(host: Host) -> None:
    (host.project / "main.py").write_text("pass\n")
    result = host.run("check-image.sh")
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[:2] == ["ok  no merge markers", "ok  every module compiles"]
    said = [line.split()[1] for line in result.stdout.splitlines()[2:]]
    assert said == [
        *("av", "torch", "faster_whisper", "whisperspeech", "webdataset", "cuda", "tensorrt_llm")
    ]
    assert host.calls[0].command == ["python3", "-m", "py_compile", f"{host.project}/main.py"]
    host.world["gpus"] = []
    assert "(not imported: no GPU here)" in host.run("check-image.sh").stdout
    host.world["broken"] = ["-m"]
    assert "does not compile" in host.run("check-image.sh").stderr


@pytest.mark.parametrize("module", ["cuda.cudart", "whisperspeech.pipeline", "webdataset"])
def test_an_image_whose_libraries_do_not_import_is_refused(host: Host, module: str) -> None:
    """With cuda-python 13 `import cuda` works, and `import whisperspeech` without its needs."""
    (host.project / "main.py").write_text("pass\n")
    host.world["unimportable"] = [module]
    result = host.run("check-image.sh")
    assert result.returncode == CONFIGURATION
    assert f"ERROR: The Python module {module} cannot be imported" in result.stderr


def test_the_system_s_packages(host: Host) -> None:
    host.add("apt-get")
    host.add("rm")
    assert host.run("setup-whisperfusion.sh", "system").returncode == 0
    update, install, clean = (call.command for call in host.calls)
    assert update == ["apt-get", "update"]
    assert install[:4] == ["apt-get", "install", "--yes", "--no-install-recommends"]
    assert {
        *("ffmpeg", "portaudio19-dev", "libopenmpi-dev", "openmpi-bin", "curl", "git"),
        *("libavcodec-dev", "libavdevice-dev", "libavfilter-dev", "libavformat-dev"),
        *("python3", "python3-dev", "python3-pip"),
    } <= set(install)
    assert clean[:2] == ["rm", "-rf"]


def test_the_converters_come_from_the_commit_of_0_10_0(host: Host) -> None:
    host.add("git")
    result = host.run("setup-whisperfusion.sh", "examples")
    assert result.returncode == 0, result.stderr
    init, remote, sparse, fetch, checkout, check = (call.command for call in host.calls)
    assert init == ["git", "init", "--quiet", str(host.examples.parent)]
    assert remote[-1] == "https://github.com/NVIDIA/TensorRT-LLM.git"
    # What the build scripts run.
    assert sparse[3:] == ["examples/whisper", "examples/phi", "examples/llama"]
    assert fetch[-2:] == ["origin", COMMIT]
    assert checkout == ["git", "checkout", "--quiet", "FETCH_HEAD"]
    assert check == ["git", "rev-parse", "HEAD"]
    host.world["commit"] = "0" * 40
    result = host.run("setup-whisperfusion.sh", "examples")
    assert result.returncode == 1
    assert "ERROR: The examples of TensorRT-LLM did not arrive" in result.stderr


def test_packages_are_installed_in_the_order_that_works(host: Host) -> None:
    host.add("uv")
    result = host.run("setup-whisperfusion.sh", "python", VIRTUAL_ENV="/nowhere")
    assert result.returncode == 0, result.stderr
    pip, venv, torch, av, rest, tensorrt, faster_whisper = (call.command for call in host.calls)
    assert pip[:5] == ["python3", "-m", "pip", "install", "--user"]
    assert pip[-1].endswith("requirements-uv.txt")
    assert venv == ["uv", "venv", "--allow-existing", "--python", "python3", "/nowhere"]
    assert torch[-2:] == ["torch==2.2.2", "torchaudio==2.2.2"]
    assert re.fullmatch(r"av==\d+\.\d+\.\d+", av[-1])
    assert rest[-2] == "--requirements"
    assert tensorrt[-4:] == [
        *("tensorrt-cu12==10.0.1", "tensorrt-cu12-libs==10.0.1"),
        *("tensorrt-cu12-bindings==10.0.1", "tensorrt_llm==0.10.0"),
    ]
    assert "--no-deps" in tensorrt
    assert re.fullmatch(r"faster-whisper==1\.\d+\.\d+", faster_whisper[-1])
    for command in (torch, av, rest, faster_whisper):
        assert command[:3] == ["uv", "pip", "install"]
        assert "--require-hashes" in command
        assert command[command.index("--constraints") + 1].endswith("requirements-gpu.lock")


def test_the_setup_says_which_steps_it_has(host: Host) -> None:
    result = host.run("setup-whisperfusion.sh")
    assert result.returncode == 64
    assert "system | python | examples" in result.stderr
