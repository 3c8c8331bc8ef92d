"""The demo, as a person runs it, with the real program and models."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fusion.settings import Settings
from tests.running import ROOT, RunningServer, free_ports
from whisper_live.client import (
    Closed,
    Event,
    Failure,
    Notice,
    ReplyText,
    Segment,
    Sound,
    Transcript,
    demo,
)
from whisper_live.client.sound_files import read_wav

LOUD = np.full(2400, 0.5, np.float32)
GOOD: list[Event] = [
    Transcript(1.0, 1, (Segment(0, 1, " Hello?", True),), True, 0.1),
    ReplyText(1.1, 1, "Hel", False, False),
    ReplyText(1.2, 1, "Hello.", True, False),
    Sound(1.3, 1, LOUD),
    Notice(1.4, "reply_end", 1),
]


def outcome_of(*events: Event) -> demo.Outcome:
    outcome = demo.Outcome()
    for event in events:
        outcome.take(event)
    return outcome


def test_a_good_turn_has_no_problems_and_its_times() -> None:
    outcome = outcome_of(*GOOD)
    assert outcome.problems() == []
    assert outcome.transcript is not None
    assert (outcome.transcript.at, outcome.first_word, outcome.first_sound) == (1.0, 1.1, 1.3)
    assert [outcome_of().take(event) for event in GOOD] == [False] * 4 + [True]


@pytest.mark.parametrize(
    ("kind", "problem"),
    [
        (Transcript, "The question was not transcribed."),
        (ReplyText, "No reply came."),
        (Sound, "No sound came."),
    ],
)
def test_what_is_missing_is_a_problem(kind: type, problem: str) -> None:
    assert outcome_of(*(e for e in GOOD if not isinstance(e, kind))).problems() == [problem]


def test_errors_silence_and_a_hung_up_server_are_problems() -> None:
    assert outcome_of(*GOOD, Failure(2.0, 1, "It broke.")).problems() == ["It broke."]
    silent = [Sound(1.3, 1, LOUD * 0) if isinstance(e, Sound) else e for e in GOOD]
    assert outcome_of(*silent).problems() == ["The sound is silent."]
    outcome = demo.Outcome()
    assert outcome.take(Closed(2.0, 1006, ""))
    assert len(outcome.problems()) == 3


def test_sound_that_cannot_be_kept_is_no_failure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As in a container, whose file system is read-only."""
    monkeypatch.setattr(demo, "REPLY", "no-such-folder/reply.wav")
    demo.report(outcome_of(*GOOD), 0.5)
    said = capsys.readouterr().out.splitlines()[-1]
    assert said == (
        "The reply's 0.1 s of sound cannot be kept in no-such-folder/reply.wav "
        "(No such file or directory)."
    )


def test_nobody_there_has_no_health() -> None:
    port = free_ports(1)[0]
    assert demo.health(Settings(host="127.0.0.1", transcription_port=port)) is None


def run(folder: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "whisper_live.client.demo", *flags],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=170,
    )


def check(finished: subprocess.CompletedProcess[str], folder: Path) -> None:
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert "> How old is the Brooklyn Bridge?\n" in finished.stdout
    assert "Brooklyn" in finished.stdout.partition("\n< ")[2].splitlines()[0]
    times = re.findall(r"  (transcript|first word|first sound) +(\d+\.\d\d) s", finished.stdout)
    assert [name for name, _ in times] == ["transcript", "first word", "first sound"]
    sound = read_wav(folder / "reply.wav", 24_000)
    assert len(sound) > 12_000
    assert np.abs(sound).max() > 0.02


@pytest.mark.e2e
def test_it_asks_a_server_that_runs_already(server: RunningServer, tmp_path: Path) -> None:
    ports = [f"--transcription_port={server.transcription_port}"]
    ports += [f"--speech_port={server.speech_port}"]
    finished = run(tmp_path, *ports)
    assert "already" in finished.stdout
    check(finished, tmp_path)
    assert server.health()[0] == 200, "it stopped what it did not start"


@pytest.mark.e2e
def test_it_starts_and_stops_a_server_with_its_flags(tmp_path: Path) -> None:
    """Over TLS, as one more thing that a flag changes."""
    transcription_port, speech_port = free_ports(2)
    ports = [f"--transcription_port={transcription_port}", f"--speech_port={speech_port}"]
    finished = run(tmp_path, *ports, "--tls", "--host=127.0.0.1")
    assert "loading the voice" in finished.stdout
    check(finished, tmp_path)
    settings = Settings(host="127.0.0.1", transcription_port=transcription_port)
    assert demo.health(settings) is None, "the server was left running"


@pytest.mark.e2e
def test_a_server_that_cannot_start_is_one_clear_failure(tmp_path: Path) -> None:
    transcription_port, speech_port = free_ports(2)
    finished = run(
        tmp_path,
        f"--transcription_port={transcription_port}",
        f"--speech_port={speech_port}",
        f"--voice={tmp_path}/missing.onnx",
    )
    assert finished.returncode != 0
    assert "missing.onnx" in finished.stderr
    assert "Traceback" not in finished.stderr
    assert "loading" not in finished.stdout, "models were loaded first"
    assert not (tmp_path / "reply.wav").exists()
