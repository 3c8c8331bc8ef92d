"""What the terminal shows while it starts, and that Ctrl-C ends it cleanly at any time."""

from __future__ import annotations

import contextlib
import os
import pty
import signal
import sys
from pathlib import Path

import pytest

from fusion.serving.banner import StartupReport, ready_banner
from fusion.settings import Settings
from fusion.status import Phase, Service, ServiceStatus
from tests.running import ROOT, free_ports

OPEN = "without a token"
PORTS = "ports 6006 (audio in) and 8888 (speech out)"


def test_what_is_loaded_is_said_once_and_at_last_where_to_go(
    capsys: pytest.CaptureFixture[str],
) -> None:
    status = ServiceStatus()
    report = StartupReport(Settings(host="localhost"), status, 8000)
    said = []
    for service, phase in (
        (Service.VOICE, Phase.LOADING),
        (Service.VOICE, Phase.LOADING),
        (Service.VOICE, Phase.READY),
        (Service.TRANSCRIPTION, Phase.LOADING),
        (Service.TRANSCRIPTION, Phase.READY),
        (Service.LANGUAGE_MODEL, Phase.READY),
        (Service.WEB, Phase.READY),
        (Service.LANGUAGE_MODEL, Phase.LOADING),  # started again: not worth a line
        (Service.LANGUAGE_MODEL, Phase.READY),
    ):
        status.report(service, phase)
        report.update()
        said.append(capsys.readouterr().out)
    assert said == [
        "Loading the voice ...\n",
        "",
        "",
        "Loading the transcriber ...\n",
        "",
        "",
        "Ready: open http://localhost:8000/\n",
        "",
        "",
    ]


@pytest.mark.parametrize(
    ("settings", "port", "first", "everybody"),
    [
        (Settings(host="0.0.0.0"), 8000, "Ready: open http://localhost:8000/", True),
        (
            Settings(host="0.0.0.0", token="a"),
            8000,
            "Ready: open http://localhost:8000/#token=a",
            False,
        ),
        (Settings(host="192.0.2.7"), 81, "Ready: open http://192.0.2.7:81/", True),
        (Settings(host="127.0.0.1"), 81, "Ready: open http://127.0.0.1:81/", False),
        (Settings(host="::1"), 81, "Ready: open http://[::1]:81/", False),
        (Settings(), 8000, "Ready: open http://127.0.0.1:8000/", False),
        (Settings(host="::"), 0, f"Ready: listening on {PORTS}.", True),
    ],
)
def test_it_says_who_may_come(settings: Settings, port: int, first: str, everybody: bool) -> None:
    lines = ready_banner(settings, port).splitlines()
    assert lines[0] == first
    assert (OPEN in lines[-1]) == everybody


@pytest.mark.e2e
@pytest.mark.parametrize("moment", ["WhisperFusion", "Loading the voice", "Ready: open"])
def test_ctrl_c_ends_it_without_a_word(moment: str, tmp_path: Path) -> None:
    """In a terminal, where Ctrl-C reaches every process of it."""
    names = ("transcription_port", "speech_port", "web_port")
    ports = [f"--{name}={port}" for name, port in zip(names, free_ports(3), strict=True)]
    process, terminal = pty.fork()
    if process == 0:
        signal.signal(
            signal.SIGINT, signal.SIG_DFL
        )  # ignored where the tests run in the background
        os.chdir(tmp_path)
        os.execv(sys.executable, [sys.executable, str(ROOT / "main.py"), "--host=::", *ports])
    seen = b""
    with os.fdopen(terminal, "rb+", buffering=0) as screen:
        while moment.encode() not in seen:
            seen += screen.read(4096)
        screen.write(b"\x03")
        with contextlib.suppress(OSError):  # that is how the end of a terminal is told
            while more := screen.read(4096):
                seen += more
    _, status = os.waitpid(process, 0)
    text = seen.decode()
    assert os.waitstatus_to_exitcode(status) in (0, 130), text
    assert "Traceback" not in text
    if moment == "Ready: open":
        assert text.index("language model: INFO ready") < text.index("Ready: open")
        assert OPEN in text.partition("Ready: open")[2]
