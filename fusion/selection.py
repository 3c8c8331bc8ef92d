"""Which library does each job: what the settings name, else the best that this machine has.

`survey` finds out what there is, `choose` decides, and neither imports a model: each service
imports the one module that was chosen, as `module(VOICES, pick).load(settings)`.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

from fusion.errors import ConfigurationError
from fusion.model_servers import ModelServer
from fusion.setting_field import AUTO
from fusion.settings import Settings

TRANSCRIBERS = {
    "faster_whisper": "whisper_live.transcribers.faster_whisper",
    "tensorrt_llm": "whisper_live.transcribers.tensorrt_llm",
}
LANGUAGE_MODELS = {
    "llama_cpp": "language_models.llama_cpp",
    "tensorrt_llm": "language_models.tensorrt_llm",
    "vllm": "language_models.vllm",
    "openai_api": "language_models.openai_api",
}
VOICES = {
    "piper": "voices.piper",
    "kokoro": "voices.kokoro",
    "whisperspeech": "voices.whisperspeech",
}

PACKAGES = {
    "whisper_live.transcribers.faster_whisper": ("faster_whisper",),
    "whisper_live.transcribers.tensorrt_llm": ("tensorrt_llm", "torch", "whisper"),
    "language_models.llama_cpp": ("xllamacpp",),
    "language_models.tensorrt_llm": ("tensorrt_llm", "transformers"),
    "language_models.vllm": ("vllm",),
    "language_models.openai_api": (),
    "voices.piper": ("piper",),
    "voices.kokoro": ("kokoro_onnx",),
    "voices.whisperspeech": ("torch", "whisperspeech"),
}
"""What must be installed for each module."""

MODEL_SETTINGS = {
    "faster_whisper": "whisper_model",
    "llama_cpp": "llm",
    "vllm": "vllm_model",
    "piper": "voice",
}
"""The setting that names the model, for the libraries that have one."""

AUTOMATIC_MODEL = {
    "llama_cpp": "the best model that is fast enough",
    "vllm": "the largest model that there is room for",
}

OLDEST_FOR_TENSORRT_LLM = (7, 0)
NEWEST_FOR_TENSORRT_LLM = (9, 0)
"""Compute capability of Volta and Hopper: TensorRT-LLM 0.10.0 knows no older and no newer GPU."""

OLDEST_FOR_VLLM = (7, 5)
"""Turing."""

Engine = Literal["whisper", "phi", "mistral"]


@dataclass(frozen=True)
class Gpu:
    """The first CUDA device: its compute capability, as (8, 9) for Ada, and memory in GiB."""

    name: str
    capability: tuple[int, int]
    memory: float = 0.0


@dataclass(frozen=True)
class Machine:
    """What the choice depends on."""

    gpu: Gpu | None = None
    packages: frozenset[str] = frozenset()
    engines: frozenset[Engine] = frozenset()
    server: ModelServer | None = None
    """A language model server that runs here already; see `discoverable`."""


@dataclass(frozen=True)
class Pick:
    """One library and, in a few words, where it runs and why."""

    library: str
    reason: str


@dataclass(frozen=True)
class Choice:
    """A library for each of the three services."""

    transcription: Pick
    language_model: Pick
    voice: Pick

    def lines(self, settings: Settings) -> list[str]:
        """One line for each service, for a person: what was chosen, and why."""
        found = []
        for service in fields(self):
            pick: Pick = getattr(self, service.name)
            model = model_name(pick, settings)
            if model == AUTO:
                model = AUTOMATIC_MODEL[pick.library]
            what = f"{pick.library} with {model}" if model else pick.library
            found.append(f"{service.name.replace('_', ' ')}: {what} {pick.reason}")
        return found


def model_name(pick: Pick, settings: Settings) -> str:
    """The model that the settings name for a library; "" where its reason names it."""
    return getattr(settings, MODEL_SETTINGS[pick.library]) if pick.library in MODEL_SETTINGS else ""


def survey(settings: Settings) -> Machine:
    """Look at this machine. Imports no package and makes no CUDA context."""
    wanted = {package for packages in PACKAGES.values() for package in packages}
    return Machine(
        gpu=first_gpu(),
        packages=frozenset(filter(is_installed, wanted)),
        engines=engines_present(settings),
    )


def is_installed(package: str) -> bool:
    """Whether a package can be imported."""
    return importlib.util.find_spec(package) is not None


def engines_present(settings: Settings) -> frozenset[Engine]:
    """Which TensorRT-LLM engines are where the settings say."""
    files: dict[Engine, Path] = {
        "whisper": Path(settings.whisper_tensorrt_path, "encoder_config.json"),
        "phi": Path(settings.phi_tensorrt_path, "config.json"),
        "mistral": Path(settings.mistral_tensorrt_path, "config.json"),
    }
    # An unreadable folder (another user's home, say) holds no engine for us.
    return frozenset(name for name, file in files.items() if os.access(file, os.R_OK))


def discoverable(settings: Settings, machine: Machine) -> bool:
    """Whether a language model server that runs here would be taken: nothing else was named."""
    named = settings.phi or settings.mistral or settings.openai_url
    defaults = (settings.llm, settings.llm_backend) == (AUTO, AUTO)
    defaults = defaults and settings.vllm_model == Settings.vllm_model
    engine = language_engine(settings, machine.engines)
    built = engine in machine.engines and not _tensorrt_obstacle(LANGUAGE_MODELS, machine)
    return settings.discover and defaults and not named and not built


def with_server(settings: Settings, choice: Choice, machine: Machine) -> Settings:
    """The settings with the address of the server that was found, and a model, if it was chosen."""
    server = machine.server
    if server is None or not server.model or choice.language_model.library != "openai_api":
        return settings
    model = settings.openai_model or server.model
    return replace(settings, openai_url=server.url, openai_model=model)


def language_engine(settings: Settings, engines: frozenset[Engine]) -> Engine:
    """The engine that `--phi` or `--mistral` names, else the one that is there, Phi first."""
    if settings.phi and settings.mistral:
        raise ConfigurationError("--phi and --mistral exclude each other: give one of them.")
    if settings.phi or settings.mistral:
        return "phi" if settings.phi else "mistral"
    return "mistral" if "mistral" in engines and "phi" not in engines else "phi"


def choose(settings: Settings, machine: Machine) -> Choice:
    """Decide. Raises ConfigurationError when what was asked for is not there."""
    return Choice(
        transcription=_transcription(settings, machine),
        language_model=_language_model(settings, machine),
        voice=_voice(settings, machine),
    )


def module(table: dict[str, str], pick: Pick) -> Any:
    """Import what was chosen. Raises ConfigurationError when its library is there but broken."""
    try:
        return importlib.import_module(table[pick.library])
    except (ImportError, OSError, RuntimeError) as error:  # the latter two: its native libraries
        reason = " ".join(str(error).split())
        if reason.startswith("libgomp.so.1:"):  # which Linux mostly has, but not in small images
            raise ConfigurationError(
                f"{pick.library} needs the system's OpenMP library, libgomp.so.1: install the "
                "package that has it (on Debian and Ubuntu `apt-get install libgomp1`)."
            ) from error
        raise ConfigurationError(
            f"{pick.library} is installed but cannot be imported ({reason}): install it again, or "
            f"choose another one of {', '.join(sorted(table))} by flag."
        ) from error


def _transcription(settings: Settings, machine: Machine) -> Pick:
    if settings.stt_backend == "tensorrt_llm":
        return _tensorrt(settings, machine, "whisper", "as --stt_backend says")
    if settings.stt_backend != AUTO:
        return _named(TRANSCRIBERS, settings.stt_backend, machine, "--stt_backend")
    if settings.whisper_tensorrt_path != Settings.whisper_tensorrt_path:
        return _tensorrt(settings, machine, "whisper", "as --whisper_tensorrt_path says")
    if "whisper" in machine.engines and not _tensorrt_obstacle(TRANSCRIBERS, machine):
        return _tensorrt(settings, machine, "whisper", "as its engines are there")
    return Pick("faster_whisper", _place(machine) + _passed_over("whisper", machine))


def _language_model(settings: Settings, machine: Machine) -> Pick:
    engine = language_engine(settings, machine.engines)
    asked = settings.phi or settings.mistral
    if asked and settings.llm_backend not in (AUTO, "tensorrt_llm"):
        raise ConfigurationError(
            f"--{engine} asks for a TensorRT-LLM engine and --llm_backend for "
            f"{settings.llm_backend}: give one of them."
        )
    if asked:
        return _tensorrt(settings, machine, engine, f"as --{engine} says")
    if settings.llm_backend == "tensorrt_llm":
        return _tensorrt(settings, machine, engine, "as --llm_backend says")
    if settings.llm_backend == "vllm" and (obstacle := _vllm_obstacle(machine)):
        raise ConfigurationError(
            f"--llm_backend vllm cannot run here, as {obstacle}: leave it out to take what this "
            "machine has."
        )
    if settings.llm_backend != AUTO:
        return _named(LANGUAGE_MODELS, settings.llm_backend, machine, "--llm_backend")
    if settings.openai_url:
        return Pick("openai_api", f"at {settings.openai_url}, as --openai_url says")
    server = machine.server if discoverable(settings, machine) else None
    if server is not None and server.model:
        return Pick(
            "openai_api",
            f"with {settings.openai_model or server.model} at {server.url}, as {server.product} "
            "runs here (--no-discover leaves it alone)",
        )
    if engine in machine.engines and not _tensorrt_obstacle(LANGUAGE_MODELS, machine):
        return _tensorrt(settings, machine, engine, "as its engine is there")
    obstacle = _vllm_obstacle(machine)
    if not obstacle:
        return Pick("vllm", _place(machine) + _passed_over(engine, machine))
    reason = f"on the CPU, as {obstacle}" + _passed_over(engine, machine)
    if server is not None:
        reason += f"; {server.product} at {server.url} has no model that chats"
    return Pick("llama_cpp", reason)


def _voice(settings: Settings, machine: Machine) -> Pick:
    if settings.tts_backend != AUTO:
        return _named(VOICES, settings.tts_backend, machine, "--tts_backend")
    if settings.voice != Settings.voice and not _missing(VOICES["piper"], machine):
        return Pick("piper", "as --voice says")
    if machine.gpu and not _missing(VOICES["whisperspeech"], machine):
        return Pick("whisperspeech", _place(machine))
    if _missing(VOICES["piper"], machine):
        raise ConfigurationError(
            "No voice is installed: install Piper with `pip install 'whisperfusion[piper]'` (in a "
            "checkout `make run` does it), or choose another one by --tts_backend."
        )
    return Pick("piper", _cpu_reason(machine, "WhisperSpeech is not installed"))


def _named(table: dict[str, str], library: str, machine: Machine, flag: str) -> Pick:
    if missing := _missing(table[library], machine):
        raise ConfigurationError(
            f"{flag} {library} needs the package {missing[0]}, which is not installed; "
            "install it or choose another library."
        )
    return Pick(library, f"as {flag} says")


def _tensorrt(settings: Settings, machine: Machine, engine: Engine, why: str) -> Pick:
    """TensorRT-LLM with one engine, or ConfigurationError if it cannot run here."""
    path = getattr(settings, f"{engine}_tensorrt_path")
    if engine not in machine.engines:
        raise ConfigurationError(
            f"There is no TensorRT-LLM engine in {path}; build it with "
            f"docker/scripts/build-{engine}.sh or name its folder with --{engine}_tensorrt_path."
        )
    table = TRANSCRIBERS if engine == "whisper" else LANGUAGE_MODELS
    if obstacle := _tensorrt_obstacle(table, machine):
        raise ConfigurationError(
            f"The TensorRT-LLM engine in {path} cannot run here, as {obstacle}; "
            "leave out the flag that asks for it to take what this machine has."
        )
    return Pick("tensorrt_llm", f"with the engine in {path}, {why}")


def _passed_over(engine: Engine, machine: Machine) -> str:
    """Why an engine that is there was not taken, to be said with what was taken instead."""
    if engine not in machine.engines or machine.gpu is None:
        return ""
    table = TRANSCRIBERS if engine == "whisper" else LANGUAGE_MODELS
    return f"; its TensorRT-LLM engine is left alone, as {_tensorrt_obstacle(table, machine)}"


def _tensorrt_obstacle(table: dict[str, str], machine: Machine) -> str:
    """What keeps TensorRT-LLM 0.10.0 from running here; empty if nothing does."""
    if machine.gpu is None:
        return "no GPU was found"
    if machine.gpu.capability < OLDEST_FOR_TENSORRT_LLM:
        return f"TensorRT-LLM 0.10 does not know the older {machine.gpu.name}"
    if machine.gpu.capability > NEWEST_FOR_TENSORRT_LLM:
        return f"TensorRT-LLM 0.10 does not know the newer {machine.gpu.name}"
    if missing := _missing(table["tensorrt_llm"], machine):
        return f"the package {missing[0]} is not installed"
    return ""


def _vllm_obstacle(machine: Machine) -> str:
    """What keeps vLLM from running here; empty if nothing does."""
    if machine.gpu is None:
        return "no GPU was found"
    if machine.gpu.capability < OLDEST_FOR_VLLM:
        return f"vLLM does not know the older {machine.gpu.name}"
    if _missing(LANGUAGE_MODELS["vllm"], machine):
        return "vLLM is not installed"
    return ""


def _missing(module: str, machine: Machine) -> list[str]:
    return [name for name in PACKAGES[module] if name not in machine.packages]


def _place(machine: Machine) -> str:
    return f"on the {machine.gpu.name}" if machine.gpu else "on the CPU, as no GPU was found"


def _cpu_reason(machine: Machine, lacking: str) -> str:
    return f"on the CPU, as {lacking if machine.gpu else 'no GPU was found'}"


def first_gpu() -> Gpu | None:
    """Ask the CUDA driver, without PyTorch and within milliseconds where there is none.

    The numbers are of the driver's interface: attributes 75 and 76 are the two parts of the
    compute capability.
    """
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None
    count, device = ctypes.c_int(), ctypes.c_int()
    if cuda.cuInit(0) or cuda.cuDeviceGetCount(ctypes.byref(count)) or not count.value:
        return None
    name, major, minor = ctypes.create_string_buffer(256), ctypes.c_int(), ctypes.c_int()
    size = ctypes.c_size_t()
    if (
        cuda.cuDeviceGet(ctypes.byref(device), 0)
        or cuda.cuDeviceGetName(name, len(name), device)
        or cuda.cuDeviceGetAttribute(ctypes.byref(major), 75, device)
        or cuda.cuDeviceGetAttribute(ctypes.byref(minor), 76, device)
        or cuda.cuDeviceTotalMem_v2(ctypes.byref(size), device)
    ):
        return None
    capability, memory = (major.value, minor.value), size.value / 2**30
    return Gpu(name.value.decode(errors="replace"), capability, memory)
