"""The command line, the environment and the settings file: what is read, and what is refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from fusion import __version__
from fusion.command_line import COMMON, parse
from fusion.settings import Settings


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty working folder and no settings file of the person who runs the tests."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("WHISPERFUSION_DISCOVER")  # which all other tests have


def refusal(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The sentence with which a command line is refused."""
    with pytest.raises(SystemExit) as ended:
        parse(arguments)
    assert ended.value.code == 2
    usage, error = capsys.readouterr().err.splitlines()[-2:]
    assert "--help" in usage
    return error.partition("error: ")[2]


def test_every_default_is_allowed() -> None:
    for setting in dataclasses.fields(Settings):
        bounds = setting.metadata["range"]
        if bounds:
            given = parse([f"--{setting.name}={setting.default}"])
            assert dataclasses.replace(given, admission="auto") == parse([])
    assert parse([]) == Settings()


@pytest.mark.parametrize(
    ("argument", "sentence"),
    [
        ("--max_clients=0", "--max_clients: 0 is out of range: it must be 1 or more"),
        ("--whisperspeech-instances=-1", "-1 is out of range: it must be 0 or more"),
        ("--vad_threshold=nan", "--vad_threshold: nan is out of range: it must be 0.01 to 1"),
        ("--longest_segment=45", "45 is out of range: it must be 5 to 30"),
        ("--speech_port=-1", "-1 is out of range: it must be 0 to 65535"),
        ("--max_clients=many", "--max_clients: 'many' is no whole number"),
        ("--temperature=hot", "--temperature: 'hot' is no number"),
        ("--log_level=inf", "'inf' is none of debug, info, warning, error: did you mean info?"),
        ("--max_client=2", "--max_client is no setting: did you mean --max_clients?"),
        ("--no-smartturn", "--no-smartturn is no setting: did you mean --no-smart_turn?"),
        ("--max", "--max is no setting; --help-all lists them all"),
        ("2", "'2' is not understood: a setting begins with --"),
        ("--config=none.yaml", "the settings file none.yaml cannot be read (No such file or"),
    ],
)
def test_what_is_wrong_is_one_sentence(
    argument: str, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sentence in refusal([argument], capsys)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--max_clients", "2", "--no-smart_turn"],
        ["--max-clients", "2", "--no-smart-turn"],
        ["--max-clients=2", "--no_smart_turn"],
    ],
)
def test_dashes_do_as_well_as_underscores(arguments: list[str]) -> None:
    settings = parse([*arguments, "--system_prompt=be-brief_now"])
    assert (settings.max_clients, settings.smart_turn) == (2, False)
    assert settings.system_prompt == "be-brief_now"


