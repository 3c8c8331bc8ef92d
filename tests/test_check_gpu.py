"""The check list for a GPU host: what it runs, and what it says when something is wrong."""

from __future__ import annotations

import dataclasses
import re
import shlex
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from docker import check_models
from fusion.errors import ModelError
from fusion.settings import Settings
from fusion.tools import Tool
from language_models.base import Cancellation, ChatMessage, GenerationRequest
from voices import piper
from whisper_live.transcribers import faster_whisper
from whisper_live.transcribers.base import Transcript, TranscriptionRequest

SCRIPT = Path(__file__).resolve().parent.parent / "docker" / "check-gpu.sh"

STAND_IN = """#!/bin/sh
printf '%s\\n' "{name}" "$@" END >>"{root}/calls"
case "{name} $*" in
{world}
esac
"""

LINES = (
    "Docker answers",
    "WhisperFusion is not running",
    "TensorRT-LLM 0.10.0 knows this GPU",
    "containers see the GPU",
    "every library of the image imports",
    "the engines are built",
    "the voice speaks",
    "Whisper understands the voice, alone and in a batch",
    "Phi-3-mini-4k-instruct answers, together with others and after a cancel",
    "the server is ready",
    "a spoken question is answered aloud, twice",
    "the three models leave GPU memory free",
)


