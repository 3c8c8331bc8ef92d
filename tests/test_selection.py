"""Which library is chosen, on machines of every kind."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fusion import selection
from fusion.command_line import parse
from fusion.errors import ConfigurationError
from fusion.selection import Gpu, Machine, choose, survey
from fusion.settings import Settings

ADA = Gpu("NVIDIA GeForce RTX 4090", (8, 9))
HOPPER = Gpu("NVIDIA H100 80GB HBM3", (9, 0))
BLACKWELL = Gpu("NVIDIA GeForce RTX 5090", (12, 0))
TURING = Gpu("NVIDIA GeForce RTX 2080", (7, 5))
VOLTA = Gpu("Tesla V100", (7, 0))
PASCAL = Gpu("NVIDIA GeForce GTX 1080", (6, 1))

CPU_PACKAGES = frozenset({"faster_whisper", "xllamacpp", "piper"})
TORCH_PACKAGES = CPU_PACKAGES | {"torch", "transformers", "whisperspeech"}
MODERN_PACKAGES = TORCH_PACKAGES | {"vllm"}
ALL_PACKAGES = MODERN_PACKAGES | {"tensorrt_llm", "whisper"}
IMAGE_PACKAGES = ALL_PACKAGES - {"vllm"}

LAPTOP = Machine(None, CPU_PACKAGES)
BARE_GPU = Machine(ADA, CPU_PACKAGES)
TORCH_GPU = Machine(ADA, TORCH_PACKAGES)
MODERN_GPU = Machine(ADA, MODERN_PACKAGES)
IMAGE = Machine(ADA, IMAGE_PACKAGES, frozenset({"whisper", "phi"}))


def libraries(machine: Machine, **settings: Any) -> tuple[str, str, str]:
    choice = choose(Settings(**settings), machine)
    return (
        choice.transcription.library,
        choice.language_model.library,
        choice.voice.library,
    )


ON_CPU = ("faster_whisper", "llama_cpp", "piper")
ON_VLLM = ("faster_whisper", "vllm", "whisperspeech")
ON_IMAGE = ("faster_whisper", "llama_cpp", "whisperspeech")
ON_ENGINES = ("tensorrt_llm", "tensorrt_llm", "whisperspeech")


@pytest.mark.parametrize(
    ("machine", "expected"),
    [
        (LAPTOP, ON_CPU),
        (replace(LAPTOP, packages=ALL_PACKAGES, engines=IMAGE.engines), ON_CPU),
        (BARE_GPU, ON_CPU),
        (MODERN_GPU, ON_VLLM),
        (replace(MODERN_GPU, gpu=BLACKWELL), ON_VLLM),
        (replace(MODERN_GPU, gpu=TURING), ON_VLLM),
        (replace(MODERN_GPU, gpu=VOLTA), ON_IMAGE),
        (TORCH_GPU, ON_IMAGE),
        (IMAGE, ON_ENGINES),
        (replace(IMAGE, gpu=HOPPER), ON_ENGINES),
        (replace(IMAGE, gpu=BLACKWELL, packages=ALL_PACKAGES), ON_VLLM),
        (replace(IMAGE, gpu=PASCAL, packages=ALL_PACKAGES), ON_IMAGE),
        (replace(IMAGE, packages=MODERN_PACKAGES), ON_VLLM),
        (replace(IMAGE, packages=ALL_PACKAGES, engines=frozenset()), ON_VLLM),
        (replace(IMAGE, engines=frozenset()), ON_IMAGE),
        (replace(IMAGE, gpu=BLACKWELL), ON_IMAGE),
        (
            replace(IMAGE, packages=ALL_PACKAGES, engines=frozenset({"whisper"})),
            ("tensorrt_llm", "vllm", "whisperspeech"),
        ),
        (
            replace(IMAGE, engines=frozenset({"whisper"})),
            ("tensorrt_llm", "llama_cpp", "whisperspeech"),
        ),
        (
            replace(IMAGE, engines=frozenset({"mistral"})),
            ("faster_whisper", "tensorrt_llm", "whisperspeech"),
        ),
    ],
)
def test_without_flags_the_best_that_is_there(
    machine: Machine, expected: tuple[str, str, str]
) -> None:
    assert libraries(machine) == expected


@pytest.mark.parametrize(
    ("machine", "settings", "expected"),
    [
        (IMAGE, {"stt_backend": "faster_whisper"}, ("faster_whisper", *ON_ENGINES[1:])),
        (IMAGE, {"llm_backend": "llama_cpp"}, ("tensorrt_llm", "llama_cpp", "whisperspeech")),
        (IMAGE, {"tts_backend": "piper"}, (*ON_ENGINES[:2], "piper")),
        (LAPTOP, {"openai_url": "http://host:8000/v1"}, ("faster_whisper", "openai_api", "piper")),
        (
            IMAGE,
            {"openai_url": "http://host:8000/v1"},
            (ON_ENGINES[0], "openai_api", ON_ENGINES[2]),
        ),
        (IMAGE, {"openai_url": "http://host:8000/v1", "phi": True}, ON_ENGINES),
        (LAPTOP, {"llm_backend": "llama_cpp", "openai_url": "http://host/v1"}, ON_CPU),
        (IMAGE, {"llm_backend": "tensorrt_llm", "stt_backend": "tensorrt_llm"}, ON_ENGINES),
        (IMAGE, {"phi": True, "llm_backend": "tensorrt_llm"}, ON_ENGINES),
    ],
)
def test_a_flag_wins(
    machine: Machine, settings: dict[str, Any], expected: tuple[str, str, str]
) -> None:
    assert libraries(machine, **settings) == expected


def test_what_the_image_starts_with_can_be_gone_round() -> None:
    """With flags after its own, as docs/gpu.md says."""
    own = ["--stt_backend", "tensorrt_llm", "--phi", "--phi_tensorrt_path", "/models/phi"]
    around = ["--stt_backend", "faster_whisper", "--no-phi", "--llm_backend", "llama_cpp"]
    settings = parse([*own, *around, "--tts_backend", "piper"])
    choice = choose(settings, IMAGE)
    found = (choice.transcription, choice.language_model, choice.voice)
    assert tuple(pick.library for pick in found) == ON_CPU


@pytest.mark.parametrize(
    ("machine", "settings", "sentence"),
    [
        (
            TORCH_GPU,
            {"phi": True, "phi_tensorrt_path": "/models/phi"},
            "There is no TensorRT-LLM engine in /models/phi; build it with "
            "docker/scripts/build-phi.sh or name its folder with --phi_tensorrt_path.",
        ),
        (IMAGE, {"mistral": True}, "--mistral_tensorrt_path"),
        (IMAGE, {"phi": True, "mistral": True}, "exclude each other"),
        (IMAGE, {"phi": True, "llm_backend": "llama_cpp"}, "give one of them"),
        (
            LAPTOP,
            {"whisper_tensorrt_path": "/models/small"},
            "no TensorRT-LLM engine in /models/sm",
        ),
        (LAPTOP, {"stt_backend": "tensorrt_llm"}, "build-whisper.sh"),
        (replace(IMAGE, gpu=None), {"phi": True}, "cannot run here, as no GPU was found"),
        (
            replace(IMAGE, gpu=BLACKWELL),
            {"phi": True},
            "does not know the newer NVIDIA GeForce RTX",
        ),
        (
            replace(IMAGE, gpu=PASCAL),
            {"phi": True},
            "does not know the older NVIDIA GeForce GTX 1080",
        ),
        (replace(IMAGE, packages=TORCH_PACKAGES), {"phi": True}, "package tensorrt_llm is not in"),
        (IMAGE, {"llm_backend": "vllm"}, "vllm cannot run here, as vLLM is not installed: leave"),
        (
            replace(MODERN_GPU, gpu=VOLTA),
            {"llm_backend": "vllm"},
            "as vLLM does not know the older Tesla V100",
        ),
        (LAPTOP, {"tts_backend": "whisperspeech"}, "needs the package torch, which is not"),
        (
            replace(LAPTOP, packages=CPU_PACKAGES - {"piper"}),
            {},
            "No voice is installed: install Piper with `pip install 'whisperfusion[piper]'`",
        ),
        (
            LAPTOP,
            {"llm_backend": "vllm"},
            "--llm_backend vllm cannot run here, as no GPU was found",
        ),
    ],
)
def test_what_cannot_be_had_is_one_sentence(
    machine: Machine, settings: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ConfigurationError) as error:
        choose(Settings(**settings), machine)
    assert sentence in str(error.value)
    assert str(error.value).endswith(".")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("machine", "settings", "lines"),
    [
        (
            LAPTOP,
            {},
            [
                "transcription: faster_whisper with tiny.en on the CPU, as no GPU was found",
                "language model: llama_cpp with the best model that is fast enough on the CPU, "
                "as no GPU was found",
                "voice: piper with en_US-joe-medium on the CPU, as no GPU was found",
            ],
        ),
        (
            BARE_GPU,
            {},
            [
                "transcription: faster_whisper with tiny.en on the NVIDIA GeForce RTX 4090",
                "language model: llama_cpp with the best model that is fast enough on the CPU, "
                "as vLLM is not installed",
                "voice: piper with en_US-joe-medium on the CPU, as WhisperSpeech is not installed",
            ],
        ),
        (
            IMAGE,
            {"phi": True, "phi_tensorrt_path": "/models/phi", "tts_backend": "piper"},
            [
                "transcription: tensorrt_llm with the engine in "
                f"{Settings().whisper_tensorrt_path}, as its engines are there",
                "language model: tensorrt_llm with the engine in /models/phi, as --phi says",
                "voice: piper with en_US-joe-medium as --tts_backend says",
            ],
        ),
        (
            replace(IMAGE, gpu=BLACKWELL, packages=ALL_PACKAGES),
            {},
            [
                "transcription: faster_whisper with tiny.en on the NVIDIA GeForce RTX 5090; its "
                "TensorRT-LLM engine is left alone, as TensorRT-LLM 0.10 does not know the newer "
                "NVIDIA GeForce RTX 5090",
                "language model: vllm with the largest model that there is room for on the NVIDIA "
                "GeForce RTX 5090; its TensorRT-LLM engine is left alone, as TensorRT-LLM 0.10 "
                "does not know the newer NVIDIA GeForce RTX 5090",
                "voice: whisperspeech on the NVIDIA GeForce RTX 5090",
            ],
        ),
        (
            replace(BARE_GPU, engines=IMAGE.engines),
            {},
            [
                "transcription: faster_whisper with tiny.en on the NVIDIA GeForce RTX 4090; its "
                "TensorRT-LLM engine is left alone, as the package tensorrt_llm is not installed",
                "language model: llama_cpp with the best model that is fast enough on the CPU, as "
                "vLLM is not installed; its TensorRT-LLM engine is left alone, as the "
                "package tensorrt_llm is not installed",
                "voice: piper with en_US-joe-medium on the CPU, as WhisperSpeech is not installed",
            ],
        ),
    ],
)
def test_each_service_says_what_it_took_and_why(
    machine: Machine, settings: dict[str, Any], lines: list[str]
) -> None:
    assert choose(Settings(**settings), machine).lines(Settings(**settings)) == lines


def test_every_library_of_the_settings_has_its_module_and_packages() -> None:
    tables = {
        "stt_backend": selection.TRANSCRIBERS,
        "llm_backend": selection.LANGUAGE_MODELS,
        "tts_backend": selection.VOICES,
    }
    fields = Settings.__dataclass_fields__
    for setting, table in tables.items():
        assert {"auto", *table} == set(fields[setting].metadata["choices"])
        for library, module in table.items():
            assert module.endswith(f".{library}")
            assert module in selection.PACKAGES
            assert importlib.util.find_spec(module), f"{module} is not there"


def test_the_survey_finds_engines_where_the_settings_say(tmp_path: Path) -> None:
    (tmp_path / "whisper").mkdir()
    (tmp_path / "whisper" / "encoder_config.json").write_text("{}")
    (tmp_path / "phi").mkdir()
    (tmp_path / "phi" / "config.json").write_text("{}")
    settings = Settings(
        whisper_tensorrt_path=str(tmp_path / "whisper"),
        phi_tensorrt_path=str(tmp_path / "phi"),
        mistral_tensorrt_path=str(tmp_path / "mistral"),
    )
    assert survey(settings).engines == {"whisper", "phi"}


def test_the_survey_sees_what_is_installed_here() -> None:
    found = survey(Settings()).packages
    for package in {name for packages in selection.PACKAGES.values() for name in packages}:
        assert (package in found) is (importlib.util.find_spec(package) is not None)


@pytest.mark.parametrize("error", [ImportError("no name 'cudart'"), OSError("libmpi.so")])
def test_a_library_that_is_broken_is_one_sentence(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(name: str) -> None:
        assert name == "language_models.tensorrt_llm"
        raise error

    monkeypatch.setattr(selection.importlib, "import_module", broken)
    with pytest.raises(ConfigurationError) as caught:
        selection.module(selection.LANGUAGE_MODELS, selection.Pick("tensorrt_llm", "here"))
    assert str(error) in str(caught.value)
    assert "llama_cpp" in str(caught.value)
    assert "\n" not in str(caught.value)


class Driver:
    """A CUDA driver with one device, as ctypes calls it."""

    def __init__(self, devices: int = 1, state: int = 0) -> None:
        self.devices, self.state = devices, state

    def cuInit(self, flags: int) -> int:  # noqa: N802
        return self.state

    def cuDeviceGetCount(self, count: Any) -> int:  # noqa: N802
        count._obj.value = self.devices
        return 0

    def cuDeviceGet(self, device: Any, ordinal: int) -> int:  # noqa: N802
        return 0

    def cuDeviceGetName(self, name: Any, size: int, device: Any) -> int:  # noqa: N802
        name.value = b"NVIDIA H100"
        return 0

    def cuDeviceGetAttribute(self, value: Any, attribute: int, device: Any) -> int:  # noqa: N802
        value._obj.value = {75: 9, 76: 0}[attribute]
        return 0

    def cuDeviceTotalMem_v2(self, size: Any, device: Any) -> int:  # noqa: N802
        size._obj.value = 80 * 2**30
        return 0


@pytest.mark.parametrize(
    ("driver", "expected"),
    [
        (Driver(), Gpu("NVIDIA H100", (9, 0), 80.0)),
        (Driver(devices=0), None),
        (Driver(state=100), None),
    ],
)
def test_the_driver_is_asked(
    driver: Driver, expected: Gpu | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(selection.ctypes, "CDLL", lambda name: driver)
    assert selection.first_gpu() == expected


def test_without_a_driver_there_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(selection.ctypes, "CDLL", missing)
    assert selection.first_gpu() is None


def test_a_missing_system_library_is_named_with_its_package(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def missing(name: str) -> None:
        raise ImportError("libgomp.so.1: cannot open shared object file: No such file or directory")

    monkeypatch.setattr(selection.importlib, "import_module", missing)
    with pytest.raises(ConfigurationError, match=r"^llama_cpp needs .+`apt-get install libgomp1`"):
        selection.module(selection.LANGUAGE_MODELS, selection.Pick("llama_cpp", ""))


def test_choosing_imports_no_model_library() -> None:
    code = (
        "import sys; from fusion.selection import *; from fusion.settings import Settings; "
        "choose(Settings(), survey(Settings())); "
        "print(sorted({'torch', 'numpy', 'transformers', 'faster_whisper', 'ctranslate2', 'piper', "
        "'xllamacpp', 'whisper', 'language_models', 'voices', 'whisper_live'} & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert result.stdout.strip() == "[]"
