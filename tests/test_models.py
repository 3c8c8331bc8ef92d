"""The table of models, and the way from a name to a path. No network is used."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from fusion import command_line
from fusion.errors import EXIT_CONFIGURATION, ConfigurationError
from fusion.models import __main__ as command
from fusion.models import lookup, table, usual_names
from fusion.models.__main__ import main as models_command
from fusion.models.llms import LLMS
from fusion.models.sources import KINDS, LLM, TURN, VOICE, WHISPER, Model
from fusion.settings import Settings
from tests.toy_hub import HubFiles
from tests.toy_models import SPLIT, TOY

ROOT = Path(__file__).parent.parent
DEAD_ADDRESS = "http://127.0.0.1:9/"


# -- the table ------------------------------------------------------------------------------------


def test_every_entry_of_the_table_is_well_formed() -> None:
    assert len({model.name for model in table.MODELS}) == len(table.MODELS)
    for model in table.MODELS:
        assert model.kind in KINDS
        assert model.about
        assert "/" not in model.name
        assert model.packages or model.hub_first
        assert re.fullmatch(r"[\w.-]+/[\w.-]+", model.hub.repository)
        assert model.hub.folder == "" or model.hub.folder.endswith("/")
        for package in model.packages:
            assert re.fullmatch(r"[a-z0-9-]+(==|@)[0-9.]+", package.requirement)
            assert package.folder == "" or package.folder.endswith("/")
            assert package.size > 1_000_000
        assert len({file.name for file in model.files}) == len(model.files)
        for file in model.files:
            assert re.fullmatch(r"[0-9a-f]{64}", file.sha256)
            assert file.size > 0


def test_the_models_of_the_settings_are_in_the_table_and_fetched_by_default() -> None:
    defaults = {model.name: model.kind for model in table.MODELS if model.default}
    chosen = Settings()
    assert defaults[chosen.whisper_model] == WHISPER
    assert defaults[LLMS[0].name] == LLM  # what `--llm auto` begins with
    assert defaults[chosen.voice] == VOICE
    assert TURN in defaults.values()


def test_a_voice_carries_its_configuration() -> None:
    for model in table.MODELS:
        if model.kind == VOICE:
            assert [file.name for file in model.files] == [
                f"{model.name}.onnx",
                f"{model.name}.onnx.json",
            ]


def test_the_command_fetches_into_the_cache_of_the_settings(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked = []
    monkeypatch.setattr(command, "fetch", lambda name, cache: asked.append(cache) or tmp_path)
    monkeypatch.setenv("WHISPERFUSION_CACHE", "/elsewhere")
    assert command.main(["toy"]) == 0
    assert command.main(["--cache", str(tmp_path), "toy"]) == 0
    assert asked == [command_line.parse([]).cache_folder, tmp_path]


def test_importing_the_table_imports_nothing_but_the_standard_library() -> None:
    code = "import sys; before = set(sys.modules); import fusion.models.lookup; " + (
        "print(*{n.partition('.')[0] for n in set(sys.modules) - before} "
        "- sys.stdlib_module_names - {'fusion'})"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert (result.returncode, result.stdout.split()) == (0, [])


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
        (
            "nix",
            VOICE,
            r"^There is no voice model 'nix': give one of en_US-joe-medium, a usual name ",
        ),
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


def test_voices_and_whispers_sizes_go_by_their_usual_names(
    hub_files: HubFiles, tmp_path: Path
) -> None:
    thorsten = "de/de_DE/thorsten/medium/de_DE-thorsten-medium.onnx"
    hub_files["rhasspy/piper-voices", "main", thorsten] = b"onnx"
    hub_files["rhasspy/piper-voices", "main", f"{thorsten}.json"] = b"{}"
    hub_files["mobiuslabsgmbh/faster-whisper-large-v3-turbo", "main", "model.bin"] = b"bin"
    voice = lookup.resolve("de_DE-thorsten-medium", VOICE, tmp_path)
    assert voice.name == "de_DE-thorsten-medium.onnx"
    assert voice.with_name(f"{voice.name}.json").read_bytes() == b"{}"
    whisper = lookup.resolve("large-v3-turbo", WHISPER, tmp_path)
    assert (whisper / "model.bin").read_bytes() == b"bin"
    with pytest.raises(ConfigurationError, match=r"no repository rhasspy/piper-voices there"):
        lookup.resolve("de_DE-nobody-low", VOICE, tmp_path)
    hub_files.clear()  # out of reach: what was fetched is there, and the rest is one sentence
    assert lookup.resolve("de_DE-thorsten-medium", VOICE, tmp_path) == voice
    with pytest.raises(
        ConfigurationError,
        match=r"model small is neither .*\(no connection for Systran/faster-whisper-small\)",
    ):
        lookup.resolve("small", WHISPER, tmp_path)


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("en_GB-southern_english_female-low", "en/en_GB/southern_english_female/low"),
        ("nl_BE-rdh-x_low", "nl/nl_BE/rdh/x_low"),
        ("es_MX-ald-medium", "es/es_MX/ald/medium"),
    ],
)
def test_where_the_hub_has_a_voice(name: str, path: str) -> None:
    assert usual_names.hub_name(name, VOICE) == f"rhasspy/piper-voices:{path}/{name}.onnx"
    assert usual_names.hub_name(name, LLM) is None
    assert usual_names.hub_name(f"../{name}", VOICE) is None


def test_whispers_sizes_are_those_that_faster_whisper_knows() -> None:
    from faster_whisper.utils import _MODELS

    ours = {name: usual_names.hub_name(name, WHISPER) for name in _MODELS}
    table_has = {model.name for model in table.MODELS if model.kind == WHISPER}
    assert {name: repo for name, repo in _MODELS.items() if name not in table_has} == {
        name: repo for name, repo in ours.items() if name not in table_has
    }


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