class GpuHost:
    """A machine on which docker, nvidia-smi and curl are stand-ins.

    `world` lists what they answer: words of the call, exit status and output; the first that fits
    counts. What fails writes to its standard error.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.world: list[tuple[str, int, str]] = [
            ("compute_cap", 0, "8.9, 550.54.14, NVIDIA GeForce RTX 4090"),
            ("memory.used", 0, "15000, 24564"),
            ("compose ps", 0, ""),
            ("docker", 0, "fine"),
            ("curl", 0, "ok"),
        ]

    def answers(self, words: str, status: int = 0, output: str = "") -> None:
        self.world.insert(0, (words, status, output))

    def run(self, **environment: str) -> tuple[int, list[str]]:
        (self.root / "calls").write_text("")
        self._write_stand_ins()
        result = subprocess.run(
            [SCRIPT],
            env={
                "PATH": f"{self.root / 'bin'}:/usr/bin:/bin",
                "CHECK_LOG": str(self.root / "log"),
                "CHECK_STARTUP_SECONDS": "1",
                **environment,
            },
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert not result.stderr
        return result.returncode, result.stdout.splitlines()

    @property
    def calls(self) -> list[list[str]]:
        text = (self.root / "calls").read_text()
        return [call.splitlines() for call in text.split("END\n")[:-1]]

    def _write_stand_ins(self) -> None:
        cases = [
            f"*{shlex.quote(words)}*) printf '%s\\n' {shlex.quote(output)}"
            f"{' >&2' if status else ''}; exit {status};;"
            for words, status, output in self.world
        ]
        folder = self.root / "bin"
        folder.mkdir()
        for name in ("docker", "nvidia-smi", "curl"):
            (folder / name).write_text(
                STAND_IN.format(name=name, root=self.root, world="\n".join(cases))
            )
            (folder / name).chmod(0o755)

    @property
    def log(self) -> str:
        return (self.root / "log").read_text()


@pytest.fixture
def host(tmp_path: Path) -> GpuHost:
    return GpuHost(tmp_path)


def marks(lines: list[str]) -> dict[str, str]:
    """For each line of the list what it says in front: pass, FAIL or not run."""
    found = {}
    for what in LINES:
        (line,) = [line for line in lines if line[9:].startswith(what)]
        found[what] = line[:9].strip()
    return found


def test_on_a_good_host_every_line_passes(host: GpuHost) -> None:
    status, lines = host.run()
    assert status == 0
    assert set(marks(lines).values()) == {"pass"}
    assert lines[-1] == "All lines passed."
    assert "pass     the three models leave GPU memory free: 15000 of 24564 MiB" in "\n".join(lines)


def test_models_are_checked_in_the_image_with_its_engines(host: GpuHost) -> None:
    host.run()
    checks = [call for call in host.calls if "docker.check_models" in call]
    assert [call[call.index("docker.check_models") + 1] for call in checks] == [
        "voice",
        "transcription",
        "language_model",
    ]
    for call in checks:
        at = call.index("whisperfusion")
        assert call[:at] == [
            *("docker", "compose", "run", "--rm", "--no-deps", "--no-TTY"),
            *("--entrypoint", "python3"),
        ]
        settings = check_models.parse(call[at + 4 :])
        assert (settings.stt_backend, settings.phi) == ("tensorrt_llm", True)
        assert settings.phi_tensorrt_path == "/root/scratch-space/models/Phi-3-mini-4k-instruct"
        assert settings.phi_tokenizer_path == f"{settings.phi_tensorrt_path}/tokenizer"


@pytest.mark.parametrize(("model", "kind"), [("mistral", "mistral"), ("phi-2", "phi")])
def test_the_model_of_the_environment_is_checked(host: GpuHost, model: str, kind: str) -> None:
    host.run(MODEL=model)
    call = next(call for call in host.calls if "language_model" in call)
    settings = check_models.parse(call[call.index("language_model") + 1 :])
    assert (settings.phi, settings.mistral) == (kind == "phi", kind == "mistral")
    folder = f"/root/scratch-space/models/{model}"
    assert getattr(settings, f"{kind}_tensorrt_path") == folder
    assert getattr(settings, f"{kind}_tokenizer_path") == f"{folder}/tokenizer"
    assert kind == "mistral" or settings.phi_model_type == model


@pytest.mark.parametrize(
    ("words", "line", "later"),
    [
        ("docker compose version", 0, "not run"),
        ("compose ps", 1, "not run"),
        ("compute_cap", 2, "not run"),
        ("--entrypoint nvidia-smi", 3, "not run"),
        ("check-image.sh", 4, "not run"),
        ("build-models.sh", 5, "not run"),
        ("check_models voice", 6, "pass"),
        ("check_models transcription", 7, "pass"),
        ("check_models language_model", 8, "pass"),
        ("compose up", 9, "not run"),
        ("whisper_live.client.demo", 10, "pass"),
    ],
)
def test_a_failure_is_told_with_its_reason(
    host: GpuHost, words: str, line: int, later: str
) -> None:
    host.answers(words, status=1, output="some detail\nthe reason\n")
    status, lines = host.run()
    found = list(marks(lines).values())
    assert status == 1
    assert found == ["pass"] * line + ["FAIL"] + [later] * (len(LINES) - line - 1)
    assert f"FAIL     {LINES[line]}: " in "\n".join(lines)
    if words != "compute_cap":
        assert f"FAIL     {LINES[line]}: the reason" in lines
        assert "some detail" in host.log


@pytest.mark.parametrize(
    ("gpu", "mark"),
    [
        ("6.1, 550.54, NVIDIA GeForce GTX 1080", "FAIL"),
        ("7.0, 550.54, Tesla V100", "pass"),
        ("9.0, 550.54, NVIDIA H100", "pass"),
        ("12.0, 570.86, NVIDIA GeForce RTX 5090", "FAIL"),
    ],
)
def test_only_a_gpu_that_the_engines_know_passes(host: GpuHost, gpu: str, mark: str) -> None:
    host.answers("compute_cap", output=gpu)
    _, lines = host.run()
    assert marks(lines)[LINES[2]] == mark
    assert gpu in "\n".join(lines)


def test_a_running_server_would_share_the_memory(host: GpuHost) -> None:
    host.answers("compose ps", output="0123abcd")
    status, lines = host.run()
    assert status == 1
    assert marks(lines)[LINES[1]] == "FAIL"
    assert not any("check_models" in " ".join(call) for call in host.calls)


def test_a_server_that_never_gets_ready_is_a_failure_and_is_stopped(host: GpuHost) -> None:
    host.answers("curl", status=22, output="curl: (22) The requested URL returned error: 503")
    _, lines = host.run()
    assert marks(lines)[LINES[9]] == "FAIL"
    assert any("not ready after 1 s" in line for line in lines)
    assert host.calls[-1] == ["docker", "compose", "stop", "whisperfusion"]


def test_too_little_memory_left_is_a_failure(host: GpuHost) -> None:
    host.answers("memory.used", output="24000, 24564")
    status, lines = host.run()
    assert status == 1
    assert marks(lines)[LINES[11]] == "FAIL"


# -- what each model is asked ---------------------------------------------------------------------


class ScriptedModel:
    """A language model that always says the same, word by word."""

    name = "scripted"
    max_concurrent = 4
    takes_tools = False

    def __init__(self, reply: str = "Red, green and blue.", *, heeds_cancellation: bool = True):
        self.replies = iter([reply] * 6)
        self.heeds_cancellation = heeds_cancellation
        self.cancelled = 0

    def warm_up(self) -> None: ...

    def close(self) -> None: ...

    def count_tokens(self, messages: Sequence[ChatMessage], tools: Sequence[Tool] = ()) -> int:
        return 1

    def prefill(
        self,
        messages: Sequence[ChatMessage],
        cancellation: Cancellation,
        tools: Sequence[Tool] = (),
    ) -> None: ...

    def stream(self, request: GenerationRequest, cancellation: Cancellation) -> Iterator[str]:
        for word in next(self.replies, "").split(" "):
            yield f"{word} "
            time.sleep(0.02)
            if cancellation.requested:
                self.cancelled += 1
                if self.heeds_cancellation:
                    return
                time.sleep(1.1)


def test_a_good_language_model_passes_with_its_figures() -> None:
    model = ScriptedModel("Red and green and blue are three of them.")
    model.replies = iter(["Red and green and blue are three of them."] * 7)
    facts = list(check_models.check_language_model(model))
    assert facts[0].startswith("scripted: first words after 0.")
    assert facts[2].startswith("4 replies together in")
    assert facts[3].startswith("a cancelled reply ended after 0.")
    assert model.cancelled == 1


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (ScriptedModel(""), "answered"),
        (ScriptedModel("Red, green and blue.<|end|>"), "answered"),
        (ScriptedModel("Red and green and blue.", heeds_cancellation=False), "to stop when it was"),
    ],
)
def test_a_bad_language_model_fails(model: ScriptedModel, reason: str) -> None:
    with pytest.raises(ModelError, match=reason):
        list(check_models.check_language_model(model))


def test_a_model_that_leaves_one_of_several_replies_empty_fails() -> None:
    model = ScriptedModel()
    reply = "Red, green and blue."
    model.replies = iter([reply, reply, "", reply, reply, reply, reply])
    with pytest.raises(ModelError, match="left one of 4 replies empty"):
        list(check_models.check_language_model(model))


def test_a_model_that_is_dead_after_a_cancel_fails() -> None:
    model = ScriptedModel("Red and green and blue.")
    answered = model.stream
    calls = 0

    def stream(request: GenerationRequest, cancellation: Cancellation) -> Iterator[str]:
        nonlocal calls
        calls += 1
        return answered(request, cancellation) if calls < 7 else iter(())

    model.stream = stream  # type: ignore[method-assign]
    with pytest.raises(ModelError, match="any more after a cancelled reply"):
        list(check_models.check_language_model(model))


class ScriptedTranscriber:
    """Hears what `hears` says for a batch of so many; the question, where it is silent."""

    name = "scripted"
    languages = frozenset({"en"})
    max_batch = 4

    def __init__(self, hears: Callable[[int], str], *, mixes_up: bool = False) -> None:
        self.hears = hears
        self.mixes_up = mixes_up

    def warm_up(self) -> None: ...

    def close(self) -> None: ...

    def prepare(self, language: str | None) -> None:
        pass

    def transcribe(
        self,
        requests: Sequence[TranscriptionRequest],
        cancelled: Callable[[], bool] = lambda: False,
    ) -> list[Transcript]:
        texts = [self.hears(len(requests)) if each.audio.any() else "What?" for each in requests]
        return [Transcript(text, "en") for text in (texts[::-1] if self.mixes_up else texts)]


SPOKEN, SILENCE = np.ones(16000, np.float32), np.zeros(16000, np.float32)


@pytest.mark.parametrize(
    ("transcriber", "reason"),
    [
        (ScriptedTranscriber(lambda batch: "Something altogether."), "wrote 'Something"),
        (
            ScriptedTranscriber(lambda batch: check_models.SENTENCE if batch == 1 else "Mixed."),
            "wrote 'Mixed.' in a batch",
        ),
        (
            ScriptedTranscriber(lambda batch: check_models.SENTENCE, mixes_up=True),
            r"wrote 'What\?' in a batch",
        ),
    ],
)
def test_a_transcriber_that_mishears_fails(transcriber: ScriptedTranscriber, reason: str) -> None:
    with pytest.raises(ModelError, match=reason):
        list(check_models.check_transcription(transcriber, SPOKEN, SILENCE))


class ScriptedVoice:
    """Makes the sound it was given."""

    name = "scripted"
    sample_rate = 24_000
    max_concurrent = 1

    def __init__(self, sound: NDArray[np.float32], seconds_to_stop: float = 0.0) -> None:
        self.sound = sound
        self.seconds_to_stop = seconds_to_stop

    def warm_up(self) -> None: ...

    def close(self) -> None: ...

    def prepare(self, language: str) -> None:
        pass

    def synthesize(
        self, text: str, *, cancelled: Callable[[], bool] = lambda: False, **_: Any
    ) -> Iterator[NDArray[np.float32]]:
        if cancelled():
            time.sleep(self.seconds_to_stop)
            return
        yield self.sound


def noise(seconds: float, level: float = 0.1) -> NDArray[np.float32]:
    samples = np.random.default_rng(0).normal(scale=level, size=int(seconds * 24_000))
    return samples.astype(np.float32)


@pytest.mark.parametrize(
    ("voice", "reason"),
    [
        (ScriptedVoice(noise(0.5)), r"made 0\.5 s of sound"),
        (ScriptedVoice(noise(20)), r"made 20\.0 s of sound"),
        (ScriptedVoice(noise(3, 0.0)), r"a level of 0\.000"),
        (ScriptedVoice(noise(3), seconds_to_stop=1.2), "to stop when it was cancelled"),
    ],
)
def test_a_bad_voice_fails(voice: ScriptedVoice, reason: str) -> None:
    with pytest.raises(ModelError, match=reason):
        list(check_models.check_voice(voice))


def test_real_models_pass() -> None:
    """The voice and the recogniser of the CPU, as the check runs those of the GPU."""
    settings = dataclasses.replace(Settings(), threads=2)
    voice, transcriber = piper.load(settings), faster_whisper.load(settings)
    assert "s of sound" in next(iter(check_models.check_voice(voice)))
    audio = [
        check_models.spoken(voice, text) for text in (check_models.SENTENCE, check_models.QUESTION)
    ]
    assert len(list(check_models.check_transcription(transcriber, *audio))) == 2


def test_a_cancellation_has_the_time_to_be_missed() -> None:
    """The log line that docs/gpu.md speaks of comes before the check is over."""
    deadline = re.search(
        r"^CANCEL_DEADLINE = (.*)$",
        (SCRIPT.parent.parent / "language_models" / "tensorrt_llm.py").read_text(),
        re.MULTILINE,
    )
    assert deadline
    assert float(deadline[1]) + 0.5 < check_models.REST


def test_what_is_not_there_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--phi", "--phi_tensorrt_path", "/nowhere"]
    assert check_models.main(["language_model", *flags]) == 1
    assert "There is no TensorRT-LLM engine in /nowhere" in capsys.readouterr().out
