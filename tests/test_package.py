"""The package, as a stranger installs it: a wheel, in an empty environment, far from the checkout.

What it depends on is downloaded once and kept under `.cache/`: pip then installs from there alone.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from fusion import __version__
from fusion.errors import EXIT_CONFIGURATION
from tests.recordings import FOLDER
from tests.running import ROOT, RunningServer
from whisper_live.client.sound_files import read_wav

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

PIP = ("-m", "pip", "--disable-pip-version-check", "--quiet")
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
REQUIREMENTS = tuple(
    f"requirements{extra}.txt"
    for extra in ("", "-piper", "-kokoro", "-microphone", "-wyoming", "-tracing", "-mcp")
)
PROGRAMS = ("fusion", "language_models", "realtime", "voices", "whisper_live", "wyoming_server")


def run(*command: str | Path, folder: Path, status: int = 0) -> str:
    """What a command printed; it knows nothing of the checkout."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    finished = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=600
    )
    assert finished.returncode == status, finished.stdout + finished.stderr
    return finished.stdout + finished.stderr


@pytest.fixture(scope="module")
def wheels() -> Path:
    """Wheels of what builds the package and of all that it depends on (docopt is built here)."""
    folder, stamp = ROOT / ".cache" / f"wheels-python{PYTHON}", "requirements.txt"
    wanted = "hatchling\nhatch-requirements-txt\n"
    wanted += "".join((ROOT / name).read_text() for name in REQUIREMENTS)
    if not (folder / stamp).exists() or (folder / stamp).read_text() != wanted:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        (folder / "wanted").write_text(wanted)
        run(sys.executable, *PIP, "wheel", "-r", folder / "wanted", "-w", folder, folder=folder)
        (folder / "wanted").rename(folder / stamp)
    return folder


@pytest.fixture(scope="module")
def wheel(wheels: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package, built from what git knows, as a release would be."""
    source = tmp_path_factory.mktemp("source")
    listing = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in filter(None, listing.stdout.split("\0")):
        if (ROOT / name).is_file():  # not one that is about to be removed
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, source / name)
    options = ("--no-deps", "--no-index", "--find-links", wheels, "--wheel-dir", source / "dist")
    run(sys.executable, *PIP, "wheel", *options, source, folder=source)
    (built,) = (source / "dist").iterdir()
    return built


@pytest.fixture(scope="module")
def bare(wheel: Path, wheels: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The commands of an environment that holds the package without extras, so without what is
    under the GPL; and what the server said there."""
    folder = tmp_path_factory.mktemp("installed")
    run(sys.executable, "-m", "venv", folder, folder=folder)
    options = ("--no-compile", "--no-index", "--find-links", wheels, wheel)
    run(folder / "bin" / "python", *PIP, "install", *options, folder=folder)
    server = folder / "bin" / "whisperfusion"
    return folder / "bin", run(server, folder=folder, status=EXIT_CONFIGURATION)


@pytest.fixture(scope="module")
def installed(bare: tuple[Path, str], wheel: Path, wheels: Path) -> Path:
    """The same with all extras."""
    options = ("--no-compile", "--no-index", "--find-links", wheels, f"{wheel}[all]")
    run(bare[0] / "python", *PIP, "install", *options, folder=wheels)
    return bare[0]


@pytest.fixture(scope="module")
def talking(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """The installed server, in an empty folder, with its real models."""
    running = RunningServer(
        ("--max_new_tokens", "40"),
        command=(str(installed / "whisperfusion"),),
        folder=tmp_path_factory.mktemp("elsewhere"),
    )
    with running:
        yield running


def test_the_wheel_holds_every_module_and_the_page(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    modules = {str(p.relative_to(ROOT)) for name in PROGRAMS for p in (ROOT / name).rglob("*.py")}
    files = [path for path in (ROOT / "web").rglob("*") if path.is_file()]
    page = {f"fusion/serving/page/{path.relative_to(ROOT / 'web').as_posix()}" for path in files}
    assert modules - names == set()
    assert page - names == set()
    assert not any(name.startswith(("tests/", "web/", "main")) for name in names)


def test_the_version_is_said(installed: Path, tmp_path: Path) -> None:
    said = run(installed / "whisperfusion", "--version", folder=tmp_path)
    assert said == f"WhisperFusion {__version__}\n"
    help_text = run(installed / "whisperfusion-client", "--help", folder=tmp_path)
    assert help_text.startswith("usage: whisperfusion-client ")


def test_a_recording_is_answered_aloud(
    talking: RunningServer, installed: Path, tmp_path: Path
) -> None:
    said = run(
        installed / "whisperfusion-client",
        *("--port", str(talking.transcription_port), "--speech_port", str(talking.speech_port)),
        *("--file", FOLDER / "brooklyn_bridge.wav", "--save", "reply.wav"),
        folder=tmp_path,
    )
    assert "> How old is the Brooklyn Bridge?\n< " in said
    sound = read_wav(tmp_path / "reply.wav", 24_000)
    assert len(sound) > 12_000
    assert np.abs(sound).max() > 0.02


def test_the_demo_brings_its_question(
    talking: RunningServer, installed: Path, tmp_path: Path
) -> None:
    ports = [f"--transcription_port={talking.transcription_port}"]
    ports += [f"--speech_port={talking.speech_port}"]
    demo = (installed / "python", "-m", "whisper_live.client.demo", *ports)
    assert "> How old is the Brooklyn Bridge?\n" in run(*demo, folder=tmp_path)
    assert (tmp_path / "reply.wav").is_file()


def test_the_page_is_served(talking: RunningServer) -> None:
    for name in ("", "app.js", "icon.svg"):
        with urllib.request.urlopen(f"http://127.0.0.1:{talking.web_port}/{name}") as answer:
            content = answer.read()
        assert content == (ROOT / "web" / (name or "index.html")).read_bytes()


def test_without_a_voice_it_says_what_to_install(bare: tuple[Path, str]) -> None:
    assert bare[1].splitlines()[-1].startswith("No voice is installed: install Piper with `pip ")
    assert "Traceback" not in bare[1]


def test_a_python_without_the_packages_says_what_to_run(tmp_path: Path) -> None:
    said = run(sys.executable, "-S", ROOT / "main.py", folder=tmp_path, status=1)
    assert f"start WhisperFusion with `make run` in {ROOT}" in said
    assert len(said.splitlines()) == 1
