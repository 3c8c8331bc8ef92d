"""The `whisper-live` package of PyPI transcribes with our server, unchanged.

It shares our package's name, so it lives in an environment of its own, which is made once and kept
under `.cache/`.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.recordings import FOLDER
from tests.running import ROOT, RunningServer

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

PACKAGE = ROOT / "tests" / "whisper_live_package"
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"


@pytest.fixture(scope="module")
def package_python() -> Path:
    """The Python of an environment that holds the package."""
    requirements = PACKAGE / "requirements.txt"
    folder = ROOT / ".cache" / f"whisper-live-python{PYTHON}"
    python, stamp = folder / "bin" / "python", folder / "requirements.txt"
    if stamp.exists() and stamp.read_text() == requirements.read_text():
        return python
    subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
    install = ["pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    subprocess.run([python, "-m", *install, "-r", requirements], check=True)
    shutil.copy(requirements, stamp)
    return python


def run(python: Path, kind: str, port: int, recording: str, folder: Path) -> dict[str, Any]:
    finished = subprocess.run(
        [python, PACKAGE / "transcribe.py", kind, str(port), str(FOLDER / recording)],
        cwd=folder,  # the package writes its files there
        env={key: value for key, value in os.environ.items() if key != "PYTHONPATH"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    result: dict[str, Any] = json.loads(finished.stdout.splitlines()[-1])
    return result


def test_a_file_is_transcribed(server: RunningServer, package_python: Path, tmp_path: Path) -> None:
    port = server.transcription_port
    result = run(package_python, "file", port, "living_room_lamp.wav", tmp_path)
    assert result["text"] == "Would you please turn on the living room lamp?"
    assert [s["completed"] for s in result["segments"]] == [True]
    subtitles = (tmp_path / "output.srt").read_text()
    assert "Would you please turn on the living room lamp?" in subtitles
    assert "-->" in subtitles


def test_a_stream_is_transcribed_and_ended_by_the_server(
    server: RunningServer, package_python: Path, tmp_path: Path
) -> None:
    port = server.transcription_port
    result = run(package_python, "stream", port, "order_mocha_cream.wav", tmp_path)
    text = " ".join(result["committed"]).lower()
    assert "iced mocha with cream" in text
    assert result["partial"], "nothing was shown while the person spoke"
    # websocket-client calls even a normal close an error.
    assert [error for error in result["errors"] if "closed normally" not in error] == []
    assert result["seconds_to_close"] < 14, "the client gave up waiting for the server"