def test_the_environment_is_read_checked_and_beaten_by_a_flag(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WHISPERFUSION_MAX_CLIENTS", "8")
    monkeypatch.setenv("WHISPERFUSION_BARGE_IN", "off")
    assert parse([]).max_clients == 8
    assert parse([]).barge_in is False
    assert parse(["--max_clients=2"]).max_clients == 2
    assert parse(["--barge_in"]).barge_in is True
    monkeypatch.setenv("WHISPERFUSION_MAX_CLIENTS", "0")
    assert refusal([], capsys).startswith("WHISPERFUSION_MAX_CLIENTS: 0 is out of range")


def test_a_misspelt_variable_is_pointed_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WHISPERFUSION_MAX_CLIENT", "8")
    monkeypatch.setenv("WHISPERFUSION_HOME", "/opt")
    assert parse([]) == Settings()
    assert capsys.readouterr().err == (
        "WHISPERFUSION_MAX_CLIENT is no setting and changes nothing: "
        "did you mean WHISPERFUSION_MAX_CLIENTS?\n"
    )


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
def test_old_flags_their_variables_and_keys_are_aliases(
    arguments: list[str], name: str, value: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert getattr(parse(arguments), name) == value
    flag, _, text = arguments[0].removeprefix("--").removeprefix("no-").partition("=")
    Path("old.yaml").write_text(f"{flag}: {text or 'false'}")
    assert getattr(parse(["--config=old.yaml"]), name) == value
    monkeypatch.setenv(f"WHISPERFUSION_{flag.upper()}", text or "false")
    assert getattr(parse([]), name) == value


def test_who_says_how_many_may_come_is_not_corrected_by_a_measurement() -> None:
    assert parse([]).measures_capacity
    assert not parse(["--max_clients", "4"]).measures_capacity
    assert parse(["--max_clients", "4", "--admission", "measured"]).measures_capacity
    assert not parse(["--admission", "fixed"]).measures_capacity


# -- the file ------------------------------------------------------------------------------------


def test_a_file_is_beaten_by_the_environment_and_that_by_a_flag(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Path("home.yaml").write_text(
        "max-clients: 2\nwait_done: 0.5\nsmart_turn: no\ntoken: 0123\n"
        "allowed_origins: [https://a.example, https://b.example]\n"
        "system_prompt: >\n  Speak like\n  a pirate.\n"
    )
    monkeypatch.setenv("WHISPERFUSION_MAX_CLIENTS", "3")
    settings = parse(["--config", "home.yaml", "--wait_done=0.7"])
    assert settings == Settings(
        max_clients=3,
        admission="fixed",
        wait_done=0.7,
        smart_turn=False,
        token="0123",
        allowed_origins="https://a.example,https://b.example",
        system_prompt="Speak like a pirate.\n",
        config="home.yaml",
    )


def test_a_file_in_the_usual_places_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "config" / "whisperfusion" / "whisperfusion.yaml"
    home.parent.mkdir(parents=True)
    home.write_text("max_clients: 5")
    assert parse([]) == Settings(max_clients=5, admission="fixed", config=str(home))
    Path("whisperfusion.yaml").write_text("max_clients: 6")
    assert parse([]) == Settings(max_clients=6, admission="fixed", config="whisperfusion.yaml")
    Path("mine.yaml").write_text("")
    monkeypatch.setenv("WHISPERFUSION_CONFIG", "mine.yaml")
    assert parse([]) == Settings(config="mine.yaml")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"max_client: 2", "file.yaml: max_client is no setting: did you mean max_clients?"),
        (b"max_clients: 0", "file.yaml: max_clients: 0 is out of range: it must be 1 or more"),
        (b"max_clients: {a: 1}", "file.yaml: max_clients must be one value, or a list of them"),
        (b"max_clients: 2\n a: : b", "the settings file file.yaml is no YAML (line 2: "),
        (b"- 2", "the settings file file.yaml must hold lines like `max_clients: 2`"),
        (b"\xff\xfe\xff", "the settings file file.yaml is no UTF-8 text"),
        (b"config: other.yaml", "file.yaml: config is no setting"),
    ],
)
def test_what_is_wrong_in_a_file_is_one_sentence(
    content: bytes, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("file.yaml").write_bytes(content)
    assert sentence in refusal(["--config=file.yaml"], capsys)


# -- the help ------------------------------------------------------------------------------------


def printed(argument: str, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as ended:
        parse([argument])
    assert ended.value.code == 0
    return capsys.readouterr().out


def test_the_help_shows_what_matters_and_the_whole_help_every_setting(
    capsys: pytest.CaptureFixture[str],
) -> None:
    names = [item.name for item in dataclasses.fields(Settings)]
    short, whole = printed("--help", capsys), printed("--help-all", capsys)
    shown = [name for name in names if f"  --{name} " in short or f"  --{name}, " in short]
    assert sorted(shown) == sorted(COMMON)
    assert "--help-all" in short and "examples:" in short
    assert [n for n in names if f"  --{n} " not in whole and f"  --{n}, " not in whole] == []
    assert "--voice_library" not in whole  # an old name
    assert printed("--version", capsys) == f"WhisperFusion {__version__}\n"
